"""Where the demo happens: a folder, a PostgreSQL, an API and two workers, all of its own.

Everything is undone in the end, in whatever way the demo ends short of ``kill -9``.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import chargehand
from chargehand.cli import admin

if TYPE_CHECKING:
    from chargehand.kernel.schema import RuntimeUrls

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LOG_LINES = 8


class DemoFailed(Exception):
    """Something of the demo did not go as it must."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours; ``told`` is its standard output, ``log`` its standard error."""

    name: str
    popen: subprocess.Popen[bytes]
    told: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Stage:
    """``variables`` are what the processes get of this machine's settings."""

    folder: Path
    held: ExitStack
    variables: Mapping[str, str]
    processes: list[Process] = field(default_factory=list[Process])

    def pids(self) -> set[int]:
        return {process.popen.pid for process in self.processes}

    def log_tails(self) -> list[str]:
        """The last lines that each process wrote on standard error."""
        return [
            f"{process.name}: {line}"
            for process in self.processes
            for line in deque(
                process.log.read_text(errors="replace").splitlines(), maxlen=_LOG_LINES
            )
        ]


@contextmanager
def stage(longest_s: int, variables: Mapping[str, str]) -> Generator[Stage]:
    """An empty stage. SIGTERM and too long a time end what happens on it, like Ctrl-C."""
    with _signals(longest_s), ExitStack() as held:
        folder = Path(tempfile.mkdtemp(prefix="chargehand-demo-"))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        # Root's PostgreSQL runs as another user, who must pass through.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        yield Stage(folder, held, variables)


def model_variables() -> dict[str, str]:
    """What this machine's environment says of the models' vendors, and of how to call them."""
    from chargehand import settings

    known = settings.model_variables()
    return {name: value for name, value in os.environ.items() if name in known}


def start_database(stage: Stage) -> "tuple[RuntimeUrls, str]":
    """The embedded PostgreSQL, migrated, with an organization; returns its URLs and a key."""
    from chargehand import bootstrap, settings
    from chargehand.kernel import schema

    data = stage.folder / "data"
    binaries = os.environ.get("CHARGEHAND_POSTGRES_BINARIES")
    chosen = {"CHARGEHAND_POSTGRES_BINARIES": binaries} if binaries else {}
    ours = settings.load({"CHARGEHAND_DATA": str(data), **chosen})
    stage.held.callback(_remove_cluster, data)
    installed = stage.held.enter_context(bootstrap.installation(ours))
    # Closed in reverse: the processes end before their database.
    stage.held.callback(_stop_all, stage.processes)
    assert installed.owner_url is not None, "the embedded server's owner is known"
    asyncio.run(schema.migrate(installed.owner_url, installed.urls))
    making = admin.opened_and_done(ours, installed.urls, admin.make_first_organization)
    made = asyncio.run(making)
    assert made is not None, "a database made just now has an organization already"
    return installed.urls, made.token


def start_process(stage: Stage, urls: "RuntimeUrls", name: str, *arguments: str) -> Process:
    """Start ``chargehand`` with arguments, as a process that reaches the database at ``urls``."""
    told, log = stage.folder / f"{name}.out", stage.folder / f"{name}.log"
    with told.open("wb") as out, log.open("wb") as errors:
        popen = subprocess.Popen(  # noqa: S603 (ourselves)
            [sys.executable, "-m", "chargehand.cli.main", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env=_environment(stage, urls),
            # Else Ctrl-C reaches it before we have finished with it.
            start_new_session=True,
        )
    process = Process(name, popen, told, log)
    stage.processes.append(process)
    return process


def told(process: Process) -> Mapping[str, Any]:
    """The document that a process prints when it is ready. Raises DemoFailed."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (text := process.told.read_text()).endswith("\n"):
        if process.popen.poll() is not None:
            raise DemoFailed(f"{process.name} ended with status {process.popen.returncode}.")
        if time.monotonic() > deadline:
            raise DemoFailed(f"{process.name} was not ready within {_START_TIMEOUT_S:.0f} s.")
        time.sleep(0.02)
    document: dict[str, Any] = json.loads(text)
    if "error" in document:
        raise DemoFailed(f"{process.name} did not start: {document['error']['message']}")
    return document


def kill_owner(stage: Stage, urls: "RuntimeUrls", execution_id: str) -> tuple[str, int, int]:
    """End, with SIGKILL, the worker that owns a run by its live row.

    Returns the worker's name, its pid and the epoch of its claim. Raises DemoFailed.
    """
    worker, epoch = asyncio.run(_owner(urls.system, execution_id))
    pid = int(worker.split(":")[1])
    if pid not in stage.pids():
        raise DemoFailed(f"Worker {worker} owns the run, and is none of ours.")
    os.kill(pid, signal.SIGKILL)
    return worker, pid, epoch


async def _owner(system_url: str, execution_id: str) -> tuple[str, int]:
    """Who owns the run, and under which claim; between two claims nobody does, for a moment."""
    import asyncpg

    connection = await asyncpg.connect(system_url)
    try:
        async with asyncio.timeout(5):
            while True:
                row = await connection.fetchrow(
                    "select owner, epoch from live_executions "
                    "where execution_id = $1 and status = 'running'",
                    execution_id,
                )
                if row is not None and row["owner"]:
                    return row["owner"], row["epoch"]
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise DemoFailed(f"No worker owns run {execution_id}, half-way through it.") from None
    finally:
        await connection.close()


def copied_sources(stage: Stage) -> Path:
    """A copy of Chargehand's own sources, without what Python leaves beside them."""
    package = Path(chargehand.__file__).parent
    # In a checkout the client beside it too; elsewhere its neighbours are other people's.
    source = package.parent if package.parent.name == "src" else package
    copy = stage.folder / "src"
    target = copy if source != package else copy / package.name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return copy


def _environment(stage: Stage, urls: "RuntimeUrls") -> dict[str, str]:
    """Ours, without what an installation on this machine may have set, but for what is chosen."""
    left_out = {"DATABASE_URL", *model_variables()}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CHARGEHAND_") and name not in left_out
    }
    return {
        **inherited,
        **stage.variables,
        "CHARGEHAND_APP_URL": urls.app,
        "CHARGEHAND_SYSTEM_URL": urls.system,
        "CHARGEHAND_WORKSPACES": str(stage.folder / "workspaces"),
    }


def _stop_all(processes: Sequence[Process]) -> None:
    """End them together, and by force what is not gone in time or when Ctrl-C comes again."""
    for process in processes:
        process.popen.terminate()
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    try:
        with suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.popen.wait(max(0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.popen.kill()
            process.popen.wait()


def _remove_cluster(data: Path) -> None:
    """The cluster, where it could not be kept in the data folder itself."""
    cluster = data / "postgres"
    if cluster.is_symlink():
        shutil.rmtree(cluster.resolve().parent, ignore_errors=True)


@contextmanager
def _signals(longest_s: int) -> Generator[None]:
    def give_up(*_: object) -> NoReturn:
        raise DemoFailed(f"It was not done within {longest_s} s.")

    handlers = {signal.SIGTERM: _interrupt, signal.SIGALRM: give_up}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.alarm(longest_s)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
