"""The module for browsers: one small file, well typed, from packages that name no host."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "clients" / "javascript"
MODULE = (FOLDER / "chargehand.js").read_text()


def test_it_is_one_small_file_without_dependencies() -> None:
    assert len(MODULE.splitlines()) <= 350
    assert not re.search(r"^import\b|\bimport\(|\brequire\(", MODULE, re.MULTILINE)
    assert "dependencies" not in json.loads((FOLDER / "package.json").read_text())


def test_its_lock_names_no_host() -> None:
    lock = (FOLDER / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://" not in lock
    assert "omit-lockfile-registry-resolved=true" in (FOLDER / ".npmrc").read_text()
    packages = json.loads(lock)["packages"]
    assert all(name == "" or package["integrity"] for name, package in packages.items())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what it is checked with, installed from the lock."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm to install TypeScript with")
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(
        FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
    )
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode and re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT", done.stderr):
        pytest.skip("npm reaches no registry to install TypeScript from")
    assert done.returncode == 0, done.stderr
    return folder


def tsc(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "node_modules" / ".bin" / "tsc", "--noEmit"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_its_types_hold_and_a_wrong_one_would_not(checkout: Path) -> None:
    done = tsc(checkout)
    assert (done.returncode, done.stdout) == (0, "")
    with (checkout / "chargehand.js").open("a") as file:
        file.write("\nnew Chargehand({ url: 1 }).follow(2);\n")
    wrong = tsc(checkout)
    assert wrong.returncode != 0
    assert "'number' is not assignable" in wrong.stdout
