"""Checks of the vendors are kept and shared (SPEC MOD-2), whoever comes and goes."""

import asyncio
from collections.abc import Mapping

import pytest

from chargehand.catalog.availability import Availability
from chargehand.catalog.checks import KEPT_S, RecentChecks


class Vendors:
    """Answers once it is let, or fails; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.failure: Exception | None = None

    async def check(self) -> Mapping[str, Availability]:
        self.asked += 1
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {"openai": Availability(available=True, latency_ms=self.asked)}


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


async def asked(vendors: Vendors) -> None:
    async with asyncio.timeout(5):
        while not vendors.asked:
            await asyncio.sleep(0)


def test_a_check_is_kept_as_long_as_the_specification_says() -> None:
    assert KEPT_S == 10


async def test_a_check_is_kept_for_a_while_and_then_made_again() -> None:
    vendors, clock = Vendors(), Clock()
    vendors.may_answer.set()
    checks = RecentChecks(vendors, clock)
    first = await checks.newest()
    clock.at += KEPT_S - 0.1
    assert await checks.newest() is first
    clock.at += 0.2
    second = await checks.newest()
    assert vendors.asked == 2
    assert second.found["openai"].latency_ms == 2
    assert second.at >= first.at


async def test_it_is_kept_from_its_end_however_long_it_took() -> None:
    vendors, clock = Vendors(), Clock()
    checks = RecentChecks(vendors, clock)
    first = asyncio.create_task(checks.newest())
    await asked(vendors)
    clock.at += 2 * KEPT_S
    vendors.may_answer.set()
    assert await checks.newest() is await first
    assert vendors.asked == 1


async def test_who_hangs_up_ends_the_check_for_nobody_else() -> None:
    vendors = Vendors()
    checks = RecentChecks(vendors)
    first, second = (asyncio.create_task(checks.newest()) for _ in range(2))
    await asked(vendors)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    vendors.may_answer.set()
    assert (await second).found["openai"].available
    assert vendors.asked == 1


async def test_a_defect_reaches_its_callers_and_is_not_kept() -> None:
    vendors = Vendors()
    vendors.failure = RuntimeError("a defect of the adapter")
    vendors.may_answer.set()
    checks = RecentChecks(vendors)
    with pytest.raises(RuntimeError, match="a defect"):
        await checks.newest()
    vendors.failure = None
    assert (await checks.newest()).found["openai"].available


async def test_the_simulated_provider_is_always_available() -> None:
    vendors = Vendors()
    vendors.may_answer.set()
    simulated = (await RecentChecks(vendors).newest()).found["simulated"]
    assert simulated.available
    assert "standard" in simulated.models
