"""What a run does next, decided from its messages alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)

Numbered = tuple[int, ModelMessage]


@dataclass(frozen=True, slots=True)
class CallModel:
    """The model is to speak."""


@dataclass(frozen=True, slots=True)
class CallTool:
    """This call of message ``message_seq`` has no result yet."""

    part: ToolCallPart
    message_seq: int


@dataclass(frozen=True, slots=True)
class Rest:
    """The last answer holds no tool call: it was the run's last word."""


Move = CallModel | CallTool | Rest


def next_move(messages: Sequence[Numbered]) -> Move:
    """Tool calls of an answer are made one after the other, in the order the model gave them."""
    found = _last_response(messages)
    if found is None:
        return CallModel()
    index, seq, response = found
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    answered = _results_after(messages, index)
    for part in calls:
        if part.tool_call_id not in answered:
            return CallTool(part, seq)
    spoken_to_since = index < len(messages) - 1
    return CallModel() if calls or spoken_to_since else Rest()


def _last_response(messages: Sequence[Numbered]) -> tuple[int, int, ModelResponse] | None:
    for index in range(len(messages) - 1, -1, -1):
        seq, message = messages[index]
        if isinstance(message, ModelResponse):
            return index, seq, message
    return None


def _results_after(messages: Sequence[Numbered], index: int) -> set[str]:
    return {
        part.tool_call_id
        for _, message in messages[index + 1 :]
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
