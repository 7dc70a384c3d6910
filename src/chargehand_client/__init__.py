"""The Python client of Chargehand.

with Chargehand() as chargehand:
    print(chargehand.run("assistant", "Hello").output)

``AsyncChargehand`` is the same for asyncio. What the methods answer is typed in
``chargehand_client.documents``; each error code of the service has an exception here.
"""

from typing import TYPE_CHECKING, Any

from chargehand_client.client import Chargehand
from chargehand_client.errors import (
    AgentAccessDenied,
    AgentArchived,
    AgentNotExecutable,
    AgentNotFound,
    AlreadyApproved,
    ApiError,
    ArgumentRefused,
    BadArchive,
    ChargehandClientError,
    Conflict,
    DatabaseUnavailable,
    Denied,
    DuplicateAgentName,
    DuplicateAgentSlug,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTimeout,
    FileRefused,
    FolderRefused,
    IdempotencyKeyReused,
    InsufficientPermissions,
    InternalError,
    Invalid,
    InvalidAgentConfig,
    InvalidInput,
    InvalidTransition,
    KeyNotFound,
    LimitReached,
    MemberNotFound,
    MethodNotAllowed,
    ModelProviderFailed,
    NotConfigured,
    NotFound,
    OrganizationLimitExceeded,
    OutputInvalid,
    PayloadTooLarge,
    PreconditionFailed,
    RateLimitExceeded,
    ResourceExhausted,
    RouteNotFound,
    RunFailed,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UnsupportedMediaType,
    UploadNotFound,
    UpstreamFailed,
    VersionConflict,
    VersionNotFound,
    VisibilityViolation,
    WaitClosed,
    WorkerLost,
)
from chargehand_client.events import (
    ApprovalRequested,
    Done,
    Event,
    EventAwaited,
    InputRequested,
    LogWritten,
    OutputDelta,
    OutputReset,
    StatusChanged,
    StepCompleted,
    StepStarted,
    ToolCompleted,
    ToolStarted,
    UsageReported,
)
from chargehand_client.executions import (
    Execution,
    Failure,
    Usage,
)
from chargehand_client.options import (
    AgentChanges,
    AgentFields,
    AgentFilters,
    ExecutionFilters,
    ForkChanges,
    ModelFilters,
    RunOptions,
)
from chargehand_client.sync.runs import (
    Run,
)
from chargehand_client.sync.streams import (
    EventStream,
)

if TYPE_CHECKING:
    from chargehand_client.aio.runs import AsyncRun
    from chargehand_client.aio.streams import AsyncEventStream
    from chargehand_client.async_client import AsyncChargehand

__all__ = [
    "AgentAccessDenied",
    "AgentArchived",
    "AgentChanges",
    "AgentFields",
    "AgentFilters",
    "AgentNotExecutable",
    "AgentNotFound",
    "AlreadyApproved",
    "ApiError",
    "ApprovalRequested",
    "ArgumentRefused",
    "AsyncChargehand",
    "AsyncEventStream",
    "AsyncRun",
    "BadArchive",
    "Chargehand",
    "ChargehandClientError",
    "Conflict",
    "DatabaseUnavailable",
    "Denied",
    "Done",
    "DuplicateAgentName",
    "DuplicateAgentSlug",
    "Event",
    "EventAwaited",
    "EventStream",
    "Execution",
    "ExecutionFailed",
    "ExecutionFilters",
    "ExecutionNotFound",
    "ExecutionTimeout",
    "Failure",
    "FileRefused",
    "FolderRefused",
    "ForkChanges",
    "IdempotencyKeyReused",
    "InputRequested",
    "InsufficientPermissions",
    "InternalError",
    "Invalid",
    "InvalidAgentConfig",
    "InvalidInput",
    "InvalidTransition",
    "KeyNotFound",
    "LimitReached",
    "LogWritten",
    "MemberNotFound",
    "MethodNotAllowed",
    "ModelFilters",
    "ModelProviderFailed",
    "NotConfigured",
    "NotFound",
    "OrganizationLimitExceeded",
    "OutputDelta",
    "OutputInvalid",
    "OutputReset",
    "PayloadTooLarge",
    "PreconditionFailed",
    "RateLimitExceeded",
    "ResourceExhausted",
    "RouteNotFound",
    "Run",
    "RunFailed",
    "RunOptions",
    "StatusChanged",
    "StepCompleted",
    "StepStarted",
    "ToolCompleted",
    "ToolStarted",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "UnsupportedMediaType",
    "UploadNotFound",
    "UpstreamFailed",
    "Usage",
    "UsageReported",
    "VersionConflict",
    "VersionNotFound",
    "VisibilityViolation",
    "WaitClosed",
    "WorkerLost",
]


def __getattr__(name: str) -> Any:
    """What needs asyncio is imported by those who want it: it takes longer than all the rest."""
    if name == "AsyncChargehand":
        from chargehand_client.async_client import AsyncChargehand

        return AsyncChargehand
    if name == "AsyncEventStream":
        from chargehand_client.aio.streams import AsyncEventStream

        return AsyncEventStream
    if name == "AsyncRun":
        from chargehand_client.aio.runs import AsyncRun

        return AsyncRun
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
