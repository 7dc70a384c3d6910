"""``chargehand demo``, whole: real processes, one of them killed."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.commands import chargehand, command, environment


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that the embedded server's user can enter too."""
    folder = Path(tempfile.mkdtemp(prefix="chargehand-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def leftovers(temporary: Path) -> list[Path]:
    return list(temporary.glob("chargehand-demo-*"))


def test_the_run_survives_its_worker(temporary: Path) -> None:
    done = chargehand("demo", "--json", timeout_s=115, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["status"] == "completed"
    assert figures["steps"] == figures["steps_expected"] > 10
    assert figures["steps_repeated"] == 0
    assert figures["killed_worker"] != figures["taken_over_by"]
    assert 0 < figures["take_over_s"] <= 15
    assert leftovers(temporary) == []


def test_ctrl_c_ends_every_process_and_removes_the_folder(temporary: Path) -> None:
    with subprocess.Popen(
        command("demo"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(temporary)),
    ) as process:
        assert process.stdout is not None
        while "worker processes run" not in (line := process.stdout.readline()):
            assert line, process.stderr and process.stderr.read()
        (folder,) = leftovers(temporary)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert not folder.exists()
    deadline = time.monotonic() + 5
    while running := processes_of(folder):
        assert time.monotonic() < deadline, running


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes whose environment names the folder."""
    found = list[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:  # it has just ended, or is another user's
            continue
    return found
