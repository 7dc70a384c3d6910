"""What the client raises.

ChargehandClientError
├── NotConfigured       no address or no key was given, or none that can be used
├── ArgumentRefused     what was given cannot be sent: no slug or id, nothing that JSON can hold
├── FolderRefused       the folder cannot be packed
├── FileRefused         the file cannot be uploaded
├── Unreachable         no answer, after several tries
├── RunFailed           a run failed; only where one asks, with Execution.raise_for_failure
└── ApiError            the service answered with an error
    ├── Invalid           400, 405, 413, 415: the request itself is wrong
    ├── Unauthenticated   401: the key is missing, unknown, expired or revoked
    ├── Denied            403: the key may not
    ├── NotFound          404: not there, or not for this key
    ├── Conflict          409, 412, 422: it is in another state than the request needs
    ├── LimitReached      429, and 403 for an organization's own limit
    ├── UpstreamFailed    502: a model provider failed
    └── Unavailable       503, 504: a part of the service cannot answer now

Below these kinds each code of the service has an exception of its own, called like the code. The
code of a newer service, which this client does not know, is raised as its kind.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast


class ChargehandClientError(Exception):
    """Base of everything that the client raises; ``message`` says what, where and what to do."""

    code = "ClientError"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = {}


class NotConfigured(ChargehandClientError):
    """No address or no key was given, or none that can be used."""

    code = "NotConfigured"


class ArgumentRefused(ChargehandClientError):
    """What was given cannot be sent at all."""

    code = "ArgumentRefused"


class FolderRefused(ChargehandClientError):
    """The folder cannot be packed: it holds nothing, too much, or what cannot be read."""

    code = "FolderRefused"


class FileRefused(ChargehandClientError):
    """The file cannot be read, or is too large."""

    code = "FileRefused"


class Unreachable(ChargehandClientError):
    """The service did not answer, several times in a row, or something else did."""

    code = "Unreachable"


class ApiError(ChargehandClientError):
    """An answer of the service that is an error.

    ``code`` is stable and in CamelCase; ``details`` holds what a program can act on;
    ``request_id`` is what the operator can look up.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        details: Mapping[str, Any],
        request_id: str,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which the same request may succeed, where the service said so."""
        seconds = self.details.get("retry_after_s")
        return None if seconds is None else float(seconds)


class Invalid(ApiError):
    """The request itself is wrong; ``details["violations"]`` says where."""


class Unauthenticated(ApiError):
    """The key is missing, unknown, expired or revoked."""


class Denied(ApiError):
    """The key may not."""


class NotFound(ApiError):
    """It is not there, or not for this key."""


class Conflict(ApiError):
    """It is in another state than the request needs."""


class LimitReached(ApiError):
    """A rate, slot, quota or budget is used up."""


class UpstreamFailed(ApiError):
    """A model provider failed."""


class Unavailable(ApiError):
    """A part of the service cannot answer now."""


class InvalidInput(Invalid):
    """A field of the request, or the input of a run, is wrong."""


class InvalidAgentConfig(Invalid):
    """An agent's document is wrong; all that is wrong is named."""


class BadArchive(Invalid):
    """An uploaded folder's archive is damaged or holds what none may."""


class PayloadTooLarge(Invalid):
    """The body is larger than the installation takes."""


class UnsupportedMediaType(Invalid):
    """The body is not declared as what the route takes."""


class MethodNotAllowed(Invalid):
    """The route does not take this method."""


class AgentAccessDenied(Denied):
    """The key's scopes, or its user, may not do this with the agent or run."""


class InsufficientPermissions(Denied):
    """The role of the key's user is too low."""


class VisibilityViolation(Denied):
    """The agent is not shared with the key's user."""


class AgentNotFound(NotFound):
    """There is no such agent for this key."""


class ExecutionNotFound(NotFound):
    """There is no such execution for this key."""


class KeyNotFound(NotFound):
    """There is no such key for this key."""


class MemberNotFound(NotFound):
    """There is no such member of the organization."""


class RouteNotFound(NotFound):
    """The service has no such route: it may be older than this client."""


class UploadNotFound(NotFound):
    """There is no such upload for this key."""


