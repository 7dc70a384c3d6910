"""The states of an execution and the only legal moves between them (SPEC EXE-1). Pure."""

from typing import Literal, get_args

from chargehand.kernel.errors import Conflict

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

STATUSES: tuple[Status, ...] = get_args(Status)
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})

MOVES: dict[Status, frozenset[Status]] = {
    "pending": frozenset({"running", "paused", "awaiting_event", "cancelled", "failed"}),
    "running": frozenset(
        {
            "pending",
            "paused",
            "awaiting_input",
            "awaiting_event",
            "completed",
            "failed",
            "cancelled",
        }
    ),
    "awaiting_input": frozenset({"pending", "paused", "cancelled", "failed"}),
    "awaiting_event": frozenset({"pending", "paused", "cancelled", "failed"}),
    "paused": frozenset({"pending", "awaiting_input", "awaiting_event", "cancelled", "failed"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""A paused run goes back only to the waiting state it was paused in; see ``require_move``."""


class InvalidTransition(Conflict):
    """A move that the table does not hold; the message names both states."""

    code = "InvalidTransition"


def require_move(source: Status, target: Status, *, paused_from: Status | None = None) -> None:
    """Raise InvalidTransition unless ``source`` may become ``target``."""
    waiting = target in ("awaiting_input", "awaiting_event")
    wrong_return = source == "paused" and waiting and target != paused_from
    if target not in MOVES[source] or wrong_return:
        legal = ", ".join(sorted(MOVES[source])) or "none: it has ended"
        raise InvalidTransition(
            f"An execution that is {source} cannot become {target}. Possible from here: {legal}.",
            **{"from": source, "to": target},
        )
