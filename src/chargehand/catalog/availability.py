"""Whether a provider answers right now (SPEC MOD-2): the port, which adapters implement. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CHECK_TIMEOUT_S = 5.0
"""SPEC MOD-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """What one check found. ``problem`` is for people, and None where the provider is available.

    ``models`` are the names that the provider itself lists, as far as it does.
    """

    available: bool
    latency_ms: int
    problem: str | None = None
    models: tuple[str, ...] = ()


class Availabilities(Protocol):
    """Checks of the connected providers."""

    async def check(self) -> Mapping[str, Availability]:
        """All of them at once, each within CHECK_TIMEOUT_S; never raises for a provider's fault."""
        ...


class NothingConnected:
    """Where no vendor is connected there is nothing to check."""

    async def check(self) -> Mapping[str, Availability]:
        return {}
