"""A run as its owner holds it in memory: what was loaded at the claim, and what came since."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from pydantic_ai.messages import ModelMessage

from chargehand.agents.configuration import AgentConfig
from chargehand.executions.leases import Lease, LeaseLost
from chargehand.executions.live import Bells
from chargehand.executions.waits import Closings
from chargehand.kernel.database import Database
from chargehand.kernel.jobs import Doorbell
from chargehand.runtime.ports import CallPolicy, ModelProvider
from chargehand.usage.records import Spender


@dataclass(frozen=True, slots=True)
class OpenEffect:
    """A call that was about to be made when its worker was lost."""

    idempotency_key: UUID
    started_at: datetime


@dataclass(slots=True)
class Run:
    """One claimed run. ``messages`` pairs each stored message with its number; 0 is the input."""

    lease: Lease
    spender: Spender
    config: AgentConfig
    messages: list[tuple[int, ModelMessage]]
    state: dict[str, Any]
    open_effects: Mapping[tuple[int, str], OpenEffect]
    """(message number, call id) → of the calls that began and have no result."""
    closings: Closings
    """How the waits of this run have ended so far."""
    client_tools: Sequence[Mapping[str, Any]]
    """The tools that the caller answers for."""
    wake_seq: int
    """The last signal that has been looked at."""
    wait_seq: int
    """The last wait that has been opened."""
    workspace_files: Sequence[Any] | None
    steps: int
    chunk: int
    deadline: datetime
    """When its wall time is used up; the time that nobody ran it does not count."""
    lease_s: float
    lease_until: float
    """On the monotonic clock: when our own reading says that the lease has run out."""
    input_tokens: int
    output_tokens: int
    cost: Decimal
    losses: int
    stored_state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """``state`` as the last checkpoint has it."""
    pausing: bool = False
    """Somebody wants it paused after the step in hand."""
    steps_in_chunk: int = 0
    partial_text: list[str] = field(default_factory=list[str])
    text_left: bool = False
    """Whether ``partial_text`` is of the step in hand, and listeners have been told of it."""
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    evicted: bool = False

    @property
    def history(self) -> list[ModelMessage]:
        return [message for _, message in self.messages]

    def interrupt(self, *, lost: bool = False, evicted: bool = False) -> None:
        """Called by the worker: a signal has come, the lease is gone, or the worker must end."""
        self.lost = self.lost or lost
        self.evicted = self.evicted or evicted
        self.interrupted.set()

    def require_fresh_lease(self) -> None:
        """Raise LeaseLost if the lease has run out by our own clock.

        The fence refuses late writes; this keeps a process that was stopped from calling a model
        or a tool while another worker already runs this.
        """
        if self.lost or time.monotonic() >= self.lease_until:
            raise LeaseLost(f"The lease of execution {self.lease.execution_id} has run out.")

    def idempotency_key(self, message_seq: int, call_id: str) -> UUID:
        """Stable for one tool call, however often it is tried, also by a retry of the run."""
        if (begun := self.open_effects.get((message_seq, call_id))) is not None:
            return begun.idempotency_key
        return uuid5(self.lease.execution_id, f"{message_seq}:{call_id}")


@dataclass(frozen=True, slots=True)
class Outside:
    """What a run reaches beyond itself."""

    database: Database
    bells: Bells
    doorbell: Doorbell
    providers: Mapping[str, ModelProvider]
    draining: Callable[[], bool]
    max_losses: int
    """Lease losses without a new step after which a run fails with WorkerLost (SPEC EXE-14)."""
    call_policy: CallPolicy
