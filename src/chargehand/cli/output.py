"""What every command prints, and its exit code.

``--json`` prints one document on standard output and nothing else, errors included. Without it an
error is at most six lines on standard error. Escape codes go to terminals only, and nowhere where
``NO_COLOR`` is set.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
USAGE = 2
NOT_FOUND = 3
DENIED = 4
LIMIT = 5
UNREACHABLE = 6
INTERRUPTED = 130

_EXIT_CODES = {
    "NotFound": NOT_FOUND,
    "Denied": DENIED,
    "Unauthenticated": DENIED,
    "LimitReached": LIMIT,
    "Unavailable": UNREACHABLE,
    "Unreachable": UNREACHABLE,
    "Invalid": USAGE,
    "NotConfigured": USAGE,
    "ArgumentRefused": USAGE,
    "FolderRefused": USAGE,
}
"""By the names of the error kinds, which the service and its client share."""

_LONGEST_ERROR = 6

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


class Explained(Protocol):
    """An error that says what happened, where, and what to do: the service's or the client's."""

    code: str
    message: str
    details: Mapping[str, Any]


def print_document(document: Any) -> None:
    """One JSON document: indented on a terminal, one line elsewhere."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(document, indent=indent, ensure_ascii=False, default=str), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns, two spaces apart; control characters as escapes."""
    table = [columns, *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_fields(document: Mapping[str, Any]) -> None:
    """A line for each field; what is nested as indented JSON below its name."""
    width = max((len(name) for name, value in document.items() if not _is_nested(value)), default=0)
    for name, value in document.items():
        if _is_nested(value):
            print(f"{name}:")
            nested = json.dumps(value, indent=2, ensure_ascii=False, default=str)
            print("\n".join(f"  {visible(line)}" for line in nested.splitlines()))
        else:
            shown = "-" if value in (None, "", [], {}) else _shown(value)
            print(f"{name.ljust(width)}  {visible(shown)}")


def _is_nested(value: Any) -> bool:
    """Whether it takes more than a line: not so a list of texts."""
    if isinstance(value, list):
        return any(not isinstance(item, str) for item in value)
    return isinstance(value, Mapping) and bool(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def visible(text: str) -> str:
    """Text on one line, in which what a terminal would obey is spelled out, as in ``\\x1b``."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def utf8(text: str | None) -> str | None:
    """The text of an option or argument. Raises typer.BadParameter where it is not UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter("it is not UTF-8 text") from error
    return text


def console(stream: TextIO) -> "Console":
    """A Rich console for a stream, plain unless it is a terminal that wants more."""
    from rich.console import Console

    if is_plain(stream):
        return Console(file=stream, force_terminal=False, color_system=None, soft_wrap=True)
    return Console(file=stream, highlight=False, soft_wrap=True)


def is_plain(stream: TextIO) -> bool:
    """Whether escape codes would be unwanted there."""
    return bool(os.environ.get("NO_COLOR")) or not stream.isatty()


def report(error: Explained, *, as_json: bool) -> int:
    """Print an error; returns the exit code that it means."""
    if as_json:
        print_document({"error": _document(error)})
    else:
        print("\n".join(_lines(error)), file=sys.stderr)
    return exit_code(error)


def exit_code(error: object) -> int:
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next((_EXIT_CODES[kind] for kind in kinds if kind in _EXIT_CODES), FAILED)


def _document(error: Explained) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "details": dict(error.details),
        "request_id": getattr(error, "request_id", ""),
    }


def _lines(error: Explained) -> list[str]:
    request_id = getattr(error, "request_id", "")
    last = f"  code {error.code}" + (f", request {request_id}" if request_id else "")
    message = [visible(line) for line in error.message.splitlines()] or [error.code]
    violations = [visible(f"  {v['pointer'] or '/'}: {v['message']}") for v in _violations(error)]
    told = [f"Error: {message[0]}", *(f"  {line}" for line in message[1:]), *violations]
    return [*told[: _LONGEST_ERROR - 1], last]


def _violations(error: Explained) -> Sequence[Mapping[str, str]]:
    return error.details.get("violations", ())
