"""A reader's terminal: bash on a pseudo-terminal, into which is typed what a document says."""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# No prompt and no echo: all that is shown is what commands write. The trap notes what failed.
_PRELUDE = """stty -echo cols 200; PS1= PS2= PROMPT_COMMAND=; unset HISTFILE; trap 'failed=$?' ERR
"""
_ASK = "printf '\\n<%s %s>\\n' ended ${failed:-0}; failed=0\n"
_ANSWER = re.compile(r"\n<ended (\d+)>\n")


class CommandFailed(AssertionError):
    """A command that was typed did not end well."""


@dataclass
class Terminal:
    """``shown`` is all that has been shown so far."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""
    _read: bytes = field(default=b"", init=False)

    def run(self, commands: str, timeout_s: float = 60) -> str:
        """Type commands and return what they show; raises CommandFailed where one of them fails."""
        begin = len(self.shown)
        self.type(commands)
        return self.ended(begin, timeout_s)

    def type(self, commands: str) -> None:
        os.write(self.master, f"{commands.rstrip()}\n".encode())

    def ended(self, begin: int, timeout_s: float = 60) -> str:
        """Wait until all that was typed has ended; what has been shown since ``begin``."""
        self.type(_ASK)
        found = self._until(_ANSWER, begin, timeout_s)
        shown = self.shown[begin : found.start()]
        self.shown = self.shown[: found.start()]
        if found[1] != "0":
            raise CommandFailed(f"a command ended with {found[1]}:\n{shown}")
        return shown

    def until(self, text: str, begin: int = 0, timeout_s: float = 60) -> None:
        """Wait until a text is shown."""
        self._until(re.compile(re.escape(text)), begin, timeout_s)

    def interrupt(self) -> None:
        """Ctrl-C, and wait until what runs in the foreground has ended, and well."""
        os.write(self.master, b"\x03")
        self.ended(len(self.shown))

    def _until(self, pattern: re.Pattern[str], begin: int, timeout_s: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout_s
        while (found := pattern.search(self.shown, begin)) is None:
            left = deadline - time.monotonic()
            assert left > 0, (
                f"not within {timeout_s:.0f} s: {pattern.pattern}\n{self.shown[begin:]}"
            )
            if select.select([self.master], [], [], left)[0]:
                self._take(os.read(self.master, 65536))
        return found

    def _take(self, data: bytes) -> None:
        *whole, self._read = (self._read + data).replace(b"\r\n", b"\n").splitlines(keepends=True)
        if self._read.endswith(b"\n"):
            whole, self._read = [*whole, self._read], b""
        self.shown += _ESCAPE.sub("", b"".join(whole).decode(errors="replace"))


def processes_of(session: int) -> list[int]:
    """The processes of a session, by what the kernel says of each."""
    found = list[int]()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append(int(entry.name))
    return found


@contextmanager
def terminal(folder: Path, environment: Mapping[str, str]) -> Generator[Terminal]:
    """A terminal in ``folder``; all that was started in it is killed in the end."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**environment, "TERM": "xterm", "PWD": str(folder)},
    )
    os.close(slave)
    opened = Terminal(process, master)
    try:
        opened.run(_PRELUDE)
        opened.shown = ""
        yield opened
    finally:
        for pid in processes_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)
        os.close(master)
