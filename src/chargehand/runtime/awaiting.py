"""What a tool call must wait for before it is made, or instead of being made. Pure.

SPEC EXE-7, EXE-18, EXE-4: approval of a marked tool, the caller's own tools, tools that ask; and a
person's decision on a call that was cut short, where the tool's policy is ``ask``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_ai.messages import ModelResponse, ToolCallPart

from chargehand.executions.waits import Closed, Wait, WaitKind
from chargehand.runtime.decide import CallTool
from chargehand.runtime.history import arguments_of
from chargehand.runtime.runs import Run
from chargehand.runtime.tools.tool import Tool
from chargehand.runtime.toolset import ToolFailed, Toolset, parse_arguments

TOOLS_DEADLINE_S = 604_800.0
"""How long a run waits for the results of its caller's tools: a week."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's result without the tool being called."""

    content: str
    outcome: Literal["success", "failed", "denied", "interrupted"]


def before(run: Run, move: CallTool, toolset: Toolset) -> Wait | Answer | None:
    """What the call waits for, or its answer from outside; None: the tool is to be called."""
    name = move.part.tool_name
    if toolset.is_of_caller(name):
        return _of_caller(run, move, toolset)
    tool = toolset.get(name)
    if tool is None:
        return None
    try:
        arguments = parse_arguments(tool, move.part.args)
        if tool.awaits is not None:
            return _from_outside(run, move, tool, arguments, toolset)
    except ToolFailed:
        return None  # the call itself will say so
    if (move.message_seq, move.part.tool_call_id) in run.open_effects:
        return _repetition(run, move, tool)
    return _approval(run, move)


def _of_caller(run: Run, move: CallTool, toolset: Toolset) -> Wait | Answer:
    closed = _closed(run, "tools", move)
    if closed is not None:
        return _result(closed, move.part.tool_call_id, toolset)
    response = next(message for seq, message in run.messages if seq == move.message_seq)
    assert isinstance(response, ModelResponse)
    calls = [
        part
        for part in response.parts
        if isinstance(part, ToolCallPart) and toolset.is_of_caller(part.tool_name)
    ]
    return Wait(
        kind="tools",
        message_seq=move.message_seq,
        call_id=move.part.tool_call_id,
        request={"calls": [_told(part) for part in calls]},
        deadline_s=TOOLS_DEADLINE_S,
    )


def _result(closed: Closed, call_id: str, toolset: Toolset) -> Answer:
    given: Mapping[str, Any] = (closed.answer or {}).get(call_id, {})
    if "output" in given:
        return Answer(toolset.presented(given["output"]), "success")
    return Answer(given.get("error") or "No result came.", "failed")


def _from_outside(
    run: Run, move: CallTool, tool: Tool, arguments: dict[str, Any], toolset: Toolset
) -> Wait | Answer:
    assert tool.awaits is not None
    awaited = tool.awaits(arguments)
    closed = _closed(run, awaited.kind, move)
    if closed is None:
        return Wait(
            kind=awaited.kind,
            message_seq=move.message_seq,
            call_id=move.part.tool_call_id,
            request=awaited.request,
            deadline_s=awaited.deadline_s,
            on_deadline=awaited.on_deadline,
        )
    if closed.outcome == "expired":
        return Answer("Nothing came before the deadline. Go on without it.", "failed")
    return Answer(toolset.presented(closed.answer), "success")


def _approval(run: Run, move: CallTool) -> Wait | Answer | None:
    policy = run.config.approvals.get(move.part.tool_name)
    if policy is None:
        return None
    closed = _closed(run, "approval", move)
    if closed is None or closed.request["calls"] != [_told(move.part)]:
        return _to_approve(move, "needs_approval", policy.persons, policy)
    return _denied(closed)


def _denied(closed: Closed) -> Answer | None:
    if closed.outcome == "approved":
        return None
    if closed.outcome == "expired":
        return Answer("Nobody approved this call before the deadline. It was not made.", "denied")
    comment = (closed.answer or {}).get("comment")
    because = f": {comment}" if comment else "."
    return Answer(f"A person denied this call{because} It was not made.", "denied")


def _repetition(run: Run, move: CallTool, tool: Tool) -> Wait | Answer | None:
    """A call that was cut short: each time anew, a person decides whether it is made again."""
    begun = run.open_effects[move.message_seq, move.part.tool_call_id]
    if tool.effect in ("none", "idempotent"):
        return None
    if tool.effect == "unknown":
        return Answer(UNKNOWN_OUTCOME, "interrupted")
    closed = _closed(run, "approval", move)
    if closed is None or closed.at < begun.started_at:
        policy = run.config.approvals.get(move.part.tool_name)
        return _to_approve(move, "interrupted", policy.persons if policy else 1, policy)
    return None if closed.outcome == "approved" else Answer(UNKNOWN_OUTCOME, "interrupted")


UNKNOWN_OUTCOME = (
    "The worker was lost while this call was being made. It is not known whether it had its "
    "effect, and it was not made again. Find out what is the case before you go on."
)


def _to_approve(move: CallTool, reason: str, persons: int, policy: Any) -> Wait:
    return Wait(
        kind="approval",
        message_seq=move.message_seq,
        call_id=move.part.tool_call_id,
        request={"calls": [_told(move.part)], "reason": reason, "persons": persons},
        deadline_s=policy.deadline_s if policy else TOOLS_DEADLINE_S,
        on_deadline=policy.on_deadline if policy else "continue",
    )


def _told(part: ToolCallPart) -> dict[str, Any]:
    return {
        "call_id": part.tool_call_id,
        "tool_name": part.tool_name,
        "arguments": arguments_of(part),
    }


def _closed(run: Run, kind: WaitKind, move: CallTool) -> Closed | None:
    return run.closings.get((kind, move.message_seq, move.part.tool_call_id))
