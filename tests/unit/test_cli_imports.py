"""The command line starts fast because it imports little."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
# Not Pydantic: Typer checks its own options with it.
SERVER = {"fastapi", "sqlalchemy", "asyncpg", "pydantic_ai", "uvicorn", "alembic", "structlog"}

PROGRAM = """
import json, sys
from chargehand.cli.main import main
sys.argv = ["chargehand", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def imported_by(*arguments: str) -> set[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CHARGEHAND_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"PYTHONPATH": str(SOURCES), "CHARGEHAND_URL": "http://127.0.0.1:1"},
        timeout=30,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["version"]])
def test_help_imports_neither_the_service_nor_a_client(arguments: list[str]) -> None:
    assert not imported_by(*arguments) & (SERVER | {"httpx2", "rich", "orjson"})


@pytest.mark.parametrize("arguments", [["run", "helper", "Hello"], ["models"]])
def test_what_goes_through_the_client_imports_nothing_of_the_service(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert "httpx2" in modules
    assert not modules & SERVER


def test_help_takes_little_time() -> None:
    """Processor time, not the clock's: other tests run at the same time."""
    command = [sys.executable, "-m", "chargehand.cli.main", "--help"]
    subprocess.run(command, check=True, capture_output=True, cwd=SOURCES)  # compiles
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=SOURCES)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent_s < 0.25
