"""Start the fake provider (see ``tests/peers/fake_provider.py``)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[1] / "peers" / "fake_provider.py"
KEY = "fake-key"


@dataclass
class RunningFakeProvider:
    """``stop`` and ``start`` make an outage: the address stays the same."""

    folder: Path
    script: str | None
    key: str = KEY
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "fake_provider.jsonl"

    def calls(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of the log so far, two per call that has ended; or those of one event."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def forget(self) -> None:
        """Begin the log anew; the process goes on appending to it."""
        if self.log.exists():
            os.truncate(self.log, 0)

    def settings(self) -> dict[str, str]:
        """The environment that connects every vendor of an installation to this process."""
        return {
            "OPENAI_API_KEY": self.key,
            "CHARGEHAND_OPENAI_URL": f"{self.url}/v1",
            "ANTHROPIC_API_KEY": self.key,
            "CHARGEHAND_ANTHROPIC_URL": self.url,
            "GOOGLE_AI_API_KEY": self.key,
            "CHARGEHAND_GOOGLE_URL": self.url,
            "AZURE_OPENAI_API_KEY": self.key,
            "CHARGEHAND_AZURE_URL": self.url,
            "CHARGEHAND_COMPATIBLE_URL": f"{self.url}/compat/v1",
        }

    def start(self) -> None:
        command = [sys.executable, str(PROGRAM), "--log", str(self.log)]
        command += ["--key", self.key, "--port", str(self.port), "--until-stdin-ends"]
        if self.script is not None:
            file = self.folder / "fake_provider_script.txt"
            file.write_text(self.script, "utf-8")
            command += ["--script", str(file)]
        # Its input is held open by this process alone: it ends with us, even if we are killed.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Break all its connections and listen no more."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.terminate()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@contextmanager
def running_fake_provider(
    folder: Path, *, script: str | None = None
) -> Iterator[RunningFakeProvider]:
    """``script`` is what it does when asked in a text that tells it nothing."""
    provider = RunningFakeProvider(folder, script)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
