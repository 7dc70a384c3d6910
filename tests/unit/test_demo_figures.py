"""The demonstration's figures say what was simulated, and call nothing simulated that was not."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chargehand.cli.demo import Figures, Kill, Watched, figures_of, repeated, rows_of, verify
from chargehand.cli.review import INSTRUCTION, STEPS, play_of, simulated_play
from chargehand.cli.stage import DemoFailed
from chargehand.kernel.clock import now
from chargehand_client import Execution
from chargehand_client.executions import Usage

REAL = Figures(
    execution_id="0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34",
    status="completed",
    model="openai:gpt-4.1-mini",
    simulated=False,
    steps=11,
    steps_expected=None,
    steps_repeated=0,
    model_calls=6,
    tool_calls=5,
    tokens=12345,
    cost="0.0123",
    currency="USD",
    killed_worker="here:1:a",
    killed_after_step=3,
    taken_over_by="here:2:b",
    take_over_s=10.2,
    run_s=30.0,
    demo_s=40.0,
)


def test_a_real_model_is_named_with_its_tokens_and_its_cost() -> None:
    rows = dict(rows_of(REAL))
    assert rows["model"] == "openai:gpt-4.1-mini"
    assert (rows["tokens"], rows["cost"]) == ("12,345", "0.0123 USD")
    assert rows["steps"] == "11: 6 model calls, 5 tool calls"
    assert "simulated" not in str(rows)


def test_a_model_without_a_price_is_unpriced_and_costs_no_sum() -> None:
    rows = dict(rows_of(replace(REAL, cost=None)))
    assert rows["cost"].startswith("unpriced")
    assert not any(letter.isdigit() for letter in rows["cost"].replace(REAL.model, ""))


def test_what_is_simulated_says_so() -> None:
    simulated = replace(REAL, model="simulated:standard", simulated=True, steps_expected=11)
    rows = dict(rows_of(simulated))
    assert "model" not in rows
    assert rows["steps"].startswith("11 of 11: ")
    assert rows["tokens"] == "12,345 (simulated)"
    assert "nobody is paid" in rows["cost"]


PLAY = play_of("openai:gpt-4.1-mini", {"openai"})
WATCHED = Watched(3, Kill("here:1:a", 1, 3, 0.0), "here:2:b", 10.2)
ENDED = Execution(
    id=REAL.execution_id,
    agent_id="a",
    agent_version="1",
    status="completed",
    input="x",
    output="y",
    finish_reason="stop",
    steps=5,
    model_attempts=2,
    tool_calls=3,
    usage=Usage(10, 0, 0, 5, 0, 15),
    cost=Decimal("0.0123"),
    currency="USD",
    unpriced=False,
    error=None,
    waiting_for=None,
    pause_reason=None,
    force_killed=False,
    origin=None,
    warnings=(),
    metadata={},
    created_at=now(),
    scheduled_at=None,
    started_at=None,
    paused_at=None,
    completed_at=None,
    duration_ms=30_000,
    document={},
)


def answer(*calls: str) -> dict[str, Any]:
    return {"kind": "model", "tool_name": None, "tool_names": list(calls)}


def call(tool: str) -> dict[str, Any]:
    return {"kind": "tool", "tool_name": tool, "tool_names": []}


WHOLE = [answer("list", "read", "read"), call("list"), call("read"), call("read"), answer()]

TWICE = [*WHOLE[:2], WHOLE[1], *WHOLE[2:]]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (WHOLE, 0),
        (WHOLE[:-1], 0),
        ([answer("read"), call("read"), *WHOLE], 0),
        ([], 0),
        ([WHOLE[0], *WHOLE], 1),
        (TWICE, 1),
        ([*WHOLE[:4], WHOLE[3], WHOLE[4]], 1),
        ([*WHOLE, WHOLE[4]], 1),
        ([*WHOLE[:3], *WHOLE], 1),
        ([*WHOLE, *WHOLE], 1),
        ([*WHOLE[:4], WHOLE[2], WHOLE[3], WHOLE[4], WHOLE[4]], 3),
    ],
)
def test_a_step_that_was_not_due_was_done_twice(
    steps: Sequence[dict[str, Any]], expected: int
) -> None:
    assert repeated(steps) == expected


def test_a_step_that_was_done_twice_is_shown_and_fails_the_demo() -> None:
    whole, again = (figures_of(ENDED, steps, WATCHED, PLAY, 40) for steps in (WHOLE, TWICE))
    assert (whole.steps, whole.steps_repeated) == (5, 0)
    assert dict(rows_of(whole))["steps repeated"].startswith("none")
    verify(whole)
    assert (again.steps, again.steps_repeated) == (6, 1)
    assert dict(rows_of(again))["steps repeated"] == "1"
    with pytest.raises(DemoFailed, match="6 steps were stored, 5 expected"):
        verify(again)


def test_the_simulated_model_gets_its_script_by_either_name() -> None:
    assert play_of("simulated:standard", ()) == simulated_play()
    assert simulated_play().steps_expected == STEPS
    assert "@call" in simulated_play().input


def test_a_real_model_gets_an_instruction_without_directives_and_room_to_answer() -> None:
    known = play_of("openai:gpt-4.1-mini", {"openai"})
    unknown = play_of("openai-compatible:qwen3:8b", {"openai-compatible"})
    assert known.input == unknown.input == INSTRUCTION
    assert not any(line.startswith("@") for line in INSTRUCTION.splitlines())
    assert known.config["model"] == {
        "provider": "openai",
        "name": "gpt-4.1-mini",
        "max_tokens": 8000,
    }
    # Nobody knows how much it can write; too much would be refused.
    assert unknown.config["model"] == {"provider": "openai-compatible", "name": "qwen3:8b"}
    assert (known.simulated, known.steps_expected) == (False, None)
