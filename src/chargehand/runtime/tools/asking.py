"""Tools whose answer comes from outside: a person's, or an event (SPEC EXE-7)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from chargehand.agents.jsonschema import schema_violations
from chargehand.runtime.tools.tool import Awaited, Tool, ToolContext, ToolFailed

DEADLINE_S = 604_800.0

QUESTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {
            "type": "string",
            "minLength": 1,
            "maxLength": 10_000,
            "description": "What you want to know, for a person who may not know the task.",
        },
        "answer_schema": {
            "type": "object",
            "description": "JSON Schema of the answer; left out, the answer is text.",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}

EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event_type": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "The type of the event, like invoice.paid.",
        },
        "filter": {
            "type": "object",
            "description": "Members that the event's payload must have, with these values.",
        },
    },
    "required": ["event_type"],
    "additionalProperties": False,
}


def ask_user_tools(options: Mapping[str, Any]) -> Sequence[Tool]:
    return (
        Tool(
            name="ask_user",
            description=(
                "Ask a person, and get the answer. Ask only what you cannot find out yourself: it "
                "may take hours."
            ),
            parameters=QUESTION,
            effect="none",
            run=_never,
            awaits=partial(_question, options),
        ),
    )


def await_event_tools(options: Mapping[str, Any]) -> Sequence[Tool]:
    return (
        Tool(
            name="await_event",
            description="Wait until an event of this type comes, and get what it tells.",
            parameters=EVENT,
            effect="none",
            run=_never,
            awaits=partial(_event, options),
        ),
    )


def _question(options: Mapping[str, Any], arguments: dict[str, Any]) -> Awaited:
    if found := schema_violations(arguments.get("answer_schema") or {}, ("answer_schema",)):
        raise ToolFailed(
            f"The answer_schema cannot be used: at {found[0].pointer}: {found[0].message}. Nobody "
            "was asked. Correct it, or leave it out."
        )
    return _awaited("input", options, arguments)


def _event(options: Mapping[str, Any], arguments: dict[str, Any]) -> Awaited:
    return _awaited("event", options, arguments)


def _awaited(
    kind: Literal["input", "event"], options: Mapping[str, Any], request: Mapping[str, Any]
) -> Awaited:
    return Awaited(
        kind,
        request,
        options.get("deadline_s", DEADLINE_S),
        options.get("on_deadline", "continue"),
    )


async def _never(_context: ToolContext, _arguments: dict[str, Any]) -> str:
    raise AssertionError("the answer comes from outside")
