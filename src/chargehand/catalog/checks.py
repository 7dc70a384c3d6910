"""Checks of the providers, kept for a while and shared by who asks at the same time (MOD-2).

However often callers ask, a vendor is asked at most once in ``KEPT_S`` by this process.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chargehand.catalog.availability import Availabilities, Availability
from chargehand.catalog.models import simulated_models
from chargehand.catalog.providers import SIMULATED
from chargehand.kernel.clock import now

KEPT_S = 10.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check found of each provider that can be used, and when it did (UTC)."""

    found: Mapping[str, Availability]
    at: datetime


@dataclass(slots=True)
class RecentChecks:
    """The newest check. ``clock`` is monotonic, in seconds; an object belongs to one event loop."""

    availabilities: Availabilities
    clock: Callable[[], float] = time.monotonic
    _running: "asyncio.Task[Checked] | None" = field(default=None, init=False)
    _newest: Checked | None = field(default=None, init=False)
    _good_until: float = field(default=0.0, init=False)

    async def newest(self) -> Checked:
        """A check that is at most ``KEPT_S`` old: the last one, the one under way, or a new one."""
        if self._newest is not None and self.clock() < self._good_until:
            return self._newest
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        # Shielded: a caller who hangs up ends the check for nobody else.
        return await asyncio.shield(self._running)

    async def _check(self) -> Checked:
        found = await self.availabilities.check()
        checked = Checked({SIMULATED: _always_available(), **found}, now())
        self._newest, self._good_until = checked, self.clock() + KEPT_S
        return checked


def _always_available() -> Availability:
    names = tuple(entry.name for entry in simulated_models())
    return Availability(available=True, latency_ms=0, models=names)
