"""The limits of a run (SPEC EXE-12, EXE-13). Pure."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from chargehand.agents.configuration import Limits

MAX_CHUNKS = 50
"""SPEC EXE-13."""


class Exceeded(NamedTuple):
    code: str
    message: str


def deadline_from(limits: Limits, first_claim: datetime) -> datetime:
    return first_claim + timedelta(seconds=limits.wall_time_s)


def overrun(limits: Limits, *, tokens: int, cost: Decimal) -> Exceeded | None:
    """The limit that the last answer went beyond, or None: one can cost more than was left."""
    if tokens > limits.tokens:
        return _used_up(f"{tokens} of its {limits.tokens} tokens", "tokens")
    if limits.cost_usd is not None and cost > limits.cost_usd:
        return _used_up(f"{cost} of its {limits.cost_usd} USD", "cost_usd")
    return None


def out_of_time(limits: Limits) -> Exceeded:
    return Exceeded(
        "ExecutionTimeout",
        f"The run took longer than its limit of {limits.wall_time_s:g} s. Raise "
        "limits.wall_time_s of the agent, or give it less to do.",
    )


def exceeded(
    limits: Limits, *, steps: int, tokens: int, cost: Decimal, chunk: int, late: bool
) -> Exceeded | None:
    """The first limit that forbids one more step, or None."""
    if late:
        return out_of_time(limits)
    if steps >= limits.steps:
        return _used_up(f"its {limits.steps} steps", "steps")
    if tokens >= limits.tokens:
        return _used_up(f"{tokens} of its {limits.tokens} tokens", "tokens")
    if limits.cost_usd is not None and cost >= limits.cost_usd:
        return _used_up(f"{cost} of its {limits.cost_usd} USD", "cost_usd")
    if chunk > MAX_CHUNKS:
        return _used_up(f"its {MAX_CHUNKS} chunks", "chunk_steps")
    return None


def _used_up(what: str, field: str) -> Exceeded:
    return Exceeded(
        "ResourceExhausted",
        f"The run has used up {what}. Raise limits.{field} of the agent, or give it less to do.",
    )
