"""Checkpoint a step: one transaction, with the events that tell of it (SPEC EXE-4, EXE-10)."""

from collections.abc import Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any

import structlog
from pydantic_ai.messages import ModelMessage

from chargehand.executions import journal
from chargehand.executions.endings import Ending, finish
from chargehand.executions.journal import NO_EFFECT, Effect, Event, Log, StepRecord
from chargehand.executions.states import Status
from chargehand.kernel.clock import milliseconds_between
from chargehand.kernel.database import Connection
from chargehand.runtime.decide import CallModel, CallTool, Rest, next_move
from chargehand.runtime.history import arguments_of, dump
from chargehand.runtime.interruption import look_for_signals
from chargehand.runtime.retelling import journalled
from chargehand.runtime.runs import Outside, Run
from chargehand.usage.records import UsageRecord

log = structlog.get_logger()


async def record(
    run: Run,
    out: Outside,
    step: StepRecord,
    added: Sequence[ModelMessage],
    *,
    usage: Sequence[UsageRecord] = (),
    effect: Effect = NO_EFFECT,
    preview: str = "",
    ending: Ending | None = None,
) -> None:
    """Write the step with all that belongs to it, and the next step's start or the run's end.

    Raises LeaseLost, and then nothing is written; CancelRequested if a cancel has come meanwhile.
    """
    base = run.messages[-1][0]
    numbered = [*run.messages, *((base + n, message) for n, message in enumerate(added, 1))]
    events = _completed(step, usage, preview)
    if ending is None:
        events += starting(step.seq + 1, numbered)

    async def write(connection: Connection) -> Any:
        row = await journal.record_step(
            connection,
            run.lease,
            run.spender,
            step,
            messages=[dump(message) for message in added],
            state=run.state,
            changed=run.state != run.stored_state,
            usage=usage,
            events=events,
            logs=[_log_of(step)],
            effect=effect,
        )
        if ending is not None:
            await finish(connection, run.lease, ending)
        return row

    row = await journalled(run, out.database, write)
    run.messages, run.text_left = numbered, False
    run.stored_state = deepcopy(run.state)
    run.steps, run.steps_in_chunk, run.losses = step.seq, run.steps_in_chunk + 1, 0
    run.input_tokens, run.output_tokens = row["input_tokens"], row["output_tokens"]
    run.cost = row["cost"]
    out.bells.new_events(run.lease.execution_id, run.lease.user_id)
    log.info("step_completed", step=step.seq, kind=step.kind, tool=step.tool_name)
    if ending is None and row["woken"]:
        await look_for_signals(run, out)


def _completed(step: StepRecord, usage: Sequence[UsageRecord], preview: str) -> list[Event]:
    duration_ms = milliseconds_between(step.started_at, step.completed_at)
    tokens = sum(entry.tokens.total_tokens for entry in usage)
    cost = str(sum((entry.cost for entry in usage), start=Decimal(0)))
    events = list[Event]()
    if step.kind == "tool":
        events.append(
            Event(
                "tool.completed",
                {
                    "step_number": step.seq,
                    "tool_name": step.tool_name,
                    "call_id": step.call_id,
                    "error": step.error,
                    "output_preview": preview,
                    "duration_ms": duration_ms,
                },
            )
        )
    events.append(
        Event(
            "step.completed",
            {
                "step_number": step.seq,
                "step_type": step.kind,
                "has_tool_calls": bool(step.tool_names),
                "tool_names": list(step.tool_names),
                "tokens_used": tokens,
                "duration_ms": duration_ms,
                "cost": cost,
            },
        )
    )
    events += [Event("usage", _usage_event(entry)) for entry in usage]
    return events


def _usage_event(entry: UsageRecord) -> dict[str, Any]:
    return {
        "call_id": entry.call_id,
        "provider": entry.provider,
        "model": entry.model,
        "input_tokens": entry.tokens.input_tokens,
        "output_tokens": entry.tokens.output_tokens,
        "cost": str(entry.cost),
        "price_source": entry.price_source,
    }


def starting(step_number: int, messages: list[tuple[int, ModelMessage]]) -> list[Event]:
    """The events that a step begins with; they travel with the transaction before it."""
    move = next_move(messages)
    if isinstance(move, Rest):
        return []
    kind = "model" if isinstance(move, CallModel) else "tool"
    events = [Event("step.started", {"step_number": step_number, "step_type": kind})]
    if isinstance(move, CallTool):
        events.append(
            Event(
                "tool.started",
                {
                    "step_number": step_number,
                    "tool_name": move.part.tool_name,
                    "call_id": move.part.tool_call_id,
                    "arguments": arguments_of(move.part),
                },
            )
        )
    return events


def _log_of(step: StepRecord) -> Log:
    what = f"called {step.tool_name}" if step.kind == "tool" else f"asked {step.model}"
    duration_ms = milliseconds_between(step.started_at, step.completed_at)
    context = {"step": step.seq, "duration_ms": duration_ms, "error": step.error}
    level = "warning" if step.error else "info"
    return Log(level, f"step.{step.kind}", f"Step {step.seq} {what}.", context)


def partial_ending(run: Run, status: Status, **facts: Any) -> Ending:
    """An end before the answer was whole: the text so far is kept as partial output."""
    return Ending(status=status, output="".join(run.partial_text) or None, **facts)
