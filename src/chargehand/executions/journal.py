"""Every write of a running execution, fenced by its lease (SPEC EXE-4, EXE-5).

The owner of a run is the one whose epoch stands in its live row. Each function here is one
statement that begins with an UPDATE or DELETE of that row ``where epoch = …``: the row lock makes
the order of events equal the order of commits, and a worker that lost its lease finds no row,
writes nothing, and gets LeaseLost. A read of the epoch would be no fence.

Lock order everywhere: live row, execution, slots, outbox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from chargehand.executions.leases import Lease, require_events, require_lease
from chargehand.executions.log_lines import AS_EVENT
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.identifiers import ExecutionId, OrganizationId
from chargehand.kernel.storable import storable
from chargehand.usage import records
from chargehand.usage.records import Spender, UsageRecord

STATE_SCHEMA = 1
"""Version of the live row's ``state`` and of the stored messages; a worker claims no newer one."""


@dataclass(frozen=True, slots=True)
class Event:
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"]
    event_type: str
    message: str
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One completed step: one model answer, or one tool call."""

    seq: int
    kind: Literal["model", "tool"]
    call_id: str
    tool_name: str | None = None
    provider: str | None = None
    model: str | None = None
    attempts: Sequence[Mapping[str, Any]] = ()
    tool_names: Sequence[str] = ()
    finish_reason: str | None = None
    provider_response_id: str | None = None
    error: Mapping[str, Any] | None = None
    started_at: datetime
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """What a tool step settles: the call that message ``message_seq`` asked for."""

    message_seq: int
    state: Literal["done", "unknown"]


NO_EFFECT = Effect(0, "done")
"""Of a model step: no message has the number 0, which is the input."""


CLAIM = f"""
with before as (
    select * from live_executions
     where execution_id = $1 and organization_id = $2 and state_schema <= $5
       and ((status = 'pending' and ready_at <= clock_timestamp())
            or (status = 'running' and lease_expires_at < clock_timestamp()))
       for update
), live as (
    update live_executions as l
       set status = 'running', epoch = l.epoch + 1, owner = $3, attempts = l.attempts + 1,
           lease_expires_at = clock_timestamp() + $4::interval,
           losses_without_step = l.losses_without_step
               + case when before.status = 'running' then 1 else 0 end,
           last_event = l.last_event + 2, last_log = l.last_log + 1,
           deadline_at = l.deadline_at
               + (clock_timestamp() - coalesce(before.lease_expires_at, before.ready_at))
      from before where l.execution_id = before.execution_id
    returning l.*, before.status as previous_status, before.owner as previous_owner,
        before.lease_expires_at as previous_expiry, clock_timestamp() as claimed_at
), lost as (
    insert into claims (execution_id, epoch, event, organization_id, worker, at)
    select execution_id, epoch - 1, 'lost', organization_id, previous_owner, previous_expiry
      from live where previous_status = 'running'
), claimed as (
    insert into claims (execution_id, epoch, event, organization_id, worker, at)
    select execution_id, epoch, 'claimed', organization_id, owner, claimed_at from live
), log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select execution_id, last_log, organization_id,
           case when previous_status = 'running' then 'warning' else 'info' end,
           case when previous_status = 'running' then 'execution.taken_over'
                else 'execution.claimed' end,
           case when previous_status = 'running'
                then 'Worker ' || previous_owner || ' was lost; worker ' || owner || ' goes on.'
                else 'Worker ' || owner || ' runs it.' end,
           jsonb_build_object('epoch', epoch, 'step_count', last_step), claimed_at
      from live
    returning {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select execution_id, last_event - 2 + n, organization_id, user_id, epoch, e.type, e.data,
           claimed_at
      from live, log, unnest(array['log', 'status.changed'], array[told, jsonb_build_object(
               'status', 'running', 'step_count', last_step, 'token_usage',
               input_tokens + output_tokens, 'completed_at', null, 'epoch', epoch,
               'worker', owner, 'taken_over', previous_status = 'running')])
           with ordinality as e(type, data, n)
), execution as (
    update executions e
       set status = 'running', started_at = coalesce(e.started_at, live.claimed_at),
           updated_at = live.claimed_at
      from live where e.id = live.execution_id
    returning e.id, e.agent_id, e.agent_version_id, e.end_user, e.started_at
)
select live.*, execution.agent_id, execution.agent_version_id, execution.end_user,
       execution.started_at
  from live join execution on execution.id = live.execution_id
