"""What a run does next follows from its messages, wherever it was cut off."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from chargehand.runtime.decide import CallModel, CallTool, Rest, next_move
from chargehand.runtime.history import with_unique_calls

INPUT = ModelRequest(parts=[UserPromptPart("go")])


def calls(*ids: str) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id=i) for i in ids])


def result(call: str) -> ModelRequest:
    return ModelRequest(parts=[ToolReturnPart("look", "seen", call)])


def numbered(*messages: ModelMessage) -> list[tuple[int, ModelMessage]]:
    return list(enumerate(messages))


def test_the_model_speaks_first() -> None:
    assert next_move(numbered(INPUT)) == CallModel()


def test_an_answer_without_calls_is_the_last_word() -> None:
    assert next_move(numbered(INPUT, ModelResponse(parts=[TextPart("done")]))) == Rest()


def test_a_request_after_an_answer_is_answered() -> None:
    answer = ModelResponse(parts=[TextPart("{}")])
    assert next_move(numbered(INPUT, answer, INPUT)) == CallModel()


@given(st.integers(1, 6), st.data())
def test_calls_are_made_in_order_and_none_twice(count: int, data: st.DataObject) -> None:
    ids = [f"c{n}" for n in range(count)]
    made = data.draw(st.integers(0, count))
    move = next_move(numbered(INPUT, calls(*ids), *(result(i) for i in ids[:made])))
    if made == count:
        assert move == CallModel()
    else:
        assert isinstance(move, CallTool)
        assert (move.part.tool_call_id, move.message_seq) == (ids[made], 1)


def test_the_same_id_in_a_later_turn_is_another_call() -> None:
    history = numbered(INPUT, calls("c0"), result("c0"), calls("c0"))
    move = next_move(history)
    assert isinstance(move, CallTool)
    assert move.message_seq == 3


def test_two_calls_of_one_answer_never_share_an_id() -> None:
    answer = with_unique_calls(calls("c0", "c1", "c0"))
    ids = [part.tool_call_id for part in answer.parts if isinstance(part, ToolCallPart)]
    assert len(set(ids)) == 3
    assert ids[:2] == ["c0", "c1"]
