"""Move a run that nobody runs to another open state, in one statement (SPEC EXE-6, EXE-8).

The caller holds the lock of the live row and has looked at it. The signal that moves the run is
written as handled; one that an owner is to act on is written by ``signal_owner``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chargehand.executions import admission
from chargehand.executions.journal import Event
from chargehand.executions.log_lines import TOLD
from chargehand.executions.parking import status_changed
from chargehand.executions.states import Status
from chargehand.executions.waits import Outcome
from chargehand.kernel import jobs
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.identifiers import ExecutionId, UserId

Kind = Literal["pause", "resume", "cancel", "kill", "input", "approve", "deny", "event", "deadline"]


@dataclass(frozen=True, slots=True)
class Signal:
    """What was told; ``by`` is None where it was the clock."""

    kind: Kind
    by: UserId | None
    payload: Mapping[str, Any]


LOCK = """
select *, lease_expires_at > clock_timestamp() as owned from live_executions
 where execution_id = $1 for update
"""


async def lock(connection: Connection, execution: ExecutionId) -> Any | None:
    """The live row, locked until the transaction ends; None where the run has ended."""
    return await connection.fetchrow(LOCK, execution)


MOVE = f"""
with before as (
    select * from live_executions where execution_id = $1
), taken as (
    update slots set active = active + 1 from before
     where slots.organization_id = before.organization_id and slots.user_id = before.user_id
       and $8::text = 'pending' and slots.active < slots.allowed
    returning active
), job as (
    {jobs.INSERT}
    select priority, queue, uuid_send(organization_id) || uuid_send(execution_id), 'queued'
      from before, taken
    returning id
), fence as (
    update live_executions as l
       set status = $8::text, slot = exists (select from taken), job_id = (select id from job),
           enqueued_at = clock_timestamp(), paused_from = $9::text,
           wait = case when $10 then $15::jsonb end, wait_kind = case when $10 then l.wait_kind end,
           wait_deadline = case when $10 then l.wait_deadline end,
           wait_then = case when $10 then l.wait_then end,
           wake_seq = l.wake_seq + 1, handled_seq = l.wake_seq + 1,
           last_event = l.last_event + 1 + cardinality($5::text[]), last_log = l.last_log + 1
      from before where l.execution_id = before.execution_id
    returning l.*, before.slot as held_slot
), {TOLD}, signal as (
    insert into signals (execution_id, seq, organization_id, kind, payload, created_by, created_at,
        handled_at)
    select execution_id, wake_seq, organization_id, $11, $12, $13, $7, $7 from fence
), slot as ({admission.GIVEN_BACK}
), execution as (
    update executions e set status = $8, updated_at = $7, pause_reason = $14,
           paused_at = case when $8::text = 'paused' then $7 end
      from fence where e.id = fence.execution_id
)
select organization_id, user_id, slot, {admission.LINE} from fence
"""  # noqa: S608 - the only parts put in are constants


async def move(
    connection: Connection,
    live: Any,
    target: Status,
    signal: Signal,
    message: str,
    *,
    paused_from: Status | None = None,
    reason: str | None = None,
    wait: Mapping[str, Any] | None = None,
    events: Sequence[Event] = (),
) -> None:
    """Move the run of the locked row ``live``, and write who told it and why.

    To ``pending`` it takes a slot and a job, or stands in its user's line where no slot is free.
    ``wait`` is the open wait to be kept. A slot that it held goes to the next of the line.
    """
    told = [
        status_changed(
            target, live["last_step"], live["input_tokens"] + live["output_tokens"], live["epoch"]
        ),
        *events,
    ]
    if target == live["status"]:
        told = list(events)
    row = await connection.fetchrow(
        MOVE,
        live["execution_id"],
        f"execution.{signal.kind}",
        message,
        {"by": str(signal.by) if signal.by else None, "status": target},
        [event.type for event in told],
        [event.data for event in told],
        now(),
        target,
        paused_from,
        wait is not None,
        signal.kind,
        signal.payload,
        signal.by,
        reason,
        wait,
    )
    if row["line"]:
        await admission.admit_next(connection, row)


async def signal_owner(connection: Connection, live: Any, signal: Signal) -> None:
    """Leave a signal for whoever runs the run of the locked row ``live``."""
    await connection.execute(
        "with live as (update live_executions set wake_seq = wake_seq + 1 where execution_id = $1 "
        "returning organization_id, wake_seq) "
        "insert into signals (execution_id, seq, organization_id, kind, payload, created_by, "
        "created_at) select $1, wake_seq, organization_id, $2, $3, $4, $5 from live",
        live["execution_id"],
        signal.kind,
        signal.payload,
        signal.by,
        now(),
    )


CLOSE = """
insert into waits (execution_id, seq, organization_id, kind, message_seq, call_id, request,
    outcome, answer, opened_at, closed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::timestamptz, $11)
"""


async def close_wait(connection: Connection, live: Any, outcome: Outcome, answer: Any) -> None:
    """Keep how the open wait of the locked row ``live`` ended, for the run to go on with."""
    wait: Mapping[str, Any] = live["wait"]
    await connection.execute(
        CLOSE,
        live["execution_id"],
        live["wait_seq"],
        live["organization_id"],
        live["wait_kind"],
        wait["message_seq"],
        wait["call_id"],
        wait,
        outcome,
        answer,
        wait["opened_at"],
        now(),
    )
