"""The same call with the same failure, again and again (SPEC EXE-20). Pure."""

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelResponse, ToolCallPart, ToolReturnPart

from chargehand.runtime.decide import Numbered
from chargehand.runtime.history import arguments_of

WARN_AT = 3
END_AT = 5

WARNING = (
    "\n\nThis very call has failed in this way three times. Do not make it again: change the "
    f"arguments or go another way. The run ends when it has failed {END_AT} times."
)


def failures(messages: Sequence[Numbered], call: ToolCallPart, content: str) -> int:
    """How often this call, tool and arguments, has had this failed result in the run so far."""
    wanted = (call.tool_name, arguments_of(call), content)
    asked = dict[str, tuple[str, Any]]()
    count = 0
    for _, message in messages:
        if isinstance(message, ModelResponse):
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    asked[part.tool_call_id] = (part.tool_name, arguments_of(part))
        else:
            for part in message.parts:
                if isinstance(part, ToolReturnPart) and part.outcome == "failed":
                    text = str(part.content).removesuffix(WARNING)
                    count += (*asked.get(part.tool_call_id, ("", None)), text) == wanted
    return count
