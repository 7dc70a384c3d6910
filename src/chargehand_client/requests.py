"""What is asked of the service, without a connection: requests, answers, and lists of pages. Pure.

Both clients send the same requests and read the answers with the same functions; only how they
wait is their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from chargehand_client.outgoing import encoded, keyed, path_of

Result = TypeVar("Result", covariant=True)

PAGE = 100
"""The most items that the service puts on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request below ``/api/v1``; ``repeatable``: it may be sent again though it may have
    arrived."""

    method: str
    path: str
    parameters: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None
    repeatable: bool = True


def as_it_came(document: Any) -> Any:
    return document


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A request, and what its answer's document means."""

    request: Request
    read: Callable[[Any], Result] = as_it_came


@dataclass(frozen=True, slots=True)
class Listing(Generic[Result]):
    """A list that comes page by page.

    ``items`` finds them in a page; ``behind`` says where the next page begins, as parameters that
    are added to those of ``first``, or None where there is none.
    """

    first: Request
    items: Callable[[Any], Sequence[Any]]
    behind: Callable[[Any], Mapping[str, str | int] | None]
    read: Callable[[Any], Result] = as_it_came

    def next(self, page: Any) -> Request | None:
        behind = self.behind(page)
        if behind is None:
            return None
        return replace(self.first, parameters={**self.first.parameters, **behind})


def get(*path: object, parameters: Mapping[str, Any] | None = None) -> Call[Any]:
    return Call(_get(path, parameters or {}))


def post(
    *path: object, body: Any, repeatable: bool = False, revision: int | None = None
) -> Call[Any]:
    return changing("POST", *path, body=body, repeatable=repeatable, revision=revision)


def changing(
    method: str, *path: object, body: Any, repeatable: bool = False, revision: int | None = None
) -> Call[Any]:
    """A change with a JSON body; with ``revision`` only of what still has that revision."""
    headers = {"Content-Type": "application/json", **keyed(None), **if_match(revision)}
    return Call(
        Request(
            method=method,
            path=path_of(*path),
            headers=headers,
            content=encoded(body),
            repeatable=repeatable,
        )
    )


def delete(
    *path: object,
    parameters: Mapping[str, Any] | None = None,
    repeatable: bool = False,
    revision: int | None = None,
) -> Call[Any]:
    return Call(
        Request(
            method="DELETE",
            path=path_of(*path),
            parameters=parameters_of(parameters or {}),
            headers=if_match(revision),
            repeatable=repeatable,
        )
    )


def pages(
    *path: object, parameters: Mapping[str, Any] | None = None, limit: int | None = PAGE
) -> Listing[Any]:
    """A list with cursors; ``limit`` is None where the service puts all on one page."""
    return Listing(_get(path, {"limit": limit, **(parameters or {})}), _page_items, _page_end)


def positions(*path: object, after: str, last: str) -> Listing[Any]:
    """A list that is asked for behind a position: the parameter ``after``, the field ``last``."""

    def behind(page: Any) -> Mapping[str, int] | None:
        return {after: page[-1][last]} if page else None

    return Listing(_get(path, {"limit": PAGE, after: 0}), as_it_came, behind)


def parameters_of(given: Mapping[str, Any]) -> dict[str, str | int]:
    """Query parameters, without those that are None. Raises ArgumentRefused."""
    found = {name: _parameter(value) for name, value in given.items() if value is not None}
    # What is no text that can be sent is told like that of a body.
    encoded(found)
    return found


def if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{int(revision)}"'}


def given_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _get(path: Sequence[object], parameters: Mapping[str, Any]) -> Request:
    return Request(method="GET", path=path_of(*path), parameters=parameters_of(parameters))


def _parameter(value: Any) -> str | int:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, int) else str(value)


def _page_items(page: Any) -> Sequence[Any]:
    return page["items"]


def _page_end(page: Any) -> Mapping[str, str] | None:
    cursor = page["next_cursor"]
    return None if cursor is None else {"cursor": cursor}
