"""What routes say in the OpenAPI document beside what FastAPI finds out by itself.

``entrypoints/description.py`` makes whole responses of it.
"""

from collections.abc import Mapping
from typing import Any

from chargehand.web.error_codes import STATUS_OF_CODE

Responses = dict[int | str, dict[str, Any]]

ERROR_CODES = "x-error-codes"

HEADERS: Mapping[str, str] = {
    "X-Request-Id": "The id of the request; it stands in the service's log, and in errors.",
    "ETag": "The resource's revision, for `If-Match`.",
    "Location": "The path of what was made.",
    "X-Execution-Id": "The id of the execution; where events follow, the only place for it.",
    "Idempotency-Replayed": "`true` if an earlier request with this key had started the run.",
    "Retry-After": "In how many seconds to try again.",
    "WWW-Authenticate": "`Bearer`: send an API key.",
    "Allow": "The methods that the path takes.",
    "Cache-Control": "`no-store`: the answer is for this caller, now.",
    "Content-Disposition": "An attachment, with its name.",
    "X-Content-Type-Options": "`nosniff`: it is what its media type says.",
}
"""All headers of answers that are ours, with their descriptions."""

ALWAYS_THERE = frozenset({"X-Request-Id", "ETag", "X-Execution-Id", "WWW-Authenticate"})
"""Those that are never missing where they are described; the others depend on the answer."""


def errors(*codes: str) -> Responses:
    """``responses`` of a route that can answer with these codes of the closed table.

    What every route can answer (a missing key, a body that is no JSON, …) is added for all.
    """
    found: Responses = {}
    for code in codes:
        found.setdefault(STATUS_OF_CODE[code], {ERROR_CODES: []})[ERROR_CODES].append(code)
    return found


def headers(*names: str) -> dict[str, Any]:
    """The part of a response that says which headers it carries, beside its request id."""
    return {"headers": {name: header(name) for name in names}}


def header(name: str) -> dict[str, str]:
    assert name in HEADERS, name
    return {"$ref": f"#/components/headers/{name}"}
