"""What the service answers about a run, typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Self

from chargehand_client.documents import Origin, Waiting
from chargehand_client.errors import run_error_of

Status = Literal[
    "pending",
    "running",
    "awaiting_input",
    "awaiting_event",
    "paused",
    "completed",
    "failed",
    "cancelled",
]

ENDED = frozenset({"completed", "failed", "cancelled"})
WAITING_FOR_A_PERSON = frozenset({"awaiting_input", "paused"})

_GOING_ON = frozenset({"pending", "running", "awaiting_event"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the providers counted them."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed."""

    code: str
    message: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run; ``document`` is the whole answer, with what this client does not know yet.

    ``cost`` is in ``currency``; where ``unpriced`` is true, part of it is unknown and not in it.
    Times are aware and in UTC.
    """

    id: str
    agent_id: str
    agent_version: str
    status: str
    input: Any
    output: Any
    finish_reason: str | None
    steps: int
    model_attempts: int
    tool_calls: int
    usage: Usage
    cost: Decimal
    currency: str
    unpriced: bool
    error: Failure | None
    waiting_for: Waiting | None
    pause_reason: str | None
    force_killed: bool
    origin: Origin | None
    warnings: Sequence[Any]
    metadata: Mapping[str, Any]
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    paused_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    document: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def settled(self) -> bool:
        """Whether nothing happens before somebody does something."""
        return self.status not in _GOING_ON

    def raise_for_failure(self) -> Self:
        """The execution itself, unless it failed or was cancelled.

        Raises RunFailed: by the code of ``error`` where it failed, as such where it was cancelled.
        """
        if self.error is not None:
            code, message, details = self.error.code, self.error.message, self.error.details
            raise run_error_of(code, message, details, self.id)
        if self.status == "cancelled":
            raise run_error_of("Cancelled", f"Run {self.id} was cancelled.", {}, self.id)
        return self

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read the service's document of an execution."""
        failure = document["error"]
        return cls(
            id=document["id"],
            agent_id=document["agent_id"],
            agent_version=document["agent_version"],
            status=document["status"],
            input=document["input"],
            output=document["output"],
            finish_reason=document["finish_reason"],
            steps=document["steps"],
            model_attempts=document["model_attempts"],
            tool_calls=document["tool_calls"],
            usage=Usage(**{name: document["usage"][name] for name in Usage.__slots__}),
            cost=Decimal(document["cost"]),
            currency=document["currency"],
            unpriced=document["unpriced"],
            error=failure and Failure(failure["code"], failure["message"], failure["details"]),
            waiting_for=document["waiting_for"],
            pause_reason=document["pause_reason"],
            force_killed=document["force_killed"],
            origin=document["origin"],
            warnings=document["warnings"],
            metadata=document["metadata"],
            created_at=datetime.fromisoformat(document["created_at"]),
            scheduled_at=_time(document["scheduled_at"]),
            started_at=_time(document["started_at"]),
            paused_at=_time(document["paused_at"]),
            completed_at=_time(document["completed_at"]),
            duration_ms=document["duration_ms"],
            document=document,
        )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