class VersionNotFound(NotFound):
    """The agent has no such version."""


class AgentArchived(Conflict):
    """An archived agent is not changed any more."""


class AgentNotExecutable(Conflict):
    """The agent cannot be run: not published, not active, or unusable here."""


class DuplicateAgentName(Conflict):
    """Another agent of the owner has this name."""


class DuplicateAgentSlug(Conflict):
    """Another agent of the organization has this slug."""


class IdempotencyKeyReused(Conflict):
    """The idempotency key was used for another request."""


class InvalidTransition(Conflict):
    """The run is in a state that does not allow it."""


class WaitClosed(Conflict):
    """The run waits for something else than what was sent."""


class AlreadyApproved(Conflict):
    """You have approved the call before, and it needs other persons too."""


class PreconditionFailed(Conflict):
    """It has changed since the revision that was given."""


class VersionConflict(Conflict):
    """The version's number or state does not allow it."""


class OrganizationLimitExceeded(LimitReached):
    """The organization has as many, or as much, as its tier allows."""


class RateLimitExceeded(LimitReached):
    """Too many at a time; ``retry_after_s`` says when to come back."""


class DatabaseUnavailable(Unavailable):
    """The service's database does not answer just now; nothing was half done."""


class InternalError(ApiError):
    """A defect of the service; its operator finds it by ``request_id``."""


class RunFailed(ChargehandClientError):
    """A run failed; raised by ``Execution.raise_for_failure`` only. ``execution_id`` is the run."""

    def __init__(
        self, message: str, *, code: str, details: Mapping[str, Any], execution_id: str
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        self.execution_id = execution_id


class ExecutionFailed(RunFailed):
    """A defect of the service ended the run; the worker's log has its cause."""


class ExecutionTimeout(RunFailed):
    """The run took longer than its wall time, or waited until a deadline."""


class ModelProviderFailed(RunFailed):
    """The model's provider gave no usable answer, also after further attempts."""


class OutputInvalid(RunFailed):
    """The output does not fit the agent's output schema, also after a repair round."""


class ResourceExhausted(RunFailed):
    """The run has used up its steps, tokens, money or chunks, or made one call too often."""


class WorkerLost(RunFailed):
    """The run lost its worker several times without completing a step."""


ErrorKind = TypeVar("ErrorKind", bound=ChargehandClientError)


def _by_code(kind: type[ErrorKind]) -> dict[str, type[ErrorKind]]:
    """The exception of each code: the one that is called like it."""
    found = {kind.__name__: kind}
    for each in kind.__subclasses__():
        found |= _by_code(each)
    return found


API_ERRORS = _by_code(ApiError)
RUN_ERRORS = _by_code(RunFailed)
# A code that this client does not know falls to the kind that its status stands for.
_KIND_OF_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    412: Conflict,
    413: Invalid,
    415: Invalid,
    422: Conflict,
    429: LimitReached,
    502: UpstreamFailed,
    503: Unavailable,
    504: Unavailable,
}


def run_error_of(
    code: str, message: str, details: Mapping[str, Any], execution_id: str
) -> RunFailed:
    """The error that a failed run's ``error`` means."""
    kind = RUN_ERRORS.get(code, RunFailed)
    return kind(message, code=code, details=details, execution_id=execution_id)


def error_of(status: int, body: bytes, where: str) -> ApiError:
    """The error that an answer means; ``where`` (method and address) names it if it is not ours.

    A proxy's page has no envelope: then the code is ``HTTP`` and the status.
    """
    envelope = _envelope(body)
    code = str(envelope.get("code") or f"HTTP{status}")
    kind = API_ERRORS.get(code) or _KIND_OF_STATUS.get(status, ApiError)
    message = envelope.get("message") or (
        f"{where} answered with status {status} and without Chargehand's error envelope. "
        "Check that CHARGEHAND_URL is the address of Chargehand and not of something before it."
    )
    return kind(
        str(message),
        status=status,
        code=code,
        details=envelope.get("details") or {},
        request_id=str(envelope.get("request_id") or ""),
    )


def _envelope(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    error = cast(Any, document).get("error") if isinstance(document, dict) else None
    return cast(Mapping[str, Any], error) if isinstance(error, dict) else {}
