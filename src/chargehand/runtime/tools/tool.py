"""What a tool is: a name, a schema for its arguments, and a function that answers with text."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from chargehand.kernel.errors import ChargehandError
from chargehand.kernel.identifiers import ExecutionId, OrganizationId
from chargehand.runtime.workspaces import Workspace

Effect = Literal["none", "idempotent", "ask", "unknown"]
"""What becomes of a call that was interrupted in the middle (SPEC EXE-4).

``none`` and ``idempotent``: it is made again, with the same idempotency key; ``ask``: a person
decides; ``unknown``: the model is told that the outcome is not known.
"""


@dataclass(slots=True)
class ToolContext:
    """What a call works on.

    ``state`` is the run's small state, checkpointed with each step: a tool keeps JSON values under
    a key of its own and replaces them whole, at its end, so that a failed call changes nothing.
    """

    organization_id: OrganizationId
    execution_id: ExecutionId
    idempotency_key: UUID
    workspace: Workspace | None = None
    state: dict[str, Any] = field(default_factory=dict)


Run = Callable[[ToolContext, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a call waits for; ``request`` is what people are told (see ``executions.waits``)."""

    kind: Literal["input", "event"]
    request: Mapping[str, Any]
    deadline_s: float
    on_deadline: Literal["fail", "continue", "cancel"]


Awaits = Callable[[dict[str, Any]], Awaited]
"""From the checked arguments of a call to what it waits for. Raises ToolFailed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """``parameters`` is a JSON Schema (2020-12) of an object; ``run`` gets arguments that fit it.

    ``run`` raises ToolFailed for what the model should know; anything else ends the run.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    effect: Effect
    run: Run
    awaits: Awaits | None = None
    """For a tool whose answer comes from outside: what a call waits for; ``run`` is not called."""


class ToolFailed(ChargehandError):
    """A call failed in a way that the model is told, and may mend."""

    code = "ToolFailed"
