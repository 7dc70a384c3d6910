"""Executions as callers may see them: one, its steps, its logs; SQLAlchemy, no hot path."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.agents.access import may
from chargehand.agents.tables import Agent
from chargehand.executions.operations import ExecutionNotFound
from chargehand.executions.schemas import (
    ExecutionError,
    ExecutionTrigger,
    ExecutionView,
    LogView,
    OriginView,
    StepView,
    TokenCounts,
    WaitView,
)
from chargehand.executions.states import TERMINAL
from chargehand.executions.tables import (
    Execution,
    ExecutionPayload,
    LiveExecution,
    LogEntry,
    Step,
)
from chargehand.executions.waits import open_calls
from chargehand.kernel.clock import milliseconds_between, now
from chargehand.kernel.errors import Denied
from chargehand.tenancy.caller import Caller

Found = tuple[Execution, LiveExecution | None, Agent | None]


def visible(caller: Caller) -> Select[Execution, LiveExecution, Agent]:
    """The organization's executions, each with its live row and its agent, where there are."""
    return (
        select(Execution, LiveExecution, Agent)
        .outerjoin(LiveExecution, LiveExecution.execution_id == Execution.id)
        .outerjoin(Agent, Agent.id == Execution.agent_id)
        .where(Execution.organization_id == caller.organization_id)
    )


def may_control(caller: Caller, execution: Execution, agent: Agent | None) -> bool:
    """SPEC TEN-5: its starter, the agent's admins of the same organization, the organization's."""
    return (
        caller.is_admin
        or execution.user_id == caller.user_id
        or (agent is not None and may(caller, agent, "admin"))
    )


def _may_see(caller: Caller, execution: Execution, agent: Agent | None) -> bool:
    """Others see that it ran, if they may read its agent."""
    return may_control(caller, execution, agent) or (
        agent is not None and may(caller, agent, "read")
    )


async def find(session: AsyncSession, caller: Caller, execution_id: UUID) -> Found:
    """One execution that the caller may see. Raises ExecutionNotFound."""
    row = (await session.execute(visible(caller).where(Execution.id == execution_id))).first()
    if row is None or not _may_see(caller, row[0], row[2]):
        raise ExecutionNotFound(
            f"There is no execution {execution_id} that you may see. GET /api/v1/executions "
            "lists those you may.",
            execution_id=str(execution_id),
        )
    return row[0], row[1], row[2]


async def find_controlled(session: AsyncSession, caller: Caller, execution_id: UUID) -> Found:
    """One that the caller may also control. Raises ExecutionNotFound, or Denied."""
    found = await find(session, caller, execution_id)
    if not may_control(caller, found[0], found[2]):
        raise Denied(
            f"You may see execution {execution_id}, but not control it or read its input and "
            "output: that is for who started it, the agent's owner, and admins.",
            execution_id=str(execution_id),
        )
    return found


async def view(session: AsyncSession, caller: Caller, execution_id: UUID) -> ExecutionView:
    """One execution with input and output, as far as the caller may see them."""
    execution, live, agent = await find(session, caller, execution_id)
    whole = may_control(caller, execution, agent)
    payload = await session.get(ExecutionPayload, execution_id) if whole else None
    cost = await _origin_cost(session, execution)
    return view_of(execution, live, payload, whole=whole, origin_cost=cost)


async def _origin_cost(session: AsyncSession, execution: Execution) -> Decimal | None:
    """What the run that this one goes on from has cost so far."""
    origin = execution.retry_of or execution.forked_from
    if origin is None:
        return None
    live = await session.get(LiveExecution, origin)
    found = live or await session.get(Execution, origin)
    return None if found is None else found.cost


async def list_steps(
    session: AsyncSession, execution_id: UUID, *, after: int, limit: int, whole: bool
) -> list[StepView]:
    """``whole`` is for who may control the run: errors can quote what was said."""
    rows = await session.scalars(
        select(Step)
        .where(Step.execution_id == execution_id, Step.seq > after)
        .order_by(Step.seq)
        .limit(limit)
    )
    return [_step_view(step, whole) for step in rows]


async def list_logs(
    session: AsyncSession, execution_id: UUID, *, after: int, limit: int
) -> list[LogView]:
    rows: Sequence[LogEntry] = (
        await session.scalars(
            select(LogEntry)
            .where(LogEntry.execution_id == execution_id, LogEntry.seq > after)
            .order_by(LogEntry.seq)
            .limit(limit)
        )
    ).all()
    return [
        LogView.model_validate(
            {
                "id": row.seq,
                "level": row.level,
                "event_type": row.event_type,
                "message": row.message,
                "context": row.context,
                "at": row.at,
            }
        )
        for row in rows
    ]


