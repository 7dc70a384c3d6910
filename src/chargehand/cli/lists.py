"""What the commands ``list`` have in common."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, TypeVar

import typer

from chargehand.cli import options, output

Item = TypeVar("Item")

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
DEFAULT_LIMIT = 20

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def show(
    found: Iterator[Item],
    limit: int,
    columns: Sequence[str],
    row: Callable[[Item], Sequence[str]],
    document: Callable[[Item], Mapping[str, Any]],
    as_json: bool,
) -> None:
    """Print the first items: as a table, or as ``{"items": […], "more": …}``."""
    items = list(islice(found, limit + 1))
    more, items = len(items) > limit, items[:limit]
    if as_json:
        output.print_document({"items": [document(item) for item in items], "more": more})
        return
    output.print_table(columns, [row(item) for item in items])
    if more and not options.given.quiet:
        print(f"There are more; see them with --limit {10 * limit}.", file=sys.stderr)


def as_it_is(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return item


def minute(text: str | datetime | None) -> str:
    """A time as a table has it, in the local time zone."""
    if text is None:
        return "-"
    time = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def second(text: str) -> str:
    """A time as a log has it, in the local time zone."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def time_of(text: str | None, option: str) -> datetime | None:
    """``2h`` ago, or an ISO 8601 time, local unless it says otherwise. Raises BadParameter."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _UNITS and number.isdecimal():
            return datetime.now(UTC) - timedelta(**{_UNITS[unit]: int(number)})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time: give how long ago, as in 30m, 2h or 7d, or a time as in "
            "2026-11-24 or 2026-11-24T09:00",
            param_hint=option,
        ) from error
