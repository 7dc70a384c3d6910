"""The embedded server's life: started once its predecessor is gone, and again when it ends.

A server can end while we live: the kernel kills it for memory, or an operator does. PostgreSQL then
recovers by itself at the next start, so that all it needs is somebody who starts it.
"""

import subprocess
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import structlog

from chargehand.adapters.postgres_guard import Guarded, Log, failed, guarded, open_log
from chargehand.adapters.postgres_programs import (
    START_TIMEOUT_S,
    Account,
    EmbeddedPostgresFailed,
    run,
)

_PREDECESSOR_TIMEOUT_S = 10.0
# The kernel's System V segments; Linux only.
_SHARED_MEMORY = Path("/proc/sysvipc/shm")
# One more than the kernel's largest pid: a pid that nobody can have.
_NOBODYS_PID = 2**22 + 1

# As many failures within so long, and the server is given up.
_FAILURES = 5
_WINDOW_S = 60.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0

log = structlog.get_logger()


class EmbeddedPostgresInUse(EmbeddedPostgresFailed):
    """Another process runs the embedded PostgreSQL of the same data folder."""

    def __init__(self, data: Path, pid: str) -> None:
        super().__init__(
            f"The embedded PostgreSQL in {data} is in use by process {pid or 'unknown'}.\n"
            "Stop that process, use another data folder, or set DATABASE_URL so that several "
            "processes share one PostgreSQL server.",
            data=str(data),
            pid=int(pid) if pid.isdigit() else None,
        )


class Launch(NamedTuple):
    """All that is needed to start the server of a cluster that is there, any number of times."""

    data: Path
    cluster: Path
    socket: Path
    account: Account
    command: list[str]


class Supervisor:
    """Keeps a server running from ``start`` to ``stop``; a daemon thread waits for its end.

    ``pid`` is the newest server's that was ready.
    """

    def __init__(self, launch: Launch) -> None:
        self.pid = 0
        self._launch = launch
        # Only who holds it makes or ends a server; closing ``_held`` ends the newest.
        self._turn = threading.Lock()
        self._held = ExitStack()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._restarts = deque[float](maxlen=_FAILURES)

    def start(self) -> None:
        """Start the server, wait until it is ready, and watch it from then on.

        Raises OSError, subprocess.SubprocessError, EmbeddedPostgresInUse, EmbeddedPostgresFailed.
        """
        server = self._run()
        self._thread = threading.Thread(
            target=self._watch, args=(server,), name="postgres-watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the server, also one that is being started; none runs, or will, afterwards.

        Raises EmbeddedPostgresFailed where it has not ended after 40 s.
        """
        self._stopping.set()
        with self._turn:
            self._held.close()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, server: Guarded | None) -> None:
        while server is not None:
            server.shell.wait()
            server = self._run_again(server.pid)

    def _run_again(self, old: int) -> Guarded | None:
        """The next server; None once stopped, or given up with the line postgres_lost."""
        failures = deque[float](maxlen=_FAILURES)
        while not self._stopping.wait(self._pause_s()):
            self._restarts.append(time.monotonic())
            try:
                server = self._run()
            except (EmbeddedPostgresFailed, OSError, subprocess.SubprocessError) as error:
                failures.append(time.monotonic())
                if _is_hopeless(failures) and not self._stopping.is_set():
                    self._tell_lost(old, error)
                    return None
            else:
                if server is not None:
                    self._tell_restarted(old)
                return server
        return None

    def _pause_s(self) -> float:
        """None before the first restart within a minute, then longer each time."""
        recent = sum(began > time.monotonic() - _WINDOW_S for began in self._restarts)
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (recent - 1)) if recent else 0

    def _run(self) -> Guarded | None:
        """Run the server and wait until it is ready; None where we are stopping."""
        with self._turn:
            # Of a server that ended only the pipe is left; of one that was not ready, all.
            self._held.close()
        _await_predecessor(self._launch, self._stopping)
        output = open_log(self._launch.data)
        with output.file:
            with self._turn:
                if self._stopping.is_set():
                    return None
                server = guarded(self._launch.command, self._launch.account, output, self._held)
            _await_ready(server, self._launch.cluster, output)
        self.pid = server.pid
        return server

    def _tell_restarted(self, old: int) -> None:
        data = str(self._launch.data)
        log.warning("postgres_restarted", data=data, old_pid=old, new_pid=self.pid)

    def _tell_lost(self, old: int, error: Exception) -> None:
        log.error(
            "postgres_lost",
            data=str(self._launch.data),
            old_pid=old,
            attempts=_FAILURES,
            reason=str(error),
            remedy="The server ended and does not start any more: remove the reason, then start "
            "this process again.",
        )


def _is_hopeless(failures: deque[float]) -> bool:
    return len(failures) == _FAILURES and failures[-1] - failures[0] < _WINDOW_S


def _await_predecessor(launch: Launch, stopping: threading.Event) -> None:
    """Wait until no process of an earlier server is left, and remove what names its pid.

    Raises EmbeddedPostgresInUse after 10 s. Where there is no telling, the server itself looks.
    """
    if not _SHARED_MEMORY.exists():
        return
    deadline = time.monotonic() + _PREDECESSOR_TIMEOUT_S
    while _is_attached(lines := _pid_file(launch.cluster)):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresInUse(launch.data, lines[0])
        if stopping.wait(0.02):
            return
    if lines:
        _disown(launch)


def _pid_file(cluster: Path) -> list[str]:
    """The lines of ``postmaster.pid``: 1 is the server's pid, 7 its shared memory, 8 its state."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _is_attached(pid_file: list[str]) -> bool:
    """Whether a process uses the shared memory that the pid file names (key and id).

    PostgreSQL's own test for surviving backends. Unlike the pid it holds across zombies and pids
    that were given to others.
    """
    if len(pid_file) < 7:
        return False
    key, segment = (int(number) for number in pid_file[6].split())
    for row in _SHARED_MEMORY.read_text().splitlines()[1:]:
        columns = [int(number) for number in row.split()[:7]]
        # The kernel shows the key signed, PostgreSQL does not.
        if (columns[0] - key) % 2**32 == 0 and columns[1] == segment:
            return columns[6] > 0
    return False


def _disown(launch: Launch) -> None:
    """Take the pid of a server known to be dead out of the cluster's and the socket's lock files.

    PostgreSQL refuses to start while any process of its user has that pid, and after a container's
    restart one often does. The cluster's file stays: it names the shared memory that the server
    looks at too. Done as the cluster's owner: root must not follow a link that the owner may have
    put there.
    """
    pid_file, socket_lock = f"{launch.cluster}/postmaster.pid", f"{launch.socket}.lock"
    run(["sed", "-i", f"1s/.*/{_NOBODYS_PID}/", pid_file], launch.account)
    run(["rm", "-f", socket_lock], launch.account)


def _await_ready(server: Guarded, cluster: Path, output: Log) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(_pid_file(cluster), server.pid):
        if server.shell.poll() is not None:
            raise failed("stopped while starting", output)
        if time.monotonic() > deadline:
            raise failed(f"was not ready within {START_TIMEOUT_S:.0f} s", output)
        time.sleep(0.01)


def _is_ready(pid_file: list[str], pid: int) -> bool:
    return len(pid_file) >= 8 and pid_file[0] == str(pid) and pid_file[7].strip() == "ready"
