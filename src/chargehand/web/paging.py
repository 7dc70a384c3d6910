"""Lists: opaque keyset cursors, 20 items a page (SPEC API-1, EXE-17)."""

import base64
import hashlib
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from chargehand.kernel.errors import Invalid, Violation

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="How many items a page holds.")]
Cursor = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the page before.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]

_MARK_BYTES = 5
"""With an id's 16 they fill 28 characters of base64, without padding."""


class Page(BaseModel, Generic[Item]):
    """One page; ``next_cursor`` is null on the last one."""

    items: list[Item] = Field(description="At most `limit` of them.")
    next_cursor: str | None = Field(description="What `cursor` takes; null on the last page.")


def encode_cursor(list_name: str, last_id: UUID) -> str:
    """Where the page behind ``last_id`` begins, in this list and in no other.

    ``list_name`` is any text, the same for each page of a list.
    """
    return _encoded(list_name, last_id.bytes)


def decode_cursor(list_name: str, cursor: str | None) -> UUID | None:
    """The id behind which the page begins. Raises Invalid for a cursor of anything else."""
    if cursor is None:
        return None
    try:
        return UUID(bytes=_decoded(list_name, cursor))
    except ValueError:
        raise _refusal() from None


def encode_name_cursor(list_name: str, last_name: str) -> str:
    """Like ``encode_cursor``, for a list in the order of names instead of ids."""
    return _encoded(list_name, last_name.encode())


def decode_name_cursor(list_name: str, cursor: str | None) -> str | None:
    """The name behind which the page begins. Raises Invalid for a cursor of anything else."""
    if cursor is None:
        return None
    try:
        return _decoded(list_name, cursor).decode()
    except ValueError:
        raise _refusal() from None


def _encoded(list_name: str, last: bytes) -> str:
    # Without padding, which a query would have to escape.
    return base64.urlsafe_b64encode(last + _mark(list_name)).decode().rstrip("=")


def _decoded(list_name: str, cursor: str) -> bytes:
    """Raises ValueError for what ``_encoded`` never gave for this list."""
    content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    last = content[:-_MARK_BYTES]
    # Compared as a whole: base64 reads more texts than it writes.
    if cursor != _encoded(list_name, last):
        raise ValueError
    return last


def _mark(list_name: str) -> bytes:
    return hashlib.blake2b(list_name.encode(), digest_size=_MARK_BYTES).digest()


def _refusal() -> Invalid:
    violation = Violation("/query/cursor", "not a cursor of this list")
    return Invalid(
        "The cursor is not one that this list gave. Leave it out to begin at the first page.",
        violations=[violation.as_json()],
    )
