"""The simulated model through the port that every provider is behind (MOD-1, USE-1)."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelHTTPError,
    ModelQuotaExceededError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from chargehand.adapters import simulated
from chargehand.adapters.providers import Client, ModelLayer
from chargehand.catalog.models import find_model
from chargehand.catalog.pricing import TokenUsage, cost_of
from chargehand.runtime.model_call import token_usage
from chargehand.runtime.ports import ModelCall, ModelCallFailed, ModelProvider

BASH = ToolDefinition(
    name="bash",
    description="Runs a command.",
    parameters_json_schema={"type": "object", "properties": {"command": {"type": "string"}}},
)


def asked(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def make_call(*messages: ModelMessage | str, **overrides: object) -> ModelCall:
    history = [asked(message) if isinstance(message, str) else message for message in messages]
    call = ModelCall(
        call_id="call-1",
        attempt=1,
        model="standard",
        messages=history,
        instructions=None,
        tools=(),
        settings=ModelSettings(),
        output_schema=None,
        timeout_s=30,
    )
    return replace(call, **overrides)


async def collect(call: ModelCall, provider: ModelProvider) -> tuple[list[str], ModelResponse]:
    *deltas, answer = [item async for item in provider.stream(call)]
    assert isinstance(answer, ModelResponse)
    return [delta for delta in deltas if isinstance(delta, str)], answer


def stream(
    call: ModelCall, provider: ModelProvider | None = None
) -> tuple[list[str], ModelResponse]:
    return asyncio.run(collect(call, provider or simulated.provider()))


def answer_to(*messages: ModelMessage | str, **overrides: object) -> ModelResponse:
    return stream(make_call(*messages, **overrides))[1]


def failure_of(call: ModelCall, provider: ModelProvider | None = None) -> ModelCallFailed:
    with pytest.raises(ModelCallFailed) as raised:
        stream(call, provider)
    return raised.value


def events_in(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


# What it says


def test_without_directives_it_says_that_it_is_a_simulator() -> None:
    text = answer_to("What is the capital of France?", tools=[BASH]).text
    assert text is not None
    assert text.startswith("[simulated]")
    assert "What is the capital of France?" in text
    assert "bash" in text
    assert "@call" in text


def test_deltas_are_words_and_add_up_to_the_answer() -> None:
    deltas, answer = stream(make_call("@say One moment, please.\n@say Thank you."))
    assert deltas == ["One ", "moment, ", "please.\n\n", "Thank ", "you."]
    assert answer.text == "One moment, please.\n\nThank you."
    assert (answer.finish_reason, answer.state) == ("stop", "complete")
    assert answer.provider_response_id == "sim-call-1-1"
    assert (answer.provider_name, answer.model_name) == ("simulated", "standard")


def test_the_same_call_gets_the_same_answer() -> None:
    call = make_call("@say Hi.\n@call bash {}\n@tokens 7", tools=[BASH])
    (first, one), (second, other) = stream(call), stream(call)
    assert first == second
    assert (one.parts, one.usage) == (other.parts, other.usage)


def test_several_calls_in_one_answer_and_one_of_an_unknown_tool() -> None:
    answer = answer_to('@say Look.\n@call bash {"command": "ls"}\n@call nosuch', tools=[BASH])
    assert answer.parts == [
        TextPart("Look."),
        ToolCallPart("bash", '{"command": "ls"}', tool_call_id="call_0_0"),
        ToolCallPart("nosuch", "{}", tool_call_id="call_0_1"),
    ]
    assert answer.finish_reason == "tool_call"


def test_a_script_lives_through_a_run_and_a_later_text_lets_it_go_on() -> None:
    history: list[ModelMessage] = [asked("@call bash {}\n@then\n@quote 1\n@then\n@say Repaired.")]
    history.append(answer_to(*history, tools=[BASH]))
    history.append(ModelRequest(parts=[ToolReturnPart("bash", "first\nsecond", "call_0_0")]))
    history.append(quoted := answer_to(*history, tools=[BASH]))
    history.append(asked("That is not what the schema asks for."))
    assert quoted.text == "bash:\n> first"
    assert answer_to(*history).text == "Repaired."
    assert answer_to(*history, ModelResponse(parts=[TextPart("x")])).text == "Done."


def test_a_newer_script_replaces_the_older_and_call_ids_stay_apart() -> None:
    history = [asked("@call bash {}\n@then\n@say old"), answer_to("@call bash {}", tools=[BASH])]
    answer = answer_to(*history, asked("@call bash {}"), tools=[BASH])
    assert [part.tool_call_id for part in answer.tool_calls] == ["call_1_0"]


def test_an_answer_survives_storage() -> None:
    answer = answer_to('@say Look.\n@call bash {"command": "ls"}', tools=[BASH])
    stored = ModelMessagesTypeAdapter.dump_json([answer])
    assert ModelMessagesTypeAdapter.validate_json(stored) == [answer]


# What it counts


def test_tokens_asked_for_are_counted_and_priced() -> None:
    deltas, answer = stream(make_call("@tokens 200"))
    assert len(deltas) == answer.usage.output_tokens == 200
    entry = find_model("simulated", "standard")
    assert entry is not None
    cost = cost_of(token_usage(answer.usage), entry.prices[0])
    assert cost.output_cost == Decimal("0.0008")
    assert cost.input_cost == Decimal(answer.usage.input_tokens) / 1_000_000


def test_instructions_tools_and_history_are_input() -> None:
    plain = answer_to("@say hi").usage.input_tokens
    assert plain == 2
    assert answer_to("@say hi", instructions="x" * 400).usage.input_tokens == plain + 100
    assert answer_to("@say hi", tools=[BASH]).usage.input_tokens > plain + 10
    history = [asked("@say hi"), ModelResponse(parts=[TextPart("y" * 40)]), asked("z" * 40)]
    assert answer_to(*history).usage.input_tokens == plain + 20


def test_instructions_of_an_older_request_still_hold() -> None:
    first = ModelRequest(parts=[UserPromptPart("@call bash {}")], instructions="x" * 400)
    tail: list[ModelMessage] = []
    for turn in range(3):
        tail.append(ModelResponse(parts=[ToolCallPart("bash", "{}", f"call_{turn}_0")]))
        tail.append(ModelRequest(parts=[ToolReturnPart("bash", "ok", f"call_{turn}_0")]))
    assert answer_to(first, *tail).usage.input_tokens > 100


def test_usage_can_be_told() -> None:
    told = "@usage input=100 output=50 cache_read=60 cache_write=30 reasoning=20"
    usage = token_usage(answer_to(f"@say hi\n{told}").usage)
    assert usage == TokenUsage(
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_tokens=30,
        output_tokens=50,
        reasoning_tokens=20,
    )


def test_a_providers_inconsistent_counts_are_raised_to_their_parts() -> None:
    reported = RequestUsage(input_tokens=1, cache_read_tokens=5, output_reasoning_tokens=7)
    usage = token_usage(reported)
    assert (usage.input_tokens, usage.output_tokens) == (5, 7)


def test_max_tokens_is_kept_and_ends_with_length() -> None:
    answer = answer_to("@tokens 50\n@call bash {}", settings=ModelSettings(max_tokens=10))
    assert answer.usage.output_tokens == 10
    assert answer.finish_reason == "length"
    assert answer.tool_calls == []


def test_stop_sequences_end_the_text() -> None:
    answer = answer_to("@say one two three", settings=ModelSettings(stop_sequences=[" three"]))
    assert (answer.text, answer.finish_reason) == ("one two", "stop")


# What goes wrong


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_what_waiting_may_heal_is_retried(status: int) -> None:
    failure = failure_of(make_call(f"@fail {status} retry_after=1.5"))
    assert (failure.remedy, failure.status, failure.retry_after_s) == ("retry", status, 1.5)
    assert failure.message.startswith(f"simulated:standard answered {status}: ")
    assert failure.partial is None


@pytest.mark.parametrize("status", [400, 401, 403])
def test_the_callers_own_fault_is_given_up(status: int) -> None:
    failure = failure_of(make_call(f"@fail {status}"))
    assert (failure.remedy, failure.status) == ("give_up", status)


@pytest.mark.parametrize("kind", ["timeout", "connection"])
def test_a_transport_failure_is_retried_without_status(kind: str) -> None:
    failure = failure_of(make_call(f"@fail {kind}"))
    assert (failure.remedy, failure.status) == ("retry", None)


def test_a_failure_that_heals_at_the_third_attempt() -> None:
    script = "@fail 429 times=2\n@say better"
    assert failure_of(make_call(script, attempt=1)).status == 429
    assert failure_of(make_call(script, attempt=2)).status == 429
    assert answer_to(script, attempt=3).text == "better"


def test_a_failure_belongs_to_its_turn() -> None:
    history = [asked("@say fine\n@then\n@fail 503"), ModelResponse(parts=[TextPart("fine")])]
    assert answer_to(history[0]).text == "fine"
    assert failure_of(make_call(*history)).status == 503


def test_a_stream_that_breaks_carries_what_came() -> None:
    failure = failure_of(make_call("@tokens 20\n@cut 5 times=1"))
    assert failure.remedy == "retry"
    assert failure.partial is not None
    assert failure.partial.text == "lor ips dol sit ame "
    assert failure.partial.state == "incomplete"
    assert failure.partial.usage.output_tokens == 5
    assert failure.partial.usage.input_tokens > 0
    assert answer_to("@tokens 20\n@cut 5 times=1", attempt=2).usage.output_tokens == 20


def test_a_stream_cut_after_its_last_word_is_broken_too() -> None:
    failure = failure_of(make_call("@say all of it\n@cut 999"))
    assert failure.partial is not None
    assert failure.partial.text == "all of it"


def test_a_call_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    began = time.monotonic()
    failure = failure_of(make_call("@delay 30s", timeout_s=0.05), simulated.provider(log))
    assert time.monotonic() - began < 5
    assert (failure.remedy, failure.partial) == ("retry", None)
    assert failure.message == "simulated:standard timed out after 0.05 s"
    assert events_in(log) == ["started", "aborted"]


def test_a_stream_that_takes_too_long_carries_what_came() -> None:
    failure = failure_of(make_call("@say one two\n@tokens 9\n@pace 400ms", timeout_s=1))
    assert failure.partial is not None
    assert failure.partial.text in ("one ", "one two\n\n")
    assert failure.partial.usage.output_tokens > 0


def test_a_filtered_answer_is_given_up_and_billed() -> None:
    failure = failure_of(make_call("@say no\n@finish content_filter"))
    assert failure.remedy == "give_up"
    assert failure.partial is not None
    assert failure.partial.usage.output_tokens == 1


def test_a_wrong_directive_is_given_up_with_line_and_nearest() -> None:
    failure = failure_of(make_call("@say hi\n@cal bash"))
    assert (failure.remedy, failure.status) == ("give_up", 400)
    assert "line 2" in failure.message
    assert "did you mean @call?" in failure.message


def test_an_unknown_model_is_given_up_with_the_nearest() -> None:
    failure = failure_of(make_call("hi", model="standrad"))
    assert (failure.remedy, failure.status) == ("give_up", 404)
    assert "did you mean 'standard'?" in failure.message


@pytest.mark.parametrize(
    ("overrides", "lacking"),
    [
        ({"tools": [BASH]}, "tools"),
        ({"output_schema": {"type": "object"}}, "structured_output"),
        (
            {
                "messages": [
                    ModelRequest(
                        parts=[UserPromptPart([BinaryContent(b"x", media_type="image/png")])]
                    )
                ]
            },
            "image",
        ),
    ],
)
def test_the_text_model_refuses_what_it_cannot_do(
    overrides: dict[str, object], lacking: str
) -> None:
    failure = failure_of(make_call("@say hi", **overrides, model="text"))
    assert (failure.remedy, failure.status) == ("give_up", 400)
    assert lacking in failure.message


def test_the_standard_model_takes_images_pdfs_and_a_schema_but_no_audio() -> None:
    def with_file(media_type: str) -> ModelRequest:
        return ModelRequest(
            parts=[UserPromptPart(['@json {"a": 1}', BinaryContent(b"x", media_type=media_type)])]
        )

    for media_type in ("image/png", "application/pdf"):
        answer = answer_to(with_file(media_type), output_schema={"type": "object"})
        assert answer.text == '{"a": 1}'
        assert answer.usage.input_tokens > simulated.TOKENS_PER_FILE
    assert "file" in failure_of(make_call(with_file("audio/wav"))).message


class Finished(FunctionModel):
    """A function for a model, whose answers say that they are whole."""

    @asynccontextmanager
    async def request_stream(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        async with super().request_stream(*arguments, **named) as opened:
            opened.finish_reason = "stop"
            yield opened


# What any provider's errors become


def raising(error: Exception) -> ModelLayer:
    async def answer(_: Sequence[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        yield "some "
        raise error

    def build(name: str) -> Model:
        return FunctionModel(stream_function=answer, model_name=name)

    return ModelLayer("acme", lambda: Client(build))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ModelHTTPError(409, "m", {"error": {"message": "busy"}}), "retry"),
        (ModelHTTPError(404, "m", {"error": {"message": "no such"}}), "give_up"),
        (ModelHTTPError(422, "m", {"error": {"message": "bad"}}), "give_up"),
        (
            ModelHTTPError.for_category(
                ModelQuotaExceededError, status_code=429, model_name="m", body="no credit"
            ),
            "next_model",
        ),
        (ContentFilterError("filtered"), "give_up"),
        (UnexpectedModelBehavior("odd answer"), "retry"),
        (UserError("unsupported"), "give_up"),
    ],
)
def test_each_error_has_its_remedy_and_keeps_what_came(error: Exception, remedy: str) -> None:
    failure = failure_of(make_call("hi"), raising(error))
    assert failure.remedy == remedy
    assert failure.partial is not None
    assert failure.partial.text == "some "
    assert failure.__cause__ is error


def test_the_providers_own_words_are_the_message() -> None:
    error = ModelHTTPError(404, "m", {"error": {"message": "no such deployment"}})
    failure = failure_of(make_call("hi"), raising(error))
    assert failure.message == "acme:standard answered 404: no such deployment"


def test_a_model_is_built_once_for_each_name() -> None:
    built: list[str] = []

    async def answer(_: Sequence[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        yield "hi"

    def build(name: str) -> Model:
        built.append(name)
        return Finished(stream_function=answer, model_name=name)

    layer = ModelLayer("acme", lambda: Client(build))
    for name in ("a", "b", "a"):
        assert stream(make_call("hi", model=name), layer)[1].text == "hi"
    assert built == ["a", "b"]


def test_the_callers_own_headers_are_kept() -> None:
    seen: list[dict[str, str]] = []

    async def answer(_: Sequence[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append((info.model_settings or {}).get("extra_headers", {}))
        yield "hi"

    layer = ModelLayer("acme", lambda: Client(lambda _: Finished(stream_function=answer)))
    settings = ModelSettings(extra_headers={"X-Team": "a"})
    stream(make_call("hi", settings=settings, attempt=3), layer)
    assert seen == [{"X-Team": "a", "X-Client-Request-Id": "call-1", "X-Chargehand-Attempt": "3"}]
    assert settings == {"extra_headers": {"X-Team": "a"}}


# The call log and stopping


def test_the_log_has_a_start_and_an_end_for_each_call(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    provider = simulated.provider(log)
    stream(make_call("@say hi"), provider)
    failure_of(make_call("@fail 500", call_id="call-2"), provider)
    failure_of(make_call("@tokens 5\n@cut 2", call_id="call-3"), provider)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["call_id"], line["event"]) for line in lines] == [
        ("call-1", "started"),
        ("call-1", "answered"),
        ("call-2", "started"),
        ("call-2", "failed"),
        ("call-3", "started"),
        ("call-3", "failed"),
    ]
    assert {line["pid"] for line in lines} == {os.getpid()}
    assert {(line["model"], line["messages"]) for line in lines} == {("standard", 1)}
    assert all(datetime.fromisoformat(line["at"]).tzinfo for line in lines)


def test_closing_the_stream_early_aborts_the_call_at_once(tmp_path: Path) -> None:
    log = tmp_path / "calls"

    async def take_one() -> str | ModelResponse:
        call = make_call("@tokens 1000\n@pace 1ms")
        async with aclosing(simulated.provider(log).stream(call)) as items:
            first = await anext(items)
        assert events_in(log) == ["started", "aborted"]
        return first

    assert asyncio.run(take_one()) == "lor "


def test_cancelling_the_consumer_aborts_the_call(tmp_path: Path) -> None:
    log = tmp_path / "calls"

    async def cancel_when_started() -> None:
        task = asyncio.create_task(collect(make_call("@delay 60s"), simulated.provider(log)))
        while not log.exists():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel_when_started(), timeout=10))
    assert events_in(log) == ["started", "aborted"]


KILLED = """
import asyncio, sys
from pathlib import Path
from pydantic_ai.messages import ModelRequest, UserPromptPart
from chargehand.adapters import simulated
from chargehand.runtime.ports import ModelCall

async def run():
    call = ModelCall(call_id="doomed", attempt=1, model="standard",
        messages=[ModelRequest(parts=[UserPromptPart("@delay 60s")])], instructions=None,
        tools=(), settings={}, output_schema=None, timeout_s=60)
    async for _ in simulated.provider(Path(sys.argv[1])).stream(call):
        pass

asyncio.run(run())
"""


def wait_until(condition: Callable[[], bool], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def test_a_killed_process_leaves_a_start_without_an_end(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(log)])
    try:
        wait_until(lambda: log.exists() and log.stat().st_size > 0, deadline_s=30)
    finally:
        process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    stream(make_call("@say hi"), simulated.provider(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["call_id"], line["event"], line["pid"]) for line in lines] == [
        ("doomed", "started", process.pid),
        ("call-1", "started", os.getpid()),
        ("call-1", "answered", os.getpid()),
    ]
