"""Every block of the documents is executed, by its language, against real things.

``tests/factories/reader.py`` says what that is for each; the tutorial has a test of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import TestDatabase
from tests.factories.documents import ROOT, TUTORIAL, Block, blocks_of, documents, read_blocks
from tests.factories.reader import Unexecuted, reader


def starts_up(document: str) -> bool:
    return any("chargehand up\n" in block.text for block in blocks_of(document))


WITH_A_SERVICE = [name for name in documents() if name != TUTORIAL and not starts_up(name)]
FROM_NOTHING = [name for name in documents() if name != TUTORIAL and starts_up(name)]


@pytest.mark.parametrize("document", FROM_NOTHING)
def test_every_block_is_executed_from_nothing(document: str, clone: TestDatabase) -> None:
    with reader(clone, starts_up=True) as somebody:
        somebody.read(blocks_of(document))


def test_every_block_is_executed_with_a_service(clone: TestDatabase) -> None:
    with reader(clone, starts_up=False) as somebody:
        for document in WITH_A_SERVICE:
            somebody.read(blocks_of(document))
        if somebody.missing:
            pytest.skip(f"not all was executed: there is no {' and no '.join(somebody.missing)}")


def test_every_document_is_there() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/clients.md", TUTORIAL} <= set(documents())
    assert not any(name.startswith("docs/adr/") for name in documents())


def test_a_block_that_nobody_executes_is_told(clone: TestDatabase) -> None:
    with reader(clone, starts_up=True) as somebody:
        for language, text in (
            ("", "ls\n"),
            ("ruby", "puts 1\n"),
            ("toml", "number = 1\n"),
            ("json", "{}\n"),
            ("text", "src/chargehand/   is there\n  nothing.py   is not\n"),
        ):
            with pytest.raises(Unexecuted, match=r"new\.md:7"):
                somebody.execute(Block("new.md", 7, "", language, "", text))


def test_no_block_is_overlooked() -> None:
    """However it is fenced; what is not a fence opens none."""
    first = "# A\n1. one\n   ```sh\n   a\n   ```\n~~~toml\n```\n~~~\n"
    text = f'{first}## B\n```py title="x.py"\nb\n```\nx ``` y\n'
    found = [(b.line, b.section, b.language, b.title, b.text) for b in read_blocks("x.md", text)]
    assert found == [
        (3, "A", "sh", "", "a\n"),
        (6, "A", "toml", "", "```\n"),
        (10, "B", "py", "x.py", "b\n"),
    ]


def test_every_python_block_is_well_typed(tmp_path: Path) -> None:
    for document in documents():
        for block in blocks_of(document):
            if block.language == "python":
                name = f"{document.replace('/', '_').removesuffix('.md')}_line{block.line}.py"
                (tmp_path / name).write_text(block.text)
    assert len(list(tmp_path.iterdir())) >= 10
    project = {"typeCheckingMode": "strict", "include": ["."], "extraPaths": [str(ROOT / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(project))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("basedpyright")), "--level", "error"),
            *("--pythonpath", sys.executable, "--project", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
