"""Markdown: tables, code, and documents with parts that are written between marks."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


class Page(NamedTuple):
    """A document, and what belongs between its marks."""

    document: Path
    parts: Mapping[str, str]


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with each part between the marks of its name; the rest of it stays."""
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert begun, f"{begin!r} is missing"
        assert ended, f"{end!r} is missing"
        text = f"{before}{begin}{part.rstrip()}\n{end}{after}"
    return text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def code(text: object) -> str:
    return f"`{text}`"


def codes(texts: Iterable[object]) -> str:
    return ", ".join(code(text) for text in texts)


def block(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: its literals as code, and nothing of it a tag."""
    text = re.sub(r"``([^`]+)``", r"`\1`", (docstring or "").strip())
    return re.sub(r"(`[^`]*`)|<(?=[a-zA-Z/])", lambda found: found[1] or r"\<", text)


def paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
