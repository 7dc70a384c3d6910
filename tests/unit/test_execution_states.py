"""EXE-1: the legal moves, and no other."""

import itertools

import pytest

from chargehand.executions.states import (
    MOVES,
    STATUSES,
    TERMINAL,
    InvalidTransition,
    Status,
    require_move,
)

LEGAL = {
    ("pending", "running paused awaiting_event cancelled failed"),
    ("running", "pending paused awaiting_input awaiting_event completed failed cancelled"),
    ("awaiting_input", "pending paused cancelled failed"),
    ("awaiting_event", "pending paused cancelled failed"),
    ("paused", "pending cancelled failed"),
}
ALLOWED = {(source, target) for source, targets in LEGAL for target in targets.split()}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(STATUSES, STATUSES)))
def test_every_move_is_legal_or_names_both_states(source: Status, target: Status) -> None:
    if (source, target) in ALLOWED:
        require_move(source, target)
        return
    with pytest.raises(InvalidTransition) as refused:
        require_move(source, target)
    assert refused.value.details == {"from": source, "to": target}
    assert source in refused.value.message
    assert target in refused.value.message


def test_a_paused_run_returns_only_to_where_it_was_paused() -> None:
    require_move("paused", "awaiting_input", paused_from="awaiting_input")
    with pytest.raises(InvalidTransition):
        require_move("paused", "awaiting_event", paused_from="awaiting_input")


def test_what_has_ended_never_changes() -> None:
    assert all(not MOVES[status] for status in TERMINAL)
    assert {"completed", "failed", "cancelled"} == TERMINAL
