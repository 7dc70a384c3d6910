"""What a broken answer used, where its provider did not get to tell (SPEC USE-1). Pure.

Most providers count at the end of an answer; one that breaks off has been billed all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import orjson
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from chargehand.catalog.tokens import estimated_tokens
from chargehand.runtime.ports import ModelCall


def usage_of_what_came(call: ModelCall, partial: ModelResponse) -> RequestUsage:
    """What the provider told, and an estimate in place of what it did not."""
    told = partial.usage
    return replace(
        told,
        input_tokens=told.input_tokens or _input_tokens(call),
        output_tokens=max(told.output_tokens, _estimate([partial])),
    )


def _input_tokens(call: ModelCall) -> int:
    """The last whole answer's own count, and an estimate of what has come since; else of all."""
    counted, tail = 0, list(call.messages)
    for index in range(len(tail) - 1, -1, -1):
        message = tail[index]
        if isinstance(message, ModelResponse) and message.usage.input_tokens:
            counted, tail = message.usage.total_tokens, tail[index + 1 :]
            break
    if counted:
        return counted + _estimate(tail)
    tools = [orjson.dumps(tool.parameters_json_schema).decode() for tool in call.tools]
    return _estimate(tail) + estimated_tokens("".join([call.instructions or "", *tools]))


def _estimate(messages: Sequence[ModelMessage]) -> int:
    return estimated_tokens("".join(_texts(messages)))


def _texts(messages: Sequence[ModelMessage]) -> Iterator[str]:
    for message in messages:
        for part in message.parts:
            match part:
                case TextPart(content=text) | ThinkingPart(content=text):
                    yield text
                case ToolCallPart():
                    yield part.tool_name + part.args_as_json_str()
                case ToolReturnPart():
                    yield part.model_response_str()
                case UserPromptPart(content=str(text)):
                    yield text
                case UserPromptPart(content=items):
                    yield from (item for item in items if isinstance(item, str))
                case _:
                    pass
