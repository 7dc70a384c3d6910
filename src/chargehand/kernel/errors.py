"""The error tree.

    ChargehandError
    ├── NotFound          the thing is not there, or not for this caller
    ├── Conflict          the thing is in another state than the request needs
    ├── Denied            the caller is known and may not
    ├── Unauthenticated   the caller is not known
    ├── Invalid           the request itself is wrong
    ├── LimitReached      a rate, slot, quota or budget is used up
    ├── Unavailable       a part of the service cannot answer now
    └── UpstreamFailed    a peer (a model provider) failed

Each subclass lives beside the code that raises it; ``web/error_codes.py`` holds the
HTTP status of each code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ChargehandError(Exception):
    """An error that a caller can act on.

    ``code`` is stable and in CamelCase (the closed table of SPEC API-1); ``message`` says what
    happened, where, and what to do; ``details`` holds what a program can act on (ids, violations,
    remedies) and must be JSON-serialisable.
    """

    code: str = "InternalError"

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.message = message
        self.details: Mapping[str, Any] = details


class NotFound(ChargehandError):
    code = "NotFound"


class Conflict(ChargehandError):
    code = "Conflict"


class Denied(ChargehandError):
    code = "InsufficientPermissions"


class Unauthenticated(ChargehandError):
    code = "Unauthenticated"


class Invalid(ChargehandError):
    code = "InvalidInput"


class LimitReached(ChargehandError):
    """``details['retry_after_s']`` is set where waiting helps."""

    code = "RateLimitExceeded"


class Unavailable(ChargehandError):
    code = "Unavailable"


class UpstreamFailed(ChargehandError):
    code = "ModelProviderFailed"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a document: where (an RFC 6901 JSON pointer) and what."""

    pointer: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"pointer": self.pointer, "message": self.message}


def pointer(path: Sequence[str | int]) -> str:
    """The RFC 6901 JSON pointer of a path; ``""`` is the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
