"""The events of runs, typed, as the service streams them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, cast

from chargehand_client.documents import WaitedCall


class Position(NamedTuple):
    """Where an event stands in its run's story; later events compare greater.

    A worker that takes a run over begins a new ``epoch``; ``seq`` grows within the run.
    """

    epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read ``<epoch>.<seq>``. Raises ValueError."""
        epoch, _, seq = text.partition(".")
        return cls(int(epoch), int(seq))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Any event; one whose ``type`` this client does not know is exactly this class.

    ``id`` is what ``after`` takes, in the stream that it came from; ``data`` is the whole document
    as it came; ``execution_id`` is the run's.
    """

    id: str
    type: str
    data: Mapping[str, Any]
    execution_id: str

    @property
    def position(self) -> Position:
        """Raises ValueError for an event of ``follow_user``, whose ids are of another form."""
        return Position.parse(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(Event):
    """``taken_over``: ``worker`` goes on with what another worker left behind."""

    status: str
    step_count: int = 0
    token_usage: Any = None
    completed_at: str | None = None
    epoch: int | None = None
    worker: str | None = None
    taken_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    step_number: int
    step_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted(Event):
    """``cost`` is a decimal number as text, in the run's currency."""

    step_number: int
    step_type: str = ""
    has_tool_calls: bool = False
    tool_names: list[str]
    tokens_used: int = 0
    duration_ms: int = 0
    cost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(Event):
    step_number: int
    tool_name: str
    call_id: str = ""
    arguments: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCompleted(Event):
    """``error`` is None where the tool succeeded; ``output_preview`` is its result's beginning."""

    step_number: int
    tool_name: str
    call_id: str = ""
    error: Any = None
    output_preview: str | None = None
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDelta(Event):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReset(Event):
    """What came of the answer so far is void: the model is asked again."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequested(Event):
    """The run waits for an answer to ``question``, or, where ``kind`` is ``tools``, for results.

    Answers can name it by ``wait``, its number.
    """

    kind: str
    wait: int | None = None
    call_id: str = ""
    question: str | None = None
    answer_schema: Mapping[str, Any] | None = None
    calls: list[WaitedCall] = field(default_factory=list[WaitedCall])
    opened_at: str = ""
    deadline_at: str | None = None
    on_deadline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(Event):
    """The run waits until ``persons`` persons have approved its call, or one has denied it.

    They name it by ``wait``, its number. ``reason`` is ``needs_approval``, or ``interrupted`` where
    the call may have had its effect.
    """

    wait: int
    calls: list[WaitedCall]
    call_id: str = ""
    reason: str = ""
    persons: int = 1
    opened_at: str = ""
    deadline_at: str | None = None
    on_deadline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAwaited(Event):
    """The run waits for an event of the organization, whose payload has all of ``filter``."""

    event_type: str
    wait: int | None = None
    call_id: str = ""
    filter: Mapping[str, Any] = field(default_factory=dict[str, Any])
    opened_at: str = ""
    deadline_at: str | None = None
    on_deadline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWritten(Event):
    """A line of the run's log, as ``logs`` has it; only for keys that may read it.

    ``level`` is ``debug``, ``info``, ``warning`` or ``error``; ``event_type`` is what it tells of,
    as in ``step.tool``, and decides what is in ``context``; ``at`` is when, in ISO 8601.
    """

    level: str = "info"
    event_type: str = ""
    message: str = ""
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported(Event):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Event):
    """The run has ended; nothing follows. ``error`` has code, message and details, or is None."""

    status: str
    error: Mapping[str, Any] | None = None
    steps: int = 0
    usage: Mapping[str, Any] | None = None
    cost: str | None = None


KINDS: Mapping[str, type[Event]] = {
    "status.changed": StatusChanged,
    "step.started": StepStarted,
    "step.completed": StepCompleted,
    "tool.started": ToolStarted,
    "tool.completed": ToolCompleted,
    "output.delta": OutputDelta,
    "output.reset": OutputReset,
    "input.requested": InputRequested,
    "approval.requested": ApprovalRequested,
    "event.awaited": EventAwaited,
    "log": LogWritten,
    "usage": UsageReported,
    "done": Done,
}


def read_event(event_id: str, event_type: str, data: str, execution_id: str | None) -> Event:
    """The typed event of one server-sent event; ``execution_id`` is None where its data has it.

    What a newer service adds (types, fields) stays readable in ``type`` and ``data``; so does an
    event of a known type that lacks what its class needs. Raises ValueError where ``data`` is not a
    JSON object, or does not say which run it is of.
    """
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError(f"event {event_id} is not a JSON object")
    document = cast(dict[str, Any], document)
    run = execution_id or document.get("execution_id")
    if not isinstance(run, str):
        raise ValueError(f"event {event_id} does not say which run it is of")
    kind = KINDS.get(event_type, Event)
    known = {each.name for each in fields(kind)} - {each.name for each in fields(Event)}
    given = {name: document[name] for name in known & document.keys()}
    try:
        return kind(id=event_id, type=event_type, data=document, execution_id=run, **given)
    except TypeError:
        return Event(id=event_id, type=event_type, data=document, execution_id=run)
