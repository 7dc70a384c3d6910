"""The fenced blocks of the documents, and whether what was shown is what a block promises."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIAL = "docs/tutorial.md"
# Decisions are not instructions; the reference is made from the sources and has tests of its own,
# but for the example of an error.
_EXCEPT = re.compile(r"docs/adr/|docs/reference/(?!errors\.md)")
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)")
_TITLE = re.compile(r'title="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Block:
    """``title`` is the file that a reader writes the text to, or nothing."""

    document: str
    line: int
    section: str
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line} ({self.language or 'of no language'})"


def documents() -> list[str]:
    """Every document whose blocks are executed, as a path inside the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [name for name in names if not _EXCEPT.match(name)]


def blocks_of(document: str) -> list[Block]:
    return list(read_blocks(document, (ROOT / document).read_text()))


def read_blocks(document: str, text: str) -> Iterator[Block]:
    """The blocks in order; ``section`` is the heading above."""
    section, lines = "", enumerate(text.splitlines(), 1)
    for number, line in lines:
        if line.startswith("#"):
            section = line.lstrip("#").strip()
        if (opened := _FENCE.fullmatch(line)) is None:
            continue
        indent, inside = len(opened["indent"]), list[str]()
        for _, each in lines:
            if each.strip() == opened["fence"]:
                break
            inside.append(f"{each[indent:]}\n")
        else:
            raise AssertionError(f"{document}:{number}: the block has no end")
        language, _, rest = opened["info"].strip().partition(" ")
        title = _TITLE.search(rest)
        yield Block(document, number, section, language, title[1] if title else "", "".join(inside))


def assert_shown(promised: str, shown: str) -> None:
    """A text with ``…`` is shown: for any letters within a line, alone for any number of lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else f"{_any_letters(line)}[ ]*\n"
        for line in promised.splitlines()
    )
    found = re.search(f"^{pattern}", f"{shown}\n", re.MULTILINE)
    assert found, f"promised:\n{promised}\nshown:\n{shown}"


def _any_letters(line: str) -> str:
    return ".*".join(map(re.escape, line.rstrip().split("…")))
