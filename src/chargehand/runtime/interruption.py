"""Abort what a run is waiting for when it is cancelled, lost, or out of time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from chargehand.executions.leases import require_lease
from chargehand.kernel.clock import now
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
    """Act on what has come for this run since it was last looked at.

    Raises CancelRequested, LeaseLost or Evicted; a pause is noted for after the step in hand.
    """
    run.interrupted.clear()
    run.require_fresh_lease()
    if run.evicted:
        raise Evicted
    async with out.database.hot(run.lease.organization_id) as connection:
        row = await connection.fetchrow(_SIGNALS, run.lease.execution_id, run.lease.epoch)
        require_lease(row, run.lease)
        run.wake_seq, kinds = row["wake_seq"], row["kinds"]
        if "cancel" in kinds or "kill" in kinds:
            raise CancelRequested
        run.pausing = kinds[-1:] == ["pause"]
        if kinds and not run.pausing:
            await connection.execute(_SETTLED, run.lease.execution_id, run.wake_seq, now())


_SIGNALS = """
select wake_seq, array(select kind from signals where execution_id = $1 and handled_at is null
    order by seq) as kinds
  from live_executions where execution_id = $1 and epoch = $2 and status = 'running'
"""

# A pause that was withdrawn in time: nothing is left to be done.
_SETTLED = """
with live as (
    update live_executions set handled_seq = $2 where execution_id = $1 and wake_seq = $2
    returning execution_id
)
update signals set handled_at = $3 from live
 where signals.execution_id = live.execution_id and handled_at is null
"""
