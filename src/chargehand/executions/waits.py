"""What a run can wait for, as its live row and its view tell it (SPEC EXE-7, EXE-18). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from chargehand.executions.states import Status

WaitKind = Literal["input", "tools", "approval", "event"]
Outcome = Literal["answered", "approved", "denied", "expired", "withdrawn"]
OnDeadline = Literal["fail", "continue", "cancel"]

STATUS_OF: dict[WaitKind, Status] = {
    "input": "awaiting_input",
    "tools": "awaiting_input",
    "approval": "awaiting_input",
    "event": "awaiting_event",
}
"""Approvals are input, too: SPEC EXE-1 has no third waiting state."""

REQUESTED: dict[WaitKind, str] = {
    "input": "input.requested",
    "tools": "input.requested",
    "approval": "approval.requested",
    "event": "event.awaited",
}
"""The event that tells of an open wait."""

START = (0, "")
"""Message and call of the event that a run waits for before it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A wait to be opened.

    ``request`` is what people and programs are told of it: a question, calls, an event.
    ``message_seq`` and ``call_id`` name the model's call that waits.
    """

    kind: WaitKind
    message_seq: int
    call_id: str
    request: Mapping[str, Any]
    deadline_s: float | None
    on_deadline: OnDeadline = "fail"

    def opened(self, at: datetime) -> tuple[dict[str, Any], datetime | None]:
        """The live row's ``wait``, and when it runs out."""
        deadline = None if self.deadline_s is None else at + timedelta(seconds=self.deadline_s)
        return {
            **self.request,
            "kind": self.kind,
            "message_seq": self.message_seq,
            "call_id": self.call_id,
            "opened_at": at.isoformat(),
        }, deadline


@dataclass(frozen=True, slots=True)
class Closed:
    """How a wait ended; ``answer`` depends on its kind."""

    outcome: Outcome
    request: Mapping[str, Any]
    answer: Any
    at: datetime


def told_of(
    number: int, wait: Mapping[str, Any], deadline: datetime | None, on_deadline: str | None
) -> dict[str, Any]:
    """An open wait as its event tells it."""
    told = {key: value for key, value in wait.items() if key not in ("message_seq", "results")}
    return {
        "wait": number,
        **told,
        "deadline_at": deadline.isoformat() if deadline else None,
        "on_deadline": on_deadline if deadline else None,
    }


Closings = Mapping[tuple[WaitKind, int, str], Closed]
"""(kind, message number, call id) → how that wait ended."""


def open_calls(wait: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The calls of a wait for the caller's tools that have no result yet."""
    results: Mapping[str, Any] = wait.get("results", {})
    calls: Sequence[Mapping[str, Any]] = wait["calls"]
    return [call for call in calls if call["call_id"] not in results]


def matches(wait: Mapping[str, Any], event_type: str, payload: Any) -> bool:
    """Whether an event is the awaited one: its type, and every member of the filter is equal."""
    wanted: Mapping[str, Any] = wait.get("filter") or {}
    if wait["event_type"] != event_type:
        return False
    if not wanted:
        return True
    return isinstance(payload, Mapping) and all(
        name in payload and payload[name] == value for name, value in wanted.items()
    )
