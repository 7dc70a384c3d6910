"""What one request to a model holds, as the simulated provider reads it."""

from collections.abc import Iterator, Sequence
from itertools import chain

import orjson
from pydantic_ai.messages import (
    BinaryContent,
    CachePoint,
    ImageUrl,
    ModelMessage,
    ModelResponse,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

from chargehand.catalog.entries import Capability


def results(messages: Sequence[ModelMessage]) -> list[tuple[str, str]]:
    """The (tool, content) of every tool result since the last answer."""
    found = list[tuple[str, str]]()
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            break
        found[:0] = [
            (part.tool_name, part.model_response_str())
            for part in message.parts
            if isinstance(part, ToolReturnPart)
        ]
    return found


def prompt(message: ModelMessage) -> str:
    """The user's text in one message; empty where there is none."""
    return "\n".join(
        item if isinstance(item, str) else item.content
        for item in _user_content(message)
        if isinstance(item, str | TextContent)
    )


def _user_content(message: ModelMessage) -> Iterator[UserContent]:
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            yield from [part.content] if isinstance(part.content, str) else part.content


def files(messages: Sequence[ModelMessage]) -> list[UserContent]:
    content = chain.from_iterable(map(_user_content, messages))
    return [item for item in content if not isinstance(item, str | TextContent | CachePoint)]


def kind(file: UserContent) -> Capability:
    match file:
        case ImageUrl() | BinaryContent(is_image=True):
            return "image"
        case BinaryContent(media_type="application/pdf"):
            return "pdf"
        case _:
            return "file"


def texts(messages: Sequence[ModelMessage]) -> Iterator[str]:
    """Every text that the history shows the model, instructions aside."""
    for message in messages:
        yield prompt(message)
        for part in message.parts:
            if isinstance(part, SystemPromptPart | TextPart | ThinkingPart):
                yield part.content
            elif isinstance(part, ToolReturnPart):
                yield part.model_response_str()
            elif isinstance(part, ToolCallPart):
                yield part.tool_name + part.args_as_json_str()


def schemas(parameters: ModelRequestParameters) -> Iterator[bytes]:
    for tool in parameters.function_tools:
        yield orjson.dumps([tool.name, tool.description, tool.parameters_json_schema])
    if parameters.output_object is not None:
        yield orjson.dumps(parameters.output_object.json_schema)
