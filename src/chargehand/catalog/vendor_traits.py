"""What the vendors' models have in common: the shape of their traits, usual parameters. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from chargehand.catalog.entries import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_TEMPERATURE,
    THINKING_MAX_TOKENS,
    Capability,
    Parameter,
)

EFFORTS = ("minimal", "low", "medium", "high")
"""The reasoning efforts that a configuration can name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a model of one vendor takes and does; see ``ModelEntry`` for the fields."""

    max_output_tokens: int | None
    capabilities: frozenset[Capability]
    parameters: Mapping[str, Parameter]
    excludes: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    budgets: Mapping[str, int] = field(default_factory=dict[str, int])


def temperature(maximum: float, *, default: bool) -> Parameter:
    """With the default of SPEC AGT-2, or with the vendor's own, which sends nothing."""
    value = DEFAULT_TEMPERATURE if default else None
    return Parameter(kind="number", minimum=0, maximum=maximum, default=value)


def max_tokens(limit: int | None, *, thinks: bool, minimum: int = 1) -> Parameter:
    """``thinks``: whether the model thinks unasked."""
    default = THINKING_MAX_TOKENS if thinks else DEFAULT_MAX_TOKENS
    return Parameter(
        kind="integer", minimum=minimum, maximum=limit, default=min(default, limit or default)
    )


def reasoning_effort(accepted: Collection[str]) -> Parameter:
    """``accepted`` may name efforts that a configuration cannot."""
    choices = tuple(effort for effort in EFFORTS if effort in accepted)
    return Parameter(kind="choice", choices=choices)


TOP_P = Parameter(kind="number", minimum=0, maximum=1)
PENALTY = Parameter(kind="number", minimum=-2, maximum=2)
EXTRA = Parameter(kind="object")


def limit_of(name: str, limits: Mapping[str, int]) -> int | None:
    """The limit of the longest beginning of ``name`` that ``limits`` has; None is unknown."""
    begun = [beginning for beginning in limits if name.startswith(beginning)]
    return limits[max(begun, key=len)] if begun else None
