"""One step of a run: one tool call, through the effect journal (SPEC EXE-4)."""

from copy import deepcopy
from typing import Any

from pydantic_ai.messages import ModelRequest, ToolReturnPart

from chargehand.executions import journal
from chargehand.executions.endings import Ending
from chargehand.executions.journal import Effect, StepRecord
from chargehand.executions.waits import Wait
from chargehand.kernel.clock import now
from chargehand.runtime import loop_guard
from chargehand.runtime.awaiting import Answer, before
from chargehand.runtime.decide import CallTool
from chargehand.runtime.history import arguments_of
from chargehand.runtime.interruption import interruptible
from chargehand.runtime.recording import partial_ending, record
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.setting_aside import wait
from chargehand.runtime.toolset import ToolContext, ToolFailed, Toolset
from chargehand.runtime.workspaces import Workspace

PREVIEW_CHARACTERS = 500


async def take_tool_step(
    run: Run, move: CallTool, toolset: Toolset, workspace: Workspace | None, out: Outside
) -> bool:
    """Make one call and record it, or let the run wait for what the call needs.

    True where the run is set aside or has ended. Raises LeaseLost, CancelRequested, OutOfTime.
    """
    started_at, part = now(), move.part
    # A call that fails leaves the run's state as it was.
    state = deepcopy(run.state)
    needed = before(run, move, toolset)
    if isinstance(needed, Wait):
        return await wait(run, out, needed)
    if needed is None:
        needed = await _call_tool(run, move, toolset, workspace, state, out)
    content, outcome = needed.content, needed.outcome
    if outcome == "success":
        run.state = state
    count = loop_guard.failures(run.messages, part, content) + 1 if outcome == "failed" else 0
    if count == loop_guard.WARN_AT:
        content += loop_guard.WARNING
    taken = StepRecord(
        seq=run.steps + 1,
        kind="tool",
        call_id=part.tool_call_id,
        tool_name=part.tool_name,
        error=None if outcome == "success" else {"outcome": outcome, "message": content},
        started_at=started_at,
        completed_at=now(),
    )
    result = ToolReturnPart(part.tool_name, content, part.tool_call_id, outcome=outcome)
    ending = _stuck(run, part.tool_name) if count >= loop_guard.END_AT else None
    await record(
        run,
        out,
        taken,
        [ModelRequest(parts=[result])],
        effect=Effect(move.message_seq, "unknown" if outcome == "interrupted" else "done"),
        preview=content[:PREVIEW_CHARACTERS],
        ending=ending,
    )
    return ending is not None


def _stuck(run: Run, tool: str) -> Ending:
    return partial_ending(
        run,
        "failed",
        error_code="ResourceExhausted",
        error_message=f"The model made the same call of {tool} {loop_guard.END_AT} times, and it "
        "failed in the same way each time. Look at the tool's error in the steps, and at what the "
        "instructions say of it.",
    )


async def _call_tool(
    run: Run,
    move: CallTool,
    toolset: Toolset,
    workspace: Workspace | None,
    state: dict[str, Any],
    out: Outside,
) -> Answer:
    """The result as the model sees it, and how it went."""
    part = move.part
    tool = toolset.get(part.tool_name)
    effect = "none" if tool is None else tool.effect
    if effect != "none":
        await _intend(run, move, effect, out)
    context = ToolContext(
        organization_id=run.lease.organization_id,
        execution_id=run.lease.execution_id,
        workspace=workspace,
        state=state,
        idempotency_key=run.idempotency_key(move.message_seq, part.tool_call_id),
    )
    call = toolset.call(part.tool_name, part.args if part.args is not None else {}, context)
    try:
        return Answer(await interruptible(run, out, call), "success")
    except ToolFailed as failure:
        return Answer(failure.message, "failed")


async def _intend(run: Run, move: CallTool, policy: str, out: Outside) -> None:
    part = move.part
    async with out.database.hot(run.lease.organization_id) as connection:
        await journal.record_intent(
            connection,
            run.lease,
            message_seq=move.message_seq,
            call_id=part.tool_call_id,
            idempotency_key=run.idempotency_key(move.message_seq, part.tool_call_id),
            tool_name=part.tool_name,
            arguments=arguments_of(part),
            policy=policy,
        )
    run.require_fresh_lease()