"""  # noqa: S608 - the only part put in is a constant of log_lines


async def claim(
    connection: Connection,
    organization: OrganizationId,
    execution: ExecutionId,
    *,
    worker: str,
    lease: Any,
) -> Any | None:
    """Take a run that is due or whose owner's lease (a timedelta) has run out.

    Returns the live row with the execution's facts, or None where there is nothing to take: it
    has ended, is owned, waits, or was written by a newer version of this program. The time that
    nobody ran it (in a queue, or after its worker was lost) is added to its deadline.
    """
    return await connection.fetchrow(CLAIM, execution, organization, worker, lease, STATE_SCHEMA)


async def set_deadline(connection: Connection, lease: Lease, deadline: datetime) -> None:
    """When the run's wall time is used up; at its first claim, whose transaction this is."""
    await connection.execute(
        "update live_executions set deadline_at = $2 where execution_id = $1",
        lease.execution_id,
        deadline,
    )


RECORD = f"""
with fence as (
    update live_executions
       set last_step = $4, last_message = last_message + cardinality($6::jsonb[]),
           last_event = last_event + cardinality($8::text[]) + cardinality($10::text[]),
           last_log = last_log + cardinality($10::text[]),
           losses_without_step = 0, state = $5, state_schema = $36,
           model_attempts = model_attempts + $14, tool_calls = tool_calls + $15,
           input_tokens = input_tokens + $16, cache_read_tokens = cache_read_tokens + $17,
           cache_write_tokens = cache_write_tokens + $18, output_tokens = output_tokens + $19,
           reasoning_tokens = reasoning_tokens + $20, cost = cost + $21,
           unpriced = unpriced or $22
     where execution_id = $1 and epoch = $2 and status = 'running'
    returning *, last_message - cardinality($6::jsonb[]) as base_message,
        last_event - cardinality($8::text[]) - cardinality($10::text[]) as base_event,
        last_log - cardinality($10::text[]) as base_log
), message as (
    insert into run_messages (execution_id, seq, organization_id, step, message)
    select $1, base_message + n, organization_id, $4, m.value
      from fence, unnest($6::jsonb[]) with ordinality as m(value, n)
), log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select $1, base_log + n, organization_id, l.level, l.event_type, l.message, l.context, $3
      from fence, unnest($10::text[], $11::text[], $12::text[], $13::jsonb[])
           with ordinality as l(level, event_type, message, context, n)
    returning seq, {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select $1, base_event + n, organization_id, user_id, epoch, e.type, e.data, $3
      from fence, unnest(array(select 'log' from log) || $8::text[],
                         array(select told from log order by seq) || $9::jsonb[])
           with ordinality as e(type, data, n)
), effect as (
    update effects set state = $35, completed_at = $3
     where execution_id = $1 and (message_seq, call_id) = ($7, $23)
       and exists (select from fence)
), step as (
    insert into steps (execution_id, seq, organization_id, epoch, kind, call_id, tool_name,
        provider, model, attempts, has_tool_calls, tool_names, finish_reason,
        provider_response_id, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
        reasoning_tokens, cost, error, started_at, completed_at, state)
    select $1, $4, organization_id, epoch, $24, $23, $25, $26, $27, $28, $29, $30, $31, $32,
           $16, $17, $18, $19, $20, $21, $33, $34, $3, $37
      from fence
)
select wake_seq > handled_seq as woken, wake_seq, last_message, cost, input_tokens, output_tokens,
       base_event
  from fence
"""  # noqa: S608 - the only part put in is a constant of log_lines


