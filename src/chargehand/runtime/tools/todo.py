"""The run's list of things to do, which the model keeps for itself and people watch."""

from collections.abc import Mapping, Sequence
from typing import Any

from chargehand.runtime.tools.tool import Tool, ToolContext

STATE = "todos"
STATUSES = {"completed": "x", "in_progress": "~", "pending": " "}
MAX_TODOS = 50
MAX_CONTENT_CHARACTERS = 300

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "todos": {
            "type": "array",
            "maxItems": MAX_TODOS,
            "description": "The whole list, in order; it replaces the one before.",
            "items": {
                "type": "object",
                "properties": {
                    "content": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": MAX_CONTENT_CHARACTERS,
                        "description": "What is to be done.",
                    },
                    "status": {"type": "string", "enum": sorted(STATUSES)},
                },
                "required": ["content", "status"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["todos"],
    "additionalProperties": False,
}


def todo_tools(_options: Mapping[str, Any]) -> Sequence[Tool]:
    return (
        Tool(
            name="todo_write",
            description=(
                "Keep a list of the steps of your task. Write it when a task has several steps, "
                "and again, whole, whenever one begins or is done."
            ),
            parameters=PARAMETERS,
            effect="none",
            run=todo_write,
        ),
    )


async def todo_write(context: ToolContext, arguments: dict[str, Any]) -> str:
    """Replace ``state["todos"]``: a list of ``{"content", "status"}``."""
    todos = arguments["todos"]
    context.state[STATE] = todos
    if not todos:
        return "The list is empty now."
    done = sum(todo["status"] == "completed" for todo in todos)
    lines = [f"[{STATUSES[todo['status']]}] {todo['content']}" for todo in todos]
    return "\n".join([f"{done} of {len(todos)} done", *lines])
