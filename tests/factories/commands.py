"""Run the command line as processes of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SOURCES = str(Path(__file__).parents[2] / "src")


class Told(NamedTuple):
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str


Command = Callable[..., Told]


def environment(**given: str) -> dict[str, str]:
    """This process's, without what points at a Chargehand or its services, and what is given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CHARGEHAND_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    # No profiles of whoever runs the tests.
    return {**inherited, "PYTHONPATH": SOURCES, "XDG_CONFIG_HOME": os.devnull, **given}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "chargehand.cli.main", *arguments]


def chargehand(
    *arguments: str, stdin: str = "", timeout_s: float = 60, **given: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(**given),
        timeout=timeout_s,
    )
