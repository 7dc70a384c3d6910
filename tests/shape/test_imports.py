"""The import contracts of pyproject.toml: they hold, and each of them can break."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "Strata: a package imports only from those below it": (
        "chargehand/kernel/clock.py",
        "import chargehand.web.etags",
    ),
    "No cycles between siblings": ("chargehand/kernel/errors.py", "import chargehand.kernel.jobs"),
    "Tools do not know one another": (
        "chargehand/runtime/tools/todo.py",
        "import chargehand.runtime.tools.files",
    ),
    "The API and the worker do not know each other": (
        "chargehand/entrypoints/worker.py",
        "import chargehand.entrypoints.api",
    ),
    "FastAPI only at the edge": ("chargehand/agents/operations.py", "import fastapi"),
    "Who calls and the transaction come in at the edge": (
        "chargehand/agents/operations.py",
        "import chargehand.tenancy.dependencies",
    ),
    "Vendor SDKs only in adapters": ("chargehand/runtime/loop.py", "import openai"),
    "PgQueuer only behind kernel.jobs": ("chargehand/executions/operations.py", "import pgqueuer"),
    "The client never imports the server": (
        "chargehand_client/client.py",
        "import chargehand.kernel.errors",
    ),
    "Pure modules do no I/O": ("chargehand/catalog/pricing.py", "import asyncpg"),
}


def lint(source: Path) -> tuple[int, dict[str, str]]:
    """The exit code, and KEPT or BROKEN by contract."""
    done = subprocess.run(
        [LINT, "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"],
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        cwd=source.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, dict(re.findall(r"^(.+) (KEPT|BROKEN)", done.stdout, re.MULTILINE))


def test_every_contract_holds() -> None:
    status, verdicts = lint(ROOT / "src")
    assert verdicts == dict.fromkeys(contracts(), "KEPT")
    assert status == 0


def test_every_contract_breaks_when_it_is_violated(tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    for module, line in VIOLATIONS.values():
        with (source / module).open("a") as file:
            file.write(f"\n{line}\n")
    status, verdicts = lint(source)
    assert verdicts == dict.fromkeys(contracts(), "BROKEN")
    assert status == 1


def contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def test_each_package_of_the_tree_is_one_that_the_architecture_names() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    strata = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    built = {layer for layer in strata["layers"] if not layer.startswith("(")}
    found = {path.stem for path in (ROOT / "src/chargehand").iterdir() if path.stem[0] != "_"}
    assert found - {"py"} == built