async def record_step(
    connection: Connection,
    lease: Lease,
    spender: Spender,
    step: StepRecord,
    *,
    messages: Sequence[Any],
    state: Mapping[str, Any],
    changed: bool = True,
    usage: Sequence[UsageRecord] = (),
    events: Sequence[Event] = (),
    logs: Sequence[Log] = (),
    effect: Effect = NO_EFFECT,
) -> Any:
    """Checkpoint one step: with it its messages, state, usage, events, log and effect.

    The step keeps the state too where it ``changed``, for runs that are forked from it.
    Returns the fence's row (``woken``, totals). Raises LeaseLost or EventsLost; then nothing may be
    committed.
    """
    totals = records.total_of(usage)
    row = await connection.fetchrow(
        RECORD,
        lease.execution_id,
        lease.epoch,
        step.completed_at,
        step.seq,
        state,
        list(messages),
        effect.message_seq,
        [event.type for event in events],
        [event.data for event in events],
        [log.level for log in logs],
        [log.event_type for log in logs],
        [log.message for log in logs],
        [log.context for log in logs],
        len(step.attempts),
        1 if step.kind == "tool" else 0,
        totals.input_tokens,
        totals.cache_read_tokens,
        totals.cache_write_tokens,
        totals.output_tokens,
        totals.reasoning_tokens,
        sum((record.cost for record in usage), Decimal(0)),
        any(record.price_entry is None for record in usage),
        step.call_id,
        step.kind,
        storable(step.tool_name) if step.tool_name else None,
        step.provider,
        step.model,
        list(step.attempts),
        bool(step.tool_names),
        [storable(name) for name in step.tool_names],
        step.finish_reason,
        step.provider_response_id,
        step.error,
        step.started_at,
        effect.state,
        STATE_SCHEMA,
        state if changed else None,
    )
    require_lease(row, lease)
    require_events(row["base_event"], lease, adding=len(logs) + len(events))
    if usage:
        await records.insert(connection, spender, usage)
    return row


INTEND = """
with fence as (
    update live_executions set attempts = attempts
     where execution_id = $1 and epoch = $2 and status = 'running' returning *
)
insert into effects (execution_id, message_seq, call_id, organization_id, idempotency_key,
    tool_name, arguments, policy, state, epoch, started_at)
select $1, $3, $4, organization_id, $5, $6, $7, $8, 'started', epoch, $9 from fence
on conflict (execution_id, message_seq, call_id)
    do update set epoch = excluded.epoch, started_at = excluded.started_at
returning idempotency_key
"""


async def record_intent(
    connection: Connection,
    lease: Lease,
    *,
    message_seq: int,
    call_id: str,
    idempotency_key: UUID,
    tool_name: str,
    arguments: Any,
    policy: str,
) -> None:
    """Write that a tool call is about to happen, before it happens. Raises LeaseLost."""
    row = await connection.fetchrow(
        INTEND,
        lease.execution_id,
        lease.epoch,
        message_seq,
        call_id,
        idempotency_key,
        tool_name,
        arguments,
        policy,
        now(),
    )
    require_lease(row, lease)


APPEND = """
with fence as (
    update live_executions set last_event = greatest(last_event, $6) + cardinality($3::text[])
     where execution_id = $1 and epoch = $2 and status = 'running'
    returning *, last_event - cardinality($3::text[]) as base_event
)
insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
select $1, base_event + n, organization_id, user_id, epoch, e.type, e.data, $5
  from fence, unnest($3::text[], $4::jsonb[]) with ordinality as e(type, data, n)
returning (select base_event from fence)
"""


async def append_events(
    connection: Connection, lease: Lease, events: Sequence[Event], *, instead_of_lost: bool = False
) -> None:
    """Events between two checkpoints: text as it streams, a step that begins.

    Raises LeaseLost, or EventsLost unless these events are told ``instead_of_lost`` ones.
    """
    row = await connection.fetchrow(
        APPEND,
        lease.execution_id,
        lease.epoch,
        [event.type for event in events],
        [event.data for event in events],
        now(),
        lease.last_event if instead_of_lost else 0,
    )
    require_lease(row, lease)
    require_events(row["base_event"], lease, adding=len(events))
