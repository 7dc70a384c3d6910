"""Optimistic concurrency (SPEC AGT-6): ``ETag`` and ``If-Match``, RFC 9110 section 13.1.1."""

from typing import Annotated

from fastapi import Header

from chargehand.kernel.errors import Conflict

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The ETag that the change is based on."),
]


class PreconditionFailed(Conflict):
    """The resource has changed since the caller read it."""

    code = "PreconditionFailed"


def etag_of(revision: int) -> str:
    return f'"{revision}"'


def require_match(if_match: str | None, revision: int) -> None:
    """Raise PreconditionFailed unless ``If-Match`` is absent, ``*`` or names this revision."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag_of(revision) not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailed(
            "It has changed since you read it. Read it again, apply your change to what you find, "
            "and send it with the new ETag.",
            etag=etag_of(revision),
        )
