"""A run's messages: pydantic-ai's types in memory, one JSON row each in ``run_messages``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserContent,
    UserPromptPart,
)


def dump(message: ModelMessage) -> Any:
    """The JSON of one message, as it is stored."""
    return ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]


def load(stored: Sequence[Any]) -> list[ModelMessage]:
    """Messages as they were stored, by this or an earlier version of the library."""
    return ModelMessagesTypeAdapter.validate_python(list(stored))


def input_message(document: Any, media: Mapping[str, BinaryContent] | None) -> ModelRequest:
    """The first message of a run: its input, as text, as JSON text, or block by block.

    ``media`` is given where the input was accepted as a list of blocks: the content of each
    upload that a block names, by the upload's id.
    """
    if media is not None:
        return ModelRequest(parts=[UserPromptPart([_block(b, media) for b in document])])
    text = document if isinstance(document, str) else orjson.dumps(document).decode()
    return ModelRequest(parts=[UserPromptPart(text)])


def with_event(first: ModelRequest, event: Mapping[str, Any] | None) -> ModelRequest:
    """The first message, and behind it the event that the run waited for before it began."""
    if event is None:
        return first
    text = "The awaited event has come:\n" + orjson.dumps(event).decode()
    return replace(first, parts=[*first.parts, UserPromptPart(text)])


def _block(block: Mapping[str, Any], media: Mapping[str, BinaryContent]) -> UserContent:
    return block["text"] if block["type"] == "text" else media[block["upload_id"]]


def text_of(response: ModelResponse) -> str:
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))


def with_unique_calls(response: ModelResponse) -> ModelResponse:
    """The answer with its tool call ids made unique within it: models are not sure to."""
    seen = set[str]()
    parts = list(response.parts)
    for index, part in enumerate(parts):
        if isinstance(part, ToolCallPart):
            if part.tool_call_id in seen:
                parts[index] = replace(part, tool_call_id=f"{part.tool_call_id}_{index}")
            seen.add(parts[index].tool_call_id)  # pyright: ignore[reportAttributeAccessIssue]
    return replace(response, parts=parts)


def arguments_of(part: ToolCallPart) -> Any:
    """A call's arguments as JSON where they are, else the text that the model gave."""
    if not isinstance(part.args, str):
        return part.args or {}
    try:
        return orjson.loads(part.args or "{}")
    except orjson.JSONDecodeError:
        return part.args