def view_of(
    execution: Execution,
    live: LiveExecution | None,
    payload: ExecutionPayload | None,
    *,
    whole: bool,
    origin_cost: Decimal | None = None,
) -> ExecutionView:
    """``whole`` is for who may control the run; lists leave the payload out for everybody."""
    counted: Execution | LiveExecution = live if live is not None else execution
    return ExecutionView.model_validate(
        {
            **{name: getattr(execution, name) for name in _SAME},
            "waiting_for": _waiting_for(live) if whole and live is not None else None,
            "pause_reason": execution.pause_reason if whole else None,
            "origin": _origin(execution, origin_cost),
            "trigger": ExecutionTrigger(kind=execution.trigger_kind, id=execution.trigger_id),
            "input": payload.input if payload else None,
            "variables": payload.variables if payload else None,
            "output": payload.output if payload else None,
            "redacted": not whole,
            "steps": live.last_step if live is not None else execution.steps,
            "model_attempts": counted.model_attempts,
            "tool_calls": counted.tool_calls,
            "usage": _tokens(counted),
            "cost": f"{counted.cost:f}",
            "unpriced": counted.unpriced,
            "chunk": counted.chunk,
            "error": _error(execution, whole),
            "metadata": execution.metadata_ if whole else {},
            "duration_ms": _duration_ms(execution),
        }
    )


def _waiting_for(live: LiveExecution) -> WaitView | None:
    if live.wait is None:
        return None
    wait = live.wait
    calls = open_calls(wait) if live.wait_kind == "tools" else wait.get("calls", [])
    return WaitView.model_validate(
        {
            "wait": live.wait_seq,
            "kind": live.wait_kind,
            "question": wait.get("question"),
            "answer_schema": wait.get("answer_schema"),
            "calls": [dict(call) for call in calls],
            "reason": wait.get("reason"),
            "persons": wait.get("persons"),
            "approvals": wait.get("approvals", []),
            "event_type": wait.get("event_type"),
            "filter": wait.get("filter") or {},
            "opened_at": wait["opened_at"],
            "deadline_at": live.wait_deadline,
            "on_deadline": live.wait_then if live.wait_deadline else None,
        }
    )


def _origin(execution: Execution, cost: Decimal | None) -> OriginView | None:
    origin = execution.retry_of or execution.forked_from
    if origin is None:
        return None
    return OriginView(
        kind="retry" if execution.retry_of else "fork",
        execution_id=origin,
        step=execution.forked_at_step,
        cost=None if cost is None else f"{cost:f}",
    )


_SAME = (
    "id",
    "agent_id",
    "agent_version",
    "status",
    "user_id",
    "end_user",
    "finish_reason",
    "provider_response_id",
    "currency",
    "warnings",
    "queue",
    "is_test",
    "force_killed",
    "created_at",
    "scheduled_at",
    "started_at",
    "paused_at",
    "completed_at",
    "updated_at",
)


def _tokens(counted: Execution | LiveExecution | Step) -> TokenCounts:
    return TokenCounts(
        input_tokens=counted.input_tokens,
        cache_read_tokens=counted.cache_read_tokens,
        cache_write_tokens=counted.cache_write_tokens,
        output_tokens=counted.output_tokens,
        reasoning_tokens=counted.reasoning_tokens,
        total_tokens=counted.input_tokens + counted.output_tokens,
    )


def _error(execution: Execution, whole: bool) -> ExecutionError | None:
    if execution.error_code is None:
        return None
    return ExecutionError(
        code=execution.error_code,
        message=(execution.error_message or "") if whole else "",
        details=(execution.error_details or {}) if whole else {},
    )


def _duration_ms(execution: Execution) -> int | None:
    if execution.started_at is None:
        return None
    end: datetime = execution.completed_at or now()
    # The start is PostgreSQL's clock, the end a worker's: they may differ by a little.
    return max(0, milliseconds_between(execution.started_at, end))


def _step_view(step: Step, whole: bool) -> StepView:
    return StepView.model_validate(
        {
            "seq": step.seq,
            "kind": step.kind,
            "epoch": step.epoch,
            "tool_name": step.tool_name,
            "provider": step.provider,
            "model": step.model,
            "attempts": step.attempts if whole else [],
            "tool_names": step.tool_names,
            "finish_reason": step.finish_reason,
            "usage": _tokens(step),
            "cost": f"{step.cost:f}",
            "error": step.error if whole or step.error is None else {},
            "started_at": step.started_at,
            "completed_at": step.completed_at,
            "duration_ms": milliseconds_between(step.started_at, step.completed_at),
        }
    )


def is_over(status: str) -> bool:
    return status in TERMINAL
