"""One step of a run: one tool call, through the effect journal (SPEC EXE-4)."""

from copy import deepcopy
from typing import Any, Literal

from pydantic_ai.messages import ModelRequest, ToolReturnPart

from chargehand.executions import journal
from chargehand.executions.journal import Effect, StepRecord
from chargehand.kernel.clock import now
from chargehand.runtime.decide import CallTool
from chargehand.runtime.history import arguments_of
from chargehand.runtime.interruption import interruptible
from chargehand.runtime.recording import record
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.toolset import ToolContext, ToolFailed, Toolset
from chargehand.runtime.workspaces import Workspace

PREVIEW_CHARACTERS = 500


Outcome = Literal["success", "failed", "interrupted"]
"""Pydantic-ai's words for how a tool call went."""


async def take_tool_step(
    run: Run, move: CallTool, toolset: Toolset, workspace: Workspace | None, out: Outside
) -> bool:
    """Make one call and record it; the run goes on, so the answer is always False.

    Raises LeaseLost, CancelRequested, OutOfTime.
    """
    started_at, part = now(), move.part
    # A call that fails leaves the run's state as it was.
    state = deepcopy(run.state)
    content, outcome = await _call_tool(run, move, toolset, workspace, state, out)
    if outcome == "success":
        run.state = state
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
    await record(
        run,
        out,
        taken,
        [ModelRequest(parts=[result])],
        effect=Effect(move.message_seq, "unknown" if outcome == "interrupted" else "done"),
        preview=content[:PREVIEW_CHARACTERS],
    )
    return False


async def _call_tool(
    run: Run,
    move: CallTool,
    toolset: Toolset,
    workspace: Workspace | None,
    state: dict[str, Any],
    out: Outside,
) -> tuple[str, Outcome]:
    """The result as the model sees it, and how it went."""
    part = move.part
    tool = toolset.get(part.tool_name)
    effect = "none" if tool is None else tool.effect
    cut_short = (move.message_seq, part.tool_call_id) in run.open_effects
    if cut_short and effect not in ("none", "idempotent"):
        return _UNKNOWN_OUTCOME, "interrupted"
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
        return await interruptible(run, out, call), "success"
    except ToolFailed as failure:
        return failure.message, "failed"


_UNKNOWN_OUTCOME = (
    "The worker was lost while this call was being made. It is not known whether it had its "
    "effect, and it was not made again. Find out what is the case before you go on."
)


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
