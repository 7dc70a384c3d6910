"""What a newcomer installs: the wheel, the locked requirements, the README."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.shape.reference.settings_page import groups, variables

from chargehand import settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
LOCKS = ["requirements/base.txt", "requirements/dev.txt"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (built,) = folder.iterdir()
    with ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_all_sources_migrations_and_type_markers(wheel: set[str]) -> None:
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    migrations = {
        f"chargehand/{path.relative_to(ROOT)}"
        for path in (ROOT / "migrations").rglob("*.*")
        if path.suffix in (".py", ".mako")
    }
    assert "chargehand/migrations/versions/0001_foundation.py" in migrations
    assert sources | migrations <= wheel
    assert {"chargehand/py.typed", "chargehand_client/py.typed"} <= wheel


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    metadata = f"chargehand-{PROJECT['version']}.dist-info/"
    assert f"{metadata}licenses/LICENSE" in wheel
    tops = ("chargehand/", "chargehand_client/", metadata)
    assert [name for name in wheel if not name.startswith(tops) or "__pycache__" in name] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_with_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    loose = [
        e for e in entries if not re.match(r"[\w.-]+==\S+.*--hash=sha256:[0-9a-f]{64}", e, re.S)
    ]
    assert loose == []
    assert len(entries) > 40
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links)", text, re.MULTILINE)


def test_both_locks_agree_and_dev_holds_all_of_base() -> None:
    base, dev = (set(re.findall(r"^\S+==\S+", (ROOT / lock).read_text(), re.M)) for lock in LOCKS)
    assert base < dev


def test_every_dependency_is_locked() -> None:
    base, dev = ((ROOT / lock).read_text() for lock in LOCKS)
    extras = PROJECT["optional-dependencies"]
    for names, text in ((PROJECT["dependencies"] + extras["build"], base), (extras["dev"], dev)):
        for name in (re.match(r"[\w-]+", requirement)[0] for requirement in names):  # type: ignore[index]
            assert re.search(rf"^{name}==", text, re.MULTILINE), name


def test_the_readme_names_some_settings_each_with_its_default() -> None:
    written = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*?) \|", README, re.MULTILINE))
    actual = {
        name: field.default for group in groups().values() for name, field in variables(group)
    }
    assert 10 <= len(written) <= 15
    assert "(docs/reference/settings.md)" in README
    for name, default in written.items():
        assert name in actual or name in settings.CLIENT_VARIABLES, name
        value = actual.get(name)
        assert default == ("none" if value is None else f"`{value}`"), name


def test_the_readmes_first_screen_shows_the_two_commands() -> None:
    screen = README.splitlines()[:40]
    assert "make demo" in "\n".join(screen)
    assert "make test" in "\n".join(screen)


def test_every_make_command_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`?make ([a-z]+)`?", "\n".join(commands(texts)))) <= targets


def commands(text: str) -> list[str]:
    """Lines and spans of code that begin with ``make``."""
    return re.findall(r"(?:^|`)(make [a-z]+)", text, re.MULTILINE)


def test_every_link_into_the_repository_leads_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []
