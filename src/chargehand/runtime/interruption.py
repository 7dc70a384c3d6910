"""Abort what a run is waiting for when it is cancelled, lost, or out of time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.runtime.runs import Outside, Run

T = TypeVar("T")


class CancelRequested(Exception):
    """Somebody with the right to do so has cancelled the run."""


class Evicted(Exception):
    """The worker must end and has no more time for the step in hand."""


class OutOfTime(Exception):
    """The run has reached its wall-time limit."""


async def interruptible(run: Run, out: Outside, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, but abort it when the run is cancelled, lost, or out of time.

    Raises CancelRequested, LeaseLost, Evicted or OutOfTime then, after ``work`` has ended.
    """
    task = asyncio.create_task(work)
    try:
        while True:
            left_s = (run.deadline - now()).total_seconds()
            bell = asyncio.create_task(run.interrupted.wait())
            await asyncio.wait({task, bell}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            bell.cancel()
            if task.done():
                return task.result()
            if now() >= run.deadline:
                raise OutOfTime
            await look_for_signals(run, out)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def look_for_signals(run: Run, out: Outside) -> None:
    """Act on what has come for this run since it was last looked at."""
    run.interrupted.clear()
    run.require_fresh_lease()
    if run.evicted:
        raise Evicted
    async with out.database.hot(run.lease.organization_id) as connection:
        if await _cancelled(connection, run):
            raise CancelRequested


async def _cancelled(connection: Connection, run: Run) -> bool:
    return await connection.fetchval(
        "select exists (select from signals where execution_id = $1 and kind = 'cancel' "
        "and handled_at is null)",
        run.lease.execution_id,
    )
