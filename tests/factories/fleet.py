"""Worker processes to be killed, and what they left outside the database."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from tests.conftest import TestDatabase

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "durability" / "worker_process.py"


@dataclass
class Fleet:
    """Real workers on one database; ``folder`` holds their logs, calls and probes."""

    database: TestDatabase
    folder: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    workers: dict[int, subprocess.Popen[str]] = field(
        default_factory=dict[int, subprocess.Popen[str]]
    )

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "CHARGEHAND_APP_URL": self.database.urls.app,
            "CHARGEHAND_SYSTEM_URL": self.database.urls.system,
            "CHARGEHAND_LEASE_S": "2",
            "CHARGEHAND_WORKSPACES": str(self.folder / "workspaces"),
            "CHARGEHAND_SIMULATED_CALL_LOG": str(self.folder / "calls"),
            "PROBE_FILE": str(self.folder / "probe"),
            **self.settings,
        }

    def start(self, **extra: str) -> int:
        """Start a worker, wait until it is ready, and return its pid."""
        pid = self.spawn(**extra)
        output = self.workers[pid].stdout
        assert output is not None
        assert output.readline().strip(), self.log()[-3000:]
        return pid

    def spawn(self, **extra: str) -> int:
        """Start a worker and return its pid; it will be ready in a second or two."""
        environment = {**self.environment(), **extra}
        with (self.folder / "workers.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", str(SCRIPT)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.workers[process.pid] = process
        return process.pid

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self.wait(pid)

    def wait(self, pid: int) -> int:
        """Wait, at most 20 s, for a worker to end; returns its exit code."""
        process = self.workers.pop(pid)
        code = process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def probe(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "probe")

    def calls(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "calls")

    def log(self) -> str:
        return (self.folder / "workers.log").read_text()


@contextlib.contextmanager
def nursery_of(fleet: Fleet) -> Generator[Callable[..., int]]:
    """Bears workers of the fleet's settings, quickly; see ``worker_nursery``. Gives their pids."""
    with (fleet.folder / "workers.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.durability.worker_nursery"],
            cwd=ROOT,
            env=fleet.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    born = list[int]()

    def bear(**environment: str) -> int:
        print(orjson.dumps(environment).decode(), file=process.stdin, flush=True)
        born.append(int(process.stdout.readline()))  # pyright: ignore[reportOptionalMemberAccess]
        return born[-1]

    try:
        yield bear
    finally:
        for pid in filter(is_there, born):
            os.kill(pid, signal.SIGKILL)
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def pid_of(owner: str) -> int:
    """The process of a worker's name, ``host:pid:suffix``."""
    return int(owner.split(":")[1])


@contextlib.contextmanager
def fleet_on(database: TestDatabase, folder: Path, **settings: str) -> Generator[Fleet]:
    """A fleet whose processes are all ended with the context."""
    fleet = Fleet(database, folder, settings)
    try:
        yield fleet
    finally:
        for pid in list(fleet.workers):
            fleet.signal(pid, signal.SIGKILL)
