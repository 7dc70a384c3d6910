"""A PostgreSQL program that ends with the process that started it, and the log it writes.

A shell between the two waits for the end of a pipe whose only write end is ours.
"""

import os
import subprocess
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

from chargehand.adapters.postgres_programs import ENVIRONMENT, Account, EmbeddedPostgresFailed

_STOP_TIMEOUT_S = 40.0
_LARGEST_LOG_BYTES = 16 * 2**20

# The server stays the shell's child: until the shell reaps it (and then ends the reader of the
# pipe) no other process can get the pid that the reader is to signal. The reader signals more than
# once: a server that has only just begun still ignores it, as all that a shell starts with & does.
_GUARD = """
exec 3<&0 </dev/null
"$@" 3<&- >&2 &
server=$!
echo "$server"
exec >&2
(
    read -r _ <&3
    waited=0
    while [ "$waited" -lt 20 ] && kill -INT "$server"; do
        sleep 1
        waited=$((waited + 1))
    done
    kill -QUIT "$server"
) 2>/dev/null &
reader=$!
exec 3<&-
wait "$server"
status=$?
kill "$reader" 2>/dev/null
exit "$status"
"""


class Guarded(NamedTuple):
    shell: subprocess.Popen[bytes]
    pid: int


class Log(NamedTuple):
    """An open log; ``start`` is its size in bytes when it was opened."""

    path: Path
    file: FileIO
    start: int


# Descriptors whose closing others wait for, so a forked child must not keep them; one that is
# started with exec never has them (PEP 446).
not_for_children: WeakSet[FileIO] = WeakSet()


def _close_in_child() -> None:
    for file in list(not_for_children):
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


def open_log(data: Path) -> Log:
    """Open ``postgres.log`` to append; one of more than 16 MiB becomes ``postgres.log.1``."""
    path = data / "postgres.log"
    if path.exists() and path.stat().st_size > _LARGEST_LOG_BYTES:
        path.replace(data / "postgres.log.1")
    file = FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    return Log(path, file, file.tell())


def failed(what: str, log: Log) -> EmbeddedPostgresFailed:
    """An error with the last lines written to ``log`` since it was opened."""
    tail = log.path.read_bytes()[log.start :].decode(errors="replace").splitlines()[-5:]
    return EmbeddedPostgresFailed(
        "\n".join([f"The embedded PostgreSQL {what}; the end of {log.path}:", *tail])
    )


def guarded(command: list[str], account: Account, log: Log, held: ExitStack) -> Guarded:
    """Run a program that is stopped when ``held`` closes, or when this process ends.

    Raises OSError or EmbeddedPostgresFailed where no process can be made for it.
    """
    reading, writing = os.pipe()
    pipe = held.enter_context(FileIO(writing, "wb"))
    not_for_children.add(pipe)
    try:
        shell = subprocess.Popen(  # noqa: S603 (our own script; the command is its arguments)
            ["/bin/sh", "-c", _GUARD, "chargehand-postgres", *command],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=log.file,
            cwd="/",
            env=ENVIRONMENT,
            # Else Ctrl-C at the terminal reaches the server before we have finished with it.
            start_new_session=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[] if os.geteuid() == 0 else None,
        )
    finally:
        os.close(reading)
    held.callback(_end, shell, pipe)
    assert shell.stdout is not None
    with shell.stdout as stream:
        pid = stream.readline()
    if not pid:
        raise failed("could not be started", log)
    return Guarded(shell, int(pid))


def _end(shell: subprocess.Popen[bytes], pipe: FileIO) -> None:
    pipe.close()
    try:
        shell.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresFailed(
            f"The embedded PostgreSQL has not stopped within {_STOP_TIMEOUT_S:.0f} s of being told "
            f"to.\nLook at the processes under process {shell.pid}; ending them is safe."
        ) from error
