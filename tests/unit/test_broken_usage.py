"""What an answer that broke off is billed at, where its vendor did not get to count (USE-1)."""

from typing import Any

import orjson
import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from chargehand.catalog.tokens import estimated_tokens
from chargehand.runtime.broken_usage import usage_of_what_came
from chargehand.runtime.ports import ModelCall

QUESTION = ModelRequest(parts=[UserPromptPart("q" * 70)])  # 20 tokens
NOTHING = ModelResponse(parts=[])


def call_of(*messages: ModelMessage, **overrides: Any) -> ModelCall:
    given: dict[str, Any] = {"instructions": None, "tools": (), **overrides}
    return ModelCall(
        call_id="1.1.1",
        attempt=1,
        model="m",
        messages=messages,
        settings=ModelSettings(),
        output_schema=None,
        timeout_s=1,
        **given,
    )


def used(call: ModelCall, partial: ModelResponse) -> tuple[int, int]:
    usage = usage_of_what_came(call, partial)
    return usage.input_tokens, usage.output_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("a" * 7, 2), ("a" * 8, 3), ("日本", 2)],
)
def test_a_text_is_estimated_by_its_bytes_rounded_up(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_where_nothing_was_told_all_that_was_sent_is_estimated() -> None:
    assert used(call_of(QUESTION), NOTHING) == (20, 0)


def test_what_was_told_stands() -> None:
    told = RequestUsage(input_tokens=1000, output_tokens=500, cache_read_tokens=600)
    partial = ModelResponse(parts=[TextPart("t" * 35)], usage=told)
    assert usage_of_what_came(call_of(QUESTION), partial) == told


def test_more_text_than_was_told_counts_as_it_came() -> None:
    told = RequestUsage(input_tokens=1000, output_tokens=1)
    partial = ModelResponse(parts=[TextPart("t" * 35)], usage=told)
    assert used(call_of(QUESTION), partial) == (1000, 10)


def test_what_was_counted_before_is_not_estimated_again() -> None:
    counted = ModelResponse(
        parts=[ToolCallPart("ls", {}, "1")],
        usage=RequestUsage(input_tokens=300, output_tokens=40),
    )
    result = ModelRequest(parts=[ToolReturnPart("ls", "r" * 35, "1")])
    tool = ToolDefinition(name="ls", parameters_json_schema={"type": "object"})
    given: Any = {"instructions": "i" * 350, "tools": [tool]}
    assert used(call_of(QUESTION, counted, result, **given), NOTHING) == (300 + 40 + 10, 0)
    # The newest count holds the older ones.
    newer = ModelResponse(parts=[], usage=RequestUsage(input_tokens=900, output_tokens=9))
    history = (QUESTION, counted, result, newer, QUESTION)
    assert used(call_of(*history, **given), NOTHING) == (900 + 9 + 20, 0)


def test_an_answer_that_nobody_counted_is_estimated_too() -> None:
    answer = ModelResponse(parts=[TextPart("a" * 35)])
    result = ModelRequest(parts=[ToolReturnPart("ls", {"a": 1}, "1")])
    assert used(call_of(QUESTION, answer, result), NOTHING) == (20 + 12, 0)


def test_instructions_and_tools_are_sent_too() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = ToolDefinition(name="weather", parameters_json_schema=schema)
    call = call_of(QUESTION, instructions="i" * 35, tools=[tool, tool])
    sent = 35 + 2 * len(orjson.dumps(schema))
    assert used(call, NOTHING) == (20 + estimated_tokens("i" * sent), 0)


def test_blocks_count_by_their_text() -> None:
    picture = BinaryContent(b"x" * 1000, media_type="image/png")
    blocks = ModelRequest(parts=[UserPromptPart(["q" * 35, picture, "q" * 35])])
    assert used(call_of(blocks), NOTHING) == (20, 0)


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ([TextPart("t" * 35)], 10),
        ([ThinkingPart("t" * 35)], 10),
        ([ToolCallPart("n" * 20, '{"a":"bcdefgh"}')], 10),
        ([ToolCallPart("n" * 20, {"a": 1})], 8),
        ([ThinkingPart("t" * 7), TextPart("t" * 7), ToolCallPart("n" * 7, '{"a":1}')], 8),
    ],
)
def test_all_that_came_is_output(parts: list[Any], tokens: int) -> None:
    assert used(call_of(QUESTION), ModelResponse(parts=parts)) == (20, tokens)
