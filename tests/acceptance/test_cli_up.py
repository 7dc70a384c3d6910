"""``chargehand up``: everything in one process, on an embedded PostgreSQL of its own."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.factories.commands import chargehand, command, environment

from chargehand_client import Chargehand, Unauthenticated

CONFIG = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}


@dataclass(frozen=True)
class Up:
    process: subprocess.Popen[str]
    block: list[str]
    data: Path

    @property
    def url(self) -> str:
        return (
            next(line for line in self.block if " API " in line).split()[1].removesuffix("/api/v1")
        )

    @property
    def key_line(self) -> str:
        return next(line for line in self.block if line.startswith("  key")).split(maxsplit=1)[1]


@contextmanager
def data_folder() -> Iterator[Path]:
    """A data folder that the server's user can pass through, where the tests are root's."""
    with tempfile.TemporaryDirectory(prefix="chargehand-up-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "data"


@contextmanager
def started(data: Path, *arguments: str) -> Iterator[Up]:
    with subprocess.Popen(
        command("up", "--port", "0", "--data", str(data), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            block = list[str]()
            while not (block and block[-1].startswith("  stop")):
                line = process.stdout.readline()
                assert line, process.stderr and process.stderr.read()
                block.append(line.rstrip())
            yield Up(process, block, data)
        finally:
            if process.poll() is None:
                process.kill()


def stopped(up: Up, number: int) -> None:
    """Stop it and see that it ends cleanly, in time, and says that it stops and nothing else."""
    up.process.send_signal(number)
    stdout, stderr = up.process.communicate(timeout=20)
    assert (up.process.returncode, stdout) == (0, "")
    assert stderr.startswith("Stopping: ")
    assert stderr.count("\n") == 1


def test_from_nothing_to_a_run_and_again() -> None:
    with data_folder() as data:
        start_use_and_start_again(data)


def start_use_and_start_again(data: Path) -> None:
    with started(data) as up:
        assert len(up.block) <= 8
        key = up.key_line.split()[0]
        with Chargehand(up.url, key) as client:
            me = client.me()
            assert (me["organization"]["slug"], me["role"]) == ("default", "owner")
            assert me["tier"]["name"] == "enterprise"
            client.create_agent("Helper", CONFIG, slug="helper")
        ran = chargehand("run", "helper", "Hello", CHARGEHAND_URL=up.url, CHARGEHAND_KEY=key)
        assert (ran.returncode, bool(ran.stdout.strip())) == (0, True), ran.stderr
        missing = chargehand("run", "helpr", "x", CHARGEHAND_URL=up.url, CHARGEHAND_KEY=key)
        assert missing.returncode == 3
        assert "helper" in missing.stderr
        stopped(up, signal.SIGTERM)
    with started(data) as up:
        assert f"with `chargehand keys make --data {data}`" in up.key_line
        assert key not in "\n".join(up.block)
        with Chargehand(up.url, key) as client:
            assert client.me()["organization"]["slug"] == "default"
        keys_beside_it(up)
        busy = chargehand("up", "--data", str(data), "--port", "0")
        assert busy.returncode == 6
        assert str(up.process.pid) in busy.stderr
        stopped(up, signal.SIGINT)
    # Nobody runs it now: the command starts the server for itself.
    listed = chargehand("keys", "list", CHARGEHAND_DATA=str(data))
    assert (listed.returncode, "revoked" in listed.stdout) == (0, True), listed.stderr


def keys_beside_it(up: Up) -> None:
    """The operator's commands reach the embedded server that ``up`` runs."""
    where = {"CHARGEHAND_DATA": str(up.data)}
    made = chargehand("keys", "make", "--data", str(up.data), "--scope", "executions:read")
    assert made.returncode == 0, made.stderr
    with Chargehand(up.url, made.stdout.strip()) as client:
        assert client.me()["scopes"] == ["executions:read"]
        public_id = made.stdout.split("_")[1]
        assert chargehand("keys", "revoke", public_id, **where).returncode == 0
        until_refused(client)
    healthy = chargehand("doctor", **where)
    assert healthy.returncode == 0, healthy.stdout


def until_refused(client: Chargehand) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            client.me()
        except Unauthenticated:
            return
    raise AssertionError("a revoked key is still good after 10 s")


def test_a_port_that_is_taken_is_told_and_the_first_key_is_kept_for_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, data_folder() as data:
        port = str(taken.getsockname()[1])
        done = chargehand("up", "--port", port, "--data", str(data))
        assert done.returncode == 6
        assert f"127.0.0.1:{port}" in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (data / "postgres/postmaster.pid").exists()
        with started(data) as up:
            assert "shown this once" in up.key_line
            stopped(up, signal.SIGTERM)


def test_a_run_goes_on_when_the_embedded_server_is_killed_under_it() -> None:
    with data_folder() as data, started(data) as up:
        with Chargehand(up.url, up.key_line.split()[0]) as client:
            client.create_agent("Helper", CONFIG, slug="helper")
            begun = client.start("helper", "@delay 6s\n@say Still here.")
            until(lambda: client.execution(begun.id).status == "running", timeout_s=5)
            killed = server_pid(data)
            os.kill(killed, signal.SIGKILL)
            until(lambda: client.execution(begun.id).ended, timeout_s=40)
            ended = client.execution(begun.id)
            assert (ended.status, ended.output) == ("completed", "Still here."), ended.error
        assert server_pid(data) != killed
        up.process.send_signal(signal.SIGTERM)
        _, told = up.process.communicate(timeout=20)
        assert up.process.returncode == 0, told
        assert "postgres_restarted" in told
        assert "request_failed" not in told, told


def until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        time.sleep(0.1)


def server_pid(data: Path) -> int:
    return int((data / "postgres/postmaster.pid").read_text().splitlines()[0])
