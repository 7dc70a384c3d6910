"""EXE-12, EXE-13: the first limit that forbids one more step is told."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from chargehand.agents.configuration import Limits
from chargehand.runtime.limits import MAX_CHUNKS, deadline_from, exceeded, overrun

LIMITS = Limits(steps=3, tokens=100, wall_time_s=60, cost_usd=Decimal("0.5"))
WITHIN: dict[str, Any] = {
    "steps": 2,
    "tokens": 99,
    "cost": Decimal("0.49"),
    "chunk": MAX_CHUNKS,
    "late": False,
}


def test_within_all_limits_nothing_is_exceeded() -> None:
    assert exceeded(LIMITS, **WITHIN) is None


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"late": True}, "ExecutionTimeout", "wall_time_s"),
        ({"steps": 3}, "ResourceExhausted", "limits.steps"),
        ({"tokens": 100}, "ResourceExhausted", "limits.tokens"),
        ({"cost": Decimal("0.5")}, "ResourceExhausted", "limits.cost_usd"),
        ({"chunk": MAX_CHUNKS + 1}, "ResourceExhausted", "chunk"),
    ],
)
def test_each_limit_is_reached_exactly_at_its_value(
    change: dict[str, Any], code: str, field: str
) -> None:
    found = exceeded(LIMITS, **{**WITHIN, **change})
    assert found is not None
    assert found.code == code
    assert field in found.message


def test_the_wall_time_counts_from_the_first_claim() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert (deadline_from(LIMITS, start) - start).total_seconds() == 60


def test_an_answer_may_use_all_that_was_left_but_no_more() -> None:
    assert overrun(LIMITS, tokens=100, cost=Decimal("0.5")) is None
    beyond = overrun(LIMITS, tokens=101, cost=Decimal(0))
    assert beyond is not None
    assert "limits.tokens" in beyond.message
    dear = overrun(LIMITS, tokens=1, cost=Decimal("0.51"))
    assert dear is not None
    assert "limits.cost_usd" in dear.message
