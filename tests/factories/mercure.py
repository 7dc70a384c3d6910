"""Start the fake Mercure hub (see ``tests/peers/fake_mercure.py``), and read what it got."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

PROGRAM = Path(__file__).parents[1] / "peers" / "fake_mercure.py"
SECRET = "the key that this hub and its publishers share"


class Got(NamedTuple):
    """An update that the hub took."""

    id: str
    type: str
    topics: tuple[str, ...]
    data: dict[str, Any]

    @property
    def run(self) -> str:
        return self.topics[0].removeprefix("agent/")

    @property
    def seq(self) -> int:
        return int(self.id.rpartition(".")[2])


@dataclass
class RunningHub:
    """``stop`` and ``start`` make an outage: the address stays the same."""

    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def settings(self) -> dict[str, str]:
        return {"MERCURE_URL": self.url, "MERCURE_JWT_SECRET": SECRET}

    def feel(self, mood: str) -> None:
        """A status, ``slow``, ``redirect``, ``delay SECONDS``, or "" for well."""
        new = self.folder / "hub.mood.new"
        new.write_text(mood)
        new.replace(self.folder / "hub.mood")

    def requests(self) -> list[dict[str, Any]]:
        log = self.folder / "hub.jsonl"
        return [orjson.loads(line) for line in log.read_bytes().splitlines()]

    def got(self) -> list[Got]:
        """What it took, in the order in which it came."""
        return [_got(one["fields"]) for one in self.requests() if one["status"] == 200]

    def start(self) -> None:
        command = [sys.executable, str(PROGRAM), "--log", str(self.folder / "hub.jsonl")]
        command += ["--mood", str(self.folder / "hub.mood"), "--secret", SECRET]
        command += ["--port", str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _got(fields: list[list[str]]) -> Got:
    one = dict(map(tuple, fields))
    topics = tuple(value for name, value in fields if name == "topic")
    return Got(one["id"], one["type"], topics, orjson.loads(one["data"]))


@contextmanager
def running_hub(folder: Path) -> Iterator[RunningHub]:
    hub = RunningHub(folder)
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()
