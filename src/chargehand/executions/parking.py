"""An owner lets go of its run: it waits, is paused, or is another's turn (SPEC EXE-6, 7, 13).

Parking is refused where a signal has come that the owner has not seen (``wake_seq``): else a signal
whose ring was early would find nobody, and the run would rest for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chargehand.executions import admission
from chargehand.executions.journal import Event
from chargehand.executions.leases import Lease, require_events, require_lease
from chargehand.executions.log_lines import TOLD
from chargehand.executions.states import Status
from chargehand.executions.waits import REQUESTED, STATUS_OF, Wait, told_of
from chargehand.kernel import jobs
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection

PARK = f"""
with before as (
    select * from live_executions
     where execution_id = $1 and epoch = $8 and status = 'running' and wake_seq = $9 for update
), fence as (
    update live_executions as l
       set status = $10::text, owner = null, lease_expires_at = null, slot = false,
           ready_at = clock_timestamp(), handled_seq = l.wake_seq,
           paused_from = case when $10::text = 'paused' then 'pending' end,
           wait_kind = $11::text, wait = $12, wait_deadline = $13, wait_then = $14,
           wait_seq = l.wait_seq + case when $11::text is null then 0 else 1 end,
           last_event = l.last_event + 1 + cardinality($5::text[]), last_log = l.last_log + 1
      from before where l.execution_id = before.execution_id
    returning l.*, before.slot as held_slot, before.owner as held_by
), {TOLD}, claim as (
    insert into claims (execution_id, epoch, event, organization_id, worker, at)
    select execution_id, epoch, 'released', organization_id, held_by, clock_timestamp() from fence
), slot as ({admission.GIVEN_BACK}
), execution as (
    update executions e set status = $10, updated_at = $7,
           paused_at = case when $10::text = 'paused' then $7 end,
           pause_reason = (select payload ->> 'reason' from signals as s
               where s.execution_id = $1 and s.kind = 'pause' and s.handled_at is null
               order by s.seq desc limit 1)
      from fence where e.id = fence.execution_id
)
select organization_id, user_id, {admission.LINE},
       last_event - 1 - cardinality($5::text[]) as base_event
  from fence
"""  # noqa: S608 - the only parts put in are constants


@dataclass(frozen=True, slots=True)
class Seen:
    """What the owner knows of its run: the last signal and wait, and what it has counted."""

    wake_seq: int
    wait_seq: int
    steps: int
    tokens: int


async def park_to_wait(connection: Connection, lease: Lease, wait: Wait, seen: Seen) -> bool:
    """Let the run wait, holding no worker, lease or slot.

    False: a signal newer than the last one seen has come, and nothing was written. Raises
    LeaseLost or EventsLost.
    """
    at = now()
    opened, deadline = wait.opened(at)
    told = told_of(seen.wait_seq + 1, opened, deadline, wait.on_deadline)
    asks = Event(REQUESTED[wait.kind], told)
    held = (wait.kind, opened, deadline, wait.on_deadline)
    text = f"The run waits: {wait.kind}."
    return await _park(connection, lease, STATUS_OF[wait.kind], seen, at, text, [asks], held)


async def park_paused(connection: Connection, lease: Lease, seen: Seen) -> bool:
    """Pause the run between two steps; as ``park_to_wait``, which see."""
    held = (None, None, None, None)
    return await _park(connection, lease, "paused", seen, now(), "The run is paused.", [], held)


async def _park(
    connection: Connection,
    lease: Lease,
    status: Status,
    seen: Seen,
    at: datetime,
    message: str,
    asks: list[Event],
    wait: tuple[str | None, Mapping[str, Any] | None, datetime | None, str | None],
) -> bool:
    events = [status_changed(status, seen.steps, seen.tokens, lease.epoch), *asks]
    row = await connection.fetchrow(
        PARK,
        lease.execution_id,
        f"execution.{status}",
        message,
        {"epoch": lease.epoch, "step_count": seen.steps},
        [event.type for event in events],
        [event.data for event in events],
        at,
        lease.epoch,
        seen.wake_seq,
        status,
        *wait,
    )
    if row is None:
        await _require_owned(connection, lease)
        return False
    require_events(row["base_event"], lease, adding=1 + len(events))
    await connection.execute(
        "update signals set handled_at = $2 where execution_id = $1 and handled_at is null",
        lease.execution_id,
        at,
    )
    if row["line"]:
        await admission.admit_next(connection, row)
    return True


async def _require_owned(connection: Connection, lease: Lease) -> None:
    row = await connection.fetchrow(
        "select from live_executions "
        "where execution_id = $1 and epoch = $2 and status = 'running' for update",
        lease.execution_id,
        lease.epoch,
    )
    require_lease(row, lease)


def status_changed(status: Status, steps: int, tokens: int, epoch: int) -> Event:
    """The event of a run that goes on in another state."""
    return Event(
        "status.changed",
        {
            "status": status,
            "step_count": steps,
            "token_usage": tokens,
            "completed_at": None,
            "epoch": epoch,
        },
    )


HAND_OVER = f"""
with fence as (
    update live_executions
       set status = 'pending', owner = null, lease_expires_at = null,
           ready_at = clock_timestamp(), enqueued_at = clock_timestamp(),
           last_event = last_event + 1, chunk = chunk + $5
     where execution_id = $1 and epoch = $2 and status = 'running' returning *
), job as (
    {jobs.INSERT} select priority, queue, $4, 'queued' from fence returning id
), claim as (
    insert into claims (execution_id, epoch, event, organization_id, worker, at)
    select $1, epoch, 'released', organization_id, $6, clock_timestamp() from fence
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select $1, last_event, organization_id, user_id, epoch, 'status.changed',
           jsonb_build_object('status', 'pending', 'step_count', last_step, 'token_usage',
               input_tokens + output_tokens, 'completed_at', null, 'epoch', epoch,
               'reason', $7::text), $3
      from fence
), execution as (
    update executions e set status = 'pending', chunk = fence.chunk, updated_at = $3
      from fence where e.id = fence.execution_id
)
select job.id, last_event - 1 as base_event from fence, job
"""  # noqa: S608 - the only part put in is a constant of kernel.jobs


async def hand_over(
    connection: Connection, lease: Lease, *, reason: Literal["chunk", "drain"]
) -> None:
    """Give the run back to its queue between two steps. Raises LeaseLost or EventsLost."""
    row = await connection.fetchrow(
        HAND_OVER,
        lease.execution_id,
        lease.epoch,
        now(),
        jobs.payload_of(lease.organization_id, lease.execution_id),
        1 if reason == "chunk" else 0,
        lease.worker,
        reason,
    )
    require_lease(row, lease)
    require_events(row["base_event"], lease, adding=1)
    await connection.execute(
        "update live_executions set job_id = $2 where execution_id = $1",
        lease.execution_id,
        row["id"],
    )
