"""The loop of a run: turn after turn, each step checkpointed, until it is done or not ours.

    advance ── next_move ──┬─ CallModel ── model step ──┬─ record_step ── next_move …
                           └─ CallTool ──┬─ tool step ──┘      └─ finish, with the last answer
                                         └─ park, until what the call waits for has come

A step that is recorded is never taken again; one that was cut short is taken again by whoever
claims the run next, except a tool call with an effect that must not be repeated.
"""

from typing import Literal

import structlog

from chargehand.executions.endings import Ending, finish
from chargehand.executions.parking import hand_over
from chargehand.kernel.clock import now
from chargehand.runtime import limits
from chargehand.runtime.decide import CallTool, next_move
from chargehand.runtime.interruption import CancelRequested, Evicted, OutOfTime, look_for_signals
from chargehand.runtime.model_step import take_model_step
from chargehand.runtime.recording import partial_ending
from chargehand.runtime.retelling import journalled
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.setting_aside import pause
from chargehand.runtime.tool_step import take_tool_step
from chargehand.runtime.toolset import Toolset
from chargehand.runtime.workspaces import Workspace

log = structlog.get_logger()


async def advance(run: Run, toolset: Toolset, workspace: Workspace | None, out: Outside) -> None:
    """Take steps until the run has ended, waits, is paused, or is handed over.

    Raises LeaseLost as soon as the run is not ours any more; then nothing has been written since.
    """
    try:
        await _take_steps(run, toolset, workspace, out)
    except CancelRequested:
        await _finish(run, out, partial_ending(run, "cancelled", finish_reason="cancelled"))
    except Evicted:
        await _hand_over(run, out, "drain")
    except OutOfTime:
        await _fail(run, out, *limits.out_of_time(run.config.limits))


async def _take_steps(
    run: Run, toolset: Toolset, workspace: Workspace | None, out: Outside
) -> None:
    await look_for_signals(run, out)
    if run.losses >= out.max_losses:
        await _fail(run, out, "WorkerLost", _lost_too_often(run.losses))
        return
    while True:
        move = next_move(run.messages)
        if (reason := _why_end(run)) is not None:
            await _fail(run, out, *reason)
            return
        if run.pausing:
            if await pause(run, out):
                return
            continue
        if (cause := _why_hand_over(run, out)) is not None:
            await _hand_over(run, out, cause)
            return
        run.require_fresh_lease()
        if isinstance(move, CallTool):
            ended = await take_tool_step(run, move, toolset, workspace, out)
        else:
            ended = await take_model_step(run, toolset, out)
        if ended:
            return


def _lost_too_often(losses: int) -> str:
    return (
        f"The run lost its worker {losses} times without completing a step: it may be what ends "
        "them. Look at the workers' logs and memory, then start it again."
    )


def _why_end(run: Run) -> limits.Exceeded | None:
    return limits.exceeded(
        run.config.limits,
        steps=run.steps,
        tokens=run.input_tokens + run.output_tokens,
        cost=run.cost,
        chunk=run.chunk,
        late=now() >= run.deadline,
    )


def _why_hand_over(run: Run, out: Outside) -> Literal["drain", "chunk"] | None:
    if out.draining():
        return "drain"
    return "chunk" if run.steps_in_chunk >= run.config.limits.chunk_steps else None


async def _fail(run: Run, out: Outside, code: str, message: str) -> None:
    await _finish(run, out, partial_ending(run, "failed", error_code=code, error_message=message))


async def _finish(run: Run, out: Outside, ending: Ending) -> None:
    await journalled(run, out.database, lambda connection: finish(connection, run.lease, ending))
    out.bells.new_events(run.lease.execution_id, run.lease.user_id)
    log.info("execution_ended", status=ending.status, error=ending.error_code)


async def _hand_over(run: Run, out: Outside, reason: Literal["drain", "chunk"]) -> None:
    await journalled(
        run, out.database, lambda connection: hand_over(connection, run.lease, reason=reason)
    )
    out.doorbell.ring()
    out.bells.new_events(run.lease.execution_id, run.lease.user_id)
