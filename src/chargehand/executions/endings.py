"""How a run ends: its totals into its row, its last events out, its slot and live row gone.

One statement that begins with the DELETE of the live row: the fence of the last write of a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chargehand.executions import admission
from chargehand.executions.leases import Lease, require_events, require_lease
from chargehand.executions.log_lines import AS_EVENT
from chargehand.executions.states import Status
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.identifiers import ExecutionId
from chargehand.kernel.storable import storable


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ends; ``output`` may be partial."""

    status: Status
    output: Any = None
    finish_reason: str | None = None
    provider_response_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_details: Mapping[str, Any] | None = None
    force_killed: bool = False

    def error(self) -> dict[str, Any] | None:
        if self.error_code is None:
            return None
        return {
            "code": self.error_code,
            "message": self.error_message,
            "details": self.error_details or {},
        }


FINISH = f"""
with fence as (
    delete from live_executions
     where execution_id = $1 and (epoch = $2 and status = 'running' or $3)
    returning *, slot as held_slot
), execution as (
    update executions e
       set status = $4, steps = fence.last_step, model_attempts = fence.model_attempts,
           tool_calls = fence.tool_calls, input_tokens = fence.input_tokens,
           cache_read_tokens = fence.cache_read_tokens,
           cache_write_tokens = fence.cache_write_tokens,
           output_tokens = fence.output_tokens, reasoning_tokens = fence.reasoning_tokens,
           cost = fence.cost, unpriced = fence.unpriced, chunk = fence.chunk,
           finish_reason = $5, provider_response_id = $6, error_code = $7, error_message = $8,
           error_details = $9, completed_at = $10, updated_at = $10, force_killed = $17
      from fence where e.id = fence.execution_id
    returning e.agent_id
), payload as (
    update execution_payloads set output = $11
     where execution_id = $1 and exists (select from fence)
), claim as (
    insert into claims (execution_id, epoch, event, organization_id, worker, at)
    select $1, epoch, 'ended', organization_id, owner, clock_timestamp()
      from fence where status = 'running'
), log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select $1, last_log + 1, organization_id, $14, 'execution.' || $4::text, $15, '{{}}', $10
      from fence
    returning {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select $1, last_event + n, organization_id, user_id, epoch, e.type, e.data, $10
      from fence, log, jsonb_build_object('status', $4::text, 'steps', last_step, 'step_count',
               last_step, 'token_usage', input_tokens + output_tokens, 'cost', cost::text,
               'usage', jsonb_build_object('input_tokens', input_tokens, 'cache_read_tokens',
                   cache_read_tokens, 'cache_write_tokens', cache_write_tokens, 'output_tokens',
                   output_tokens, 'reasoning_tokens', reasoning_tokens, 'total_tokens',
                   input_tokens + output_tokens)) as totals,
           unnest(array['log', 'status.changed', 'done'],
                  array[told, totals || $12::jsonb, totals || $13::jsonb])
           with ordinality as e(type, data, n)
), slot as ({admission.GIVEN_BACK}
), wait as (
    insert into waits (execution_id, seq, organization_id, kind, message_seq, call_id, request,
        outcome, opened_at, closed_at)
    select execution_id, wait_seq, organization_id, wait_kind, (wait ->> 'message_seq')::integer,
           wait ->> 'call_id', wait, 'withdrawn', (wait ->> 'opened_at')::timestamptz, $10
      from fence where wait is not null
), outbox as (
    insert into outbox (organization_id, subject_id, type, data, at)
    select organization_id, $1, $16, jsonb_build_object('execution_id', $1::text, 'status',
               $4::text, 'cost', cost::text, 'error_code', $7::text), $10
      from fence
)
select last_event, organization_id, user_id, {admission.LINE} from fence
"""  # noqa: S608 - the only parts put in are constants

OUTBOX_TYPES: dict[Status, str] = {
    "completed": "AgentExecutionCompleted",
    "failed": "AgentExecutionFailed",
    "cancelled": "AgentExecutionCancelled",
}


async def finish(connection: Connection, lease: Lease, ending: Ending) -> None:
    """End a run: totals and output into its row, the last events out, slot and live row gone.

    Raises LeaseLost or EventsLost.
    """
    row = await _finish(connection, lease.execution_id, lease.epoch, ending, owned=True)
    require_lease(row, lease)
    require_events(row["last_event"], lease, adding=3)


async def finish_unowned(connection: Connection, execution: ExecutionId, ending: Ending) -> None:
    """End a run that nobody runs. The caller holds the lock of its live row and has looked."""
    await _finish(connection, execution, 0, ending, owned=False)


async def _finish(
    connection: Connection, execution: ExecutionId, epoch: int, ending: Ending, *, owned: bool
) -> Any:
    at = now()
    message = storable(ending.error_message) if ending.error_message else None
    text = message or f"The execution is {ending.status}."
    row = await connection.fetchrow(
        FINISH,
        execution,
        epoch,
        not owned,
        ending.status,
        ending.finish_reason,
        ending.provider_response_id,
        ending.error_code,
        message,
        ending.error_details,
        at,
        ending.output,
        {"completed_at": at.isoformat()},
        {"error": ending.error()},
        "error" if ending.status == "failed" else "info",
        text,
        OUTBOX_TYPES[ending.status],
        ending.force_killed,
    )
    if row is not None:
        # A statement of its own: FINISH may have waited for the very signal that it is to settle.
        await connection.execute(
            "update signals set handled_at = $2 where execution_id = $1 and handled_at is null",
            execution,
            at,
        )
        if row["line"]:
            await admission.admit_next(connection, row)
    return row
