"""What of a request is refused whatever its route does with it: what would be ignored."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from chargehand.kernel.errors import Invalid, Violation, pointer
from chargehand.web.suggestions import did_you_mean

MAX_TOLD = 10
_JSON = re.compile(r"application/([\w.!#$&^-]+\+)?json", re.ASCII | re.IGNORECASE)


class UnsupportedMediaType(Invalid):
    """The body is not said to be JSON, which is what the route takes."""

    code = "UnsupportedMediaType"


class UnknownParameter(Invalid):
    """The query has a parameter that the route does not know."""


async def check_request(request: Request) -> None:
    """Raise UnknownParameter or UnsupportedMediaType.

    For a dependency of a route: there the body has been read, and not yet looked at.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    if request.query_params:
        _check_query(request.query_params, sorted(set(_declared(route.dependant))))
    if route.body_field is not None and await request.body():
        _check_media_type(request.headers.get("content-type"))


def _declared(dependant: Dependant) -> Iterator[str]:
    """The query parameters of a route and of its dependencies, as callers name them."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _declared(inner)


def _check_query(given: Iterable[str], declared: list[str]) -> None:
    unknown = list(islice((name for name in given if name not in declared), MAX_TOLD))
    if not unknown:
        return
    there_are = f"it takes {', '.join(declared)}" if declared else "it takes none"
    named = ", ".join(f"{name[:100]!r}{did_you_mean(name, declared)}" for name in unknown)
    raise UnknownParameter(
        f"This route does not know the query parameter {named}; {there_are}. "
        "Correct the name or leave it out.",
        violations=[
            Violation(
                pointer(["query", name]), f"unknown parameter{did_you_mean(name, declared)}"
            ).as_json()
            for name in unknown
        ],
    )


def _check_media_type(declared: str | None) -> None:
    media_type = (declared or "").partition(";")[0].strip()
    if _JSON.fullmatch(media_type):
        return
    what = f"is said to be {media_type[:100]!r}" if media_type else "comes without a Content-Type"
    raise UnsupportedMediaType(
        f"The body {what}, and this route takes JSON: send Content-Type: application/json.",
        content_type=declared,
        supported=["application/json"],
    )
