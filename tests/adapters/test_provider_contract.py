"""One contract for every provider: what it can do and what it makes of each fault (MOD-1, MOD-2).

The vendors are imitated on the wire by a process of their own (``tests/peers``), which speaks
their protocols and is as strict as they are; the adapters, SDKs and sockets are the real ones.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from tests.factories.contract import Contract
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand.adapters import simulated, vendors
from chargehand.adapters.providers import ModelLayer
from chargehand.adapters.vendors import Connection
from chargehand.catalog.pricing import TokenUsage
from chargehand.runtime.history import dump, load, with_unique_calls
from chargehand.runtime.model_call import token_usage
from chargehand.runtime.ports import ModelCall, ModelCallFailed

PROVIDERS = (
    "simulated",
    "openai",
    "openai-chat",
    "openai-compatible",
    "azure",
    "azure-dated",
    "anthropic",
    "google",
)
contract = Contract("peer", PROVIDERS)

MODELS = {
    "simulated": "standard",
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash",
}
THINKING_MODELS = {"openai": "gpt-5", "google": "gemini-3-pro-preview"}
THINKING = ModelSettings(thinking="low", max_tokens=8000)
PATIENCE_S, IMPATIENCE_S = 15.0, 0.5
"""How long an answer may be silent: where silence is no matter, a busy machine is no fault."""

OFFLINE = "The simulator is no peer on a wire, so nothing can happen to the wire."
NO_FILTER = "Its server tells no refusal apart from an answer."
NO_CACHE_WRITES = "Its vendor reports no tokens written to the cache."
AN_ANSWER = "Without text, and with a reason why it ended, it is an answer: models do say nothing."
NO_REASONING_COUNT = "Its vendor counts reasoning as output, without telling how much it was."

WEATHER = ToolDefinition(
    name="weather",
    description="Tells the weather.",
    parameters_json_schema={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WORDS = ("rain", "sun")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass
class Peer:
    """One provider behind the port, and what it saw of the calls."""

    name: str
    layer: ModelLayer
    call_log: Path
    model: str

    def calls(self, event: str = "started") -> list[dict[str, Any]]:
        lines = self.call_log.read_bytes().splitlines() if self.call_log.exists() else []
        return [line for line in map(orjson.loads, lines) if line["event"] == event]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
async def peer(request: pytest.FixtureRequest, fake: RunningFakeProvider, tmp_path: Path) -> Any:
    name = request.param
    if name == "simulated":
        log = tmp_path / "calls"
        yield Peer(name, simulated.provider(log), log, "standard")
        return
    fake.forget()
    layer = layer_of(name, connection_to(name, fake))
    yield Peer(name, layer, fake.log, MODELS.get(name, "gpt-4o"))
    await layer.close()


def layer_of(name: str, connection: Connection) -> ModelLayer:
    return vendors.provider(name.removesuffix("-dated"), connection)


def connection_to(name: str, fake: RunningFakeProvider, **overrides: Any) -> Connection:
    paths = {"openai": "/v1", "openai-chat": "/v1", "openai-compatible": "/compat/v1"}
    made = Connection(
        url=fake.url + paths.get(name, ""),
        api_key=None if name == "openai-compatible" else fake.key,
        idle_timeout_s=PATIENCE_S,
        connections=20,
        api_version="2025-04-01-preview" if name == "azure-dated" else None,
    )
    return replace(made, **overrides)


def asked(text: str | list[Any]) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


@asynccontextmanager
async def impatient(peer: Peer, fake: RunningFakeProvider) -> AsyncIterator[Peer]:
    """The same vendor, over connections that bear little silence."""
    layer = layer_of(peer.name, connection_to(peer.name, fake, idle_timeout_s=IMPATIENCE_S))
    try:
        yield replace(peer, layer=layer)
    finally:
        await layer.close()


def make_call(peer: Peer, *messages: ModelMessage | str, **overrides: Any) -> ModelCall:
    history = [asked(message) if isinstance(message, str) else message for message in messages]
    call = ModelCall(
        call_id="run/1.1.1",
        attempt=1,
        model=peer.model,
        messages=history,
        instructions=None,
        tools=(),
        settings=ModelSettings(max_tokens=1000),
        output_schema=None,
        timeout_s=20,
    )
    return replace(call, **overrides)


async def stream(peer: Peer, call: ModelCall) -> tuple[list[str], ModelResponse]:
    *deltas, answer = [item async for item in peer.layer.stream(call)]
    assert isinstance(answer, ModelResponse)
    return [delta for delta in deltas if isinstance(delta, str)], answer


async def answer_to(peer: Peer, *messages: ModelMessage | str, **overrides: Any) -> ModelResponse:
    return (await stream(peer, make_call(peer, *messages, **overrides)))[1]


async def failure_of(
    peer: Peer, script: str, *, calls: int = 1, **overrides: Any
) -> ModelCallFailed:
    """The failure of a call, which reaches the peer once: nothing below the port tries again."""
    before = len(peer.calls())
    with pytest.raises(ModelCallFailed) as raised:
        await stream(peer, make_call(peer, script, **overrides))
    assert len(peer.calls()) - before == calls
    assert raised.value.message.startswith(f"{peer.name.removesuffix('-dated')}:{peer.model} ")
    return raised.value


# Abilities


@contract.ability("completes")
async def test_it_completes(peer: Peer) -> None:
    answer = await answer_to(peer, "@say Good morning.", instructions="Be polite.")
    assert (answer.text, answer.finish_reason, answer.state) == (
        "Good morning.",
        "stop",
        "complete",
    )
    assert answer.provider_response_id
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@contract.ability("streams its text as it comes")
async def test_it_streams(peer: Peer) -> None:
    """Its whole answer takes longer than the call may: what came, came before the end."""
    arrived = list[str | ModelResponse]()
    call = make_call(peer, "@tokens 500\n@pace 50ms", timeout_s=15)
    async with aclosing(peer.layer.stream(call)) as items:
        async for item in items:
            arrived.append(item)
            if len(arrived) == 5:
                break
    assert "".join(map(str, arrived)).startswith("lor ips dol ")


@contract.ability("carries call id and attempt to the provider's log")
async def test_a_call_is_named(peer: Peer) -> None:
    await answer_to(peer, "@say hi", call_id="run/7.3.2", attempt=2)
    assert [call["call_id"] for call in peer.calls()] == ["run/7.3.2"]
    assert [call.get("attempt", 2) for call in peer.calls()] == [2]


@contract.ability("takes instructions", simulated="The simulator reads no instructions.")
async def test_instructions_arrive(peer: Peer) -> None:
    await answer_to(peer, "@say hi", instructions="Answer like a pirate.")
    assert peer.calls()[0]["instructions"] == "Answer like a pirate."


@contract.ability(
    "takes the instructions of a history, also later on",
    simulated="The simulator reads no instructions.",
)
async def test_instructions_in_the_history_arrive(peer: Peer) -> None:
    script = '@call weather {"city": "Oslo"}\n@then\n@say Rain.'
    question = replace(asked(script), instructions="Answer like a pirate.")
    first = await answer_to(peer, question, tools=[WEATHER])
    results = ModelRequest(parts=[result_of(call, "rain") for call in first.tool_calls])
    second = await answer_to(peer, question, first, results, tools=[WEATHER])
    await answer_to(peer, question, first, results, second, "@say Aye.", tools=[WEATHER])
    assert [call["instructions"] for call in peer.calls()] == ["Answer like a pirate."] * 3


@contract.ability("takes its sampling parameters", simulated="The simulator samples nothing.")
async def test_parameters_arrive(peer: Peer) -> None:
    settings = ModelSettings(temperature=0.5, top_p=0.25, max_tokens=123)
    await answer_to(peer, "@say hi", settings=settings)
    sent = peer.calls()[0]["settings"]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.5, 0.25, 123)


@contract.ability(
    "takes further parameters by the provider's names",
    simulated="The simulator takes no others.",
    google="Its layer passes none on; the catalogue refuses them.",
)
async def test_extra_parameters_arrive(peer: Peer) -> None:
    settings = ModelSettings(max_tokens=50, extra_body={"metadata": {"user_id": "u-1"}})
    await answer_to(peer, "@say hi", settings=settings)
    assert "metadata" in peer.calls()[0]["fields"]


@contract.ability("calls several tools in one answer, and goes on with their results")
async def test_tools(peer: Peer) -> None:
    script = (
        '@say Let me see.\n@call weather {"city": "Ålesund"}\n@call weather {"city": "Bergen"}\n'
        "@then\n@quote 1"
    )
    first = await answer_to(peer, script, tools=[WEATHER])
    calls = first.tool_calls
    assert first.text == "Let me see."
    assert first.finish_reason == "tool_call"
    assert [call.args_as_dict() for call in calls] == [{"city": "Ålesund"}, {"city": "Bergen"}]
    assert len({call.tool_call_id for call in calls}) == 2
    # Each result is a message of its own: so they are recorded, one after the other.
    results = [ModelRequest(parts=[result_of(c, w)]) for c, w in zip(calls, WORDS, strict=True)]
    second = await answer_to(peer, script, first, *results, tools=[WEATHER])
    assert second.text == "weather:\n> rain\nweather:\n> sun"


@contract.ability("gives structured output by JSON Schema")
async def test_structured_output(peer: Peer) -> None:
    answer = await answer_to(peer, '@json {"city": "Oslo"}', output_schema=SCHEMA)
    assert orjson.loads(answer.text or "") == {"city": "Oslo"}
    assert peer.calls()[0].get("schema", True) is True


@contract.ability("gives structured output beside tools")
async def test_structured_output_beside_tools(peer: Peer) -> None:
    script = '@call weather {"city": "Oslo"}\n@then\n@json {"city": "Oslo"}'
    given: Any = {"tools": [WEATHER], "output_schema": SCHEMA}
    first = await answer_to(peer, script, **given)
    results = ModelRequest(parts=[result_of(call, "rain") for call in first.tool_calls])
    second = await answer_to(peer, script, first, results, **given)
    assert orjson.loads(second.text or "") == {"city": "Oslo"}


@contract.ability("sees images")
async def test_images(peer: Peer) -> None:
    picture = BinaryContent(PNG, media_type="image/png")
    answer = await answer_to(peer, asked(["@say I see.", picture]))
    assert answer.text == "I see."
    assert peer.calls()[0].get("files", ["image/png"]) == ["image/png"]


@contract.ability(
    "reads PDFs",
    azure="Its chat completions take no documents; the catalogue refuses them.",
    azure_dated="Its chat completions take no documents; the catalogue refuses them.",
)
async def test_pdfs(peer: Peer) -> None:
    document = BinaryContent(b"%PDF-1.4 nothing", media_type="application/pdf")
    answer = await answer_to(peer, asked(["@say Read.", document]))
    assert answer.text == "Read."
    assert peer.calls()[0].get("files", ["application/pdf"]) == ["application/pdf"]


@contract.ability("reads text files", simulated="The simulator takes none.")
async def test_text_files(peer: Peer) -> None:
    """As a file, or made part of the text: either way it is counted."""
    document = BinaryContent(b"word " * 2000, media_type="text/plain")
    answer = await answer_to(peer, asked(["@say Read.", document]))
    assert peer.calls()[0]["files"] == ["text/plain"] or answer.usage.input_tokens > 2000


@contract.ability("says of a kind of file that it does not take, or takes it whole")
async def test_other_files_are_never_dropped_in_silence(peer: Peer) -> None:
    document = BinaryContent(b"PK", media_type="application/x-nothing-known")
    remedy, files = None, ["application/x-nothing-known"]
    try:
        await answer_to(peer, asked(["@say Read.", document]))
        files = peer.calls()[0]["files"]
    except ModelCallFailed as failure:
        remedy = failure.remedy
    assert remedy in (None, "give_up")
    assert files == ["application/x-nothing-known"]


@contract.ability("says when its answer was cut at max_tokens")
async def test_length(peer: Peer) -> None:
    answer = await answer_to(peer, "@tokens 50", settings=ModelSettings(max_tokens=20))
    assert answer.finish_reason == "length"


@contract.ability(
    "stops at a sequence",
    openai="The Responses API takes none; the catalogue refuses them.",
)
async def test_stop_sequences(peer: Peer) -> None:
    settings = ModelSettings(max_tokens=100, stop_sequences=[" three"])
    answer = await answer_to(peer, "@say one two three four", settings=settings)
    assert (answer.text, answer.finish_reason) == ("one two", "stop")


@contract.ability("counts input and output")
async def test_usage(peer: Peer) -> None:
    answer = await answer_to(peer, "@say hi\n@usage input=1000 output=50")
    assert token_usage(answer.usage) == TokenUsage(input_tokens=1000, output_tokens=50)


@contract.ability("counts what was read from the cache")
async def test_cached_tokens(peer: Peer) -> None:
    answer = await answer_to(peer, "@say hi\n@usage input=1000 output=50 cache_read=600")
    expected = TokenUsage(input_tokens=1000, cache_read_tokens=600, output_tokens=50)
    assert token_usage(answer.usage) == expected


@contract.ability(
    "counts what was written to the cache",
    openai=NO_CACHE_WRITES,
    openai_chat=NO_CACHE_WRITES,
    openai_compatible=NO_CACHE_WRITES,
    azure=NO_CACHE_WRITES,
    azure_dated=NO_CACHE_WRITES,
    google=NO_CACHE_WRITES,
)
async def test_cache_writes(peer: Peer) -> None:
    answer = await answer_to(peer, "@say hi\n@usage input=1000 output=50 cache_write=100")
    expected = TokenUsage(input_tokens=1000, cache_write_tokens=100, output_tokens=50)
    assert token_usage(answer.usage) == expected


@contract.ability("counts reasoning", anthropic=NO_REASONING_COUNT)
async def test_reasoning_tokens(peer: Peer) -> None:
    answer = await answer_to(peer, "@say hi\n@usage input=10 output=50 reasoning=30")
    expected = TokenUsage(input_tokens=10, output_tokens=50, reasoning_tokens=30)
    assert token_usage(answer.usage) == expected


@contract.ability(
    "keeps its thinking out of the text, and takes it back with the history",
    simulated="The simulator does not think.",
    openai_chat="Chat Completions does not show it.",
    azure="Chat Completions does not show it.",
    azure_dated="Chat Completions does not show it.",
)
async def test_thinking(peer: Peer) -> None:
    script = '@wire thinking Hm, which city?\n@call weather {"city": "Oslo"}\n@then\n@say Rain.'
    peer = replace(peer, model=THINKING_MODELS.get(peer.name, peer.model))
    given: Any = {"tools": [WEATHER], "settings": THINKING}
    deltas, first = await stream(peer, make_call(peer, script, **given))
    assert deltas == []
    assert "Hm, which city?" in str(first.parts)
    stored = load([dump(first)])
    results = ModelRequest(parts=[result_of(call, "rain") for call in first.tool_calls])
    second = await answer_to(peer, script, *stored, results, **given)
    assert second.text == "Rain."
    came_back = peer.calls()[1]
    assert came_back["thinking"] == ["Hm, which city?"]
    # The compatible ones sign nothing; the others answered 400 to a signature that was not theirs.
    assert came_back["signatures"] == (0 if peer.name == "openai-compatible" else 1)


@contract.ability("has no more connections than it may", simulated=OFFLINE)
async def test_calls_wait_for_a_free_connection(peer: Peer, fake: RunningFakeProvider) -> None:
    layer = layer_of(peer.name, connection_to(peer.name, fake, connections=1))
    one = replace(peer, layer=layer)
    try:
        answers = [answer_to(one, "@delay 300ms\n@say hi", call_id=id_) for id_ in ("a", "b")]
        await asyncio.gather(*answers)
    finally:
        await layer.close()
    assert [call["event"] for call in fake.calls()] == ["started", "answered"] * 2


@contract.ability("is aborted on the wire when nobody listens any more")
async def test_abort(peer: Peer) -> None:
    call = make_call(peer, "@tokens 500\n@pace 20ms")
    async with aclosing(peer.layer.stream(call)) as items:
        async for _ in items:
            break
    await until(lambda: peer.calls("aborted"))


@contract.ability("is aborted on the wire before its first word")
async def test_abort_before_the_first_word(peer: Peer) -> None:
    async def consume() -> None:
        await stream(peer, make_call(peer, "@delay 30s\n@say late"))

    task = asyncio.create_task(consume())
    await until(lambda: peer.calls())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: peer.calls("aborted"))


# Faults


@contract.fault("429 with Retry-After in seconds")
async def test_rate_limit_in_seconds(peer: Peer) -> None:
    failure = await failure_of(peer, "@fail 429 retry_after=7")
    assert (failure.remedy, failure.status, failure.retry_after_s) == ("retry", 429, 7)


@contract.fault("429 with Retry-After as a fraction")
async def test_rate_limit_as_a_fraction(peer: Peer) -> None:
    failure = await failure_of(peer, "@fail 429 retry_after=1.5")
    assert (failure.remedy, failure.retry_after_s) == ("retry", 1.5)


@contract.fault("429 with Retry-After as a date", simulated=OFFLINE)
async def test_rate_limit_as_a_date(peer: Peer) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    failure = await failure_of(peer, f"@fail 429\n@wire retry-after {date}")
    assert failure.remedy == "retry"
    assert failure.retry_after_s is not None
    assert 25 < failure.retry_after_s <= 31


@contract.fault("408, 500, 503, 529")
@pytest.mark.parametrize("status", [408, 500, 503, 529])
async def test_what_waiting_may_heal(peer: Peer, status: int) -> None:
    failure = await failure_of(peer, f"@fail {status}")
    assert (failure.remedy, failure.status, failure.partial) == ("retry", status, None)


@contract.fault("400, 401, 403")
@pytest.mark.parametrize("status", [400, 401, 403])
async def test_the_callers_own_fault(peer: Peer, status: int) -> None:
    failure = await failure_of(peer, f"@fail {status}")
    assert (failure.remedy, failure.status) == ("give_up", status)


@contract.fault("a wrong key", simulated=OFFLINE, openai_compatible="Its server wants no key.")
async def test_a_wrong_key_is_given_up_and_not_shown(peer: Peer, fake: RunningFakeProvider) -> None:
    wrong = "sk-canary-4f9c1d2e7b"
    layer = layer_of(peer.name, connection_to(peer.name, fake, api_key=wrong))
    try:
        failure = await failure_of(replace(peer, layer=layer), "@say hi")
    finally:
        await layer.close()
    assert failure.remedy == "give_up"
    assert failure.status in (400, 401)
    assert wrong not in f"{failure} {failure.details} {failure.message}"


@contract.fault("a model that there is not")
async def test_an_unknown_model(peer: Peer) -> None:
    calls = 0 if peer.name == "simulated" else 1  # the simulator logs no call of such a model
    failure = await failure_of(replace(peer, model="no-such-model"), "@say hi", calls=calls)
    assert (failure.remedy, failure.status) == ("give_up", 404)


@contract.fault("no answer in time")
async def test_a_time_out(peer: Peer) -> None:
    began = time.monotonic()
    failure = await failure_of(peer, "@delay 30s\n@say late", timeout_s=0.3)
    assert time.monotonic() - began < 15
    assert (failure.remedy, failure.status) == ("retry", None)
    assert "timed out after 0.3 s" in failure.message


@contract.fault("a head that comes slowly, and in time", simulated=OFFLINE)
async def test_slow_headers_are_waited_for(peer: Peer, fake: RunningFakeProvider) -> None:
    async with impatient(peer, fake) as hasty:
        answer = await answer_to(hasty, "@wire slow-headers 900ms\n@say here")
    assert answer.text == "here"


@contract.fault("nobody there", simulated=OFFLINE)
async def test_nobody_there(peer: Peer) -> None:
    layer = layer_of(
        peer.name,
        Connection(url="http://127.0.0.1:9", api_key="k", idle_timeout_s=1, connections=1),
    )
    try:
        failure = await failure_of(replace(peer, layer=layer), "@say hi", calls=0)
    finally:
        await layer.close()
    assert (failure.remedy, failure.status, failure.partial) == ("retry", None, None)


@contract.fault("a connection reset before the answer")
async def test_a_reset(peer: Peer) -> None:
    failure = await failure_of(peer, "@fail connection")
    assert (failure.remedy, failure.status, failure.partial) == ("retry", None, None)


@contract.fault("a stream cut in the middle")
async def test_a_cut_stream_is_billed(peer: Peer) -> None:
    failure = await failure_of(peer, "@tokens 40\n@pace 2ms\n@cut 20")
    assert failure.remedy == "retry"
    assert failure.partial is not None
    assert (failure.partial.text or "").startswith("lor ips dol ")


@contract.fault("a stream that ends early, without its end", simulated=OFFLINE)
async def test_an_early_end_is_no_answer(peer: Peer) -> None:
    failure = await failure_of(peer, "@tokens 40\n@pace 2ms\n@wire eof 20")
    assert failure.remedy == "retry"
    assert failure.partial is not None


@contract.fault("a stream that falls silent", simulated=OFFLINE)
async def test_silence_is_ended(peer: Peer, fake: RunningFakeProvider) -> None:
    async with impatient(peer, fake) as hasty:
        began = time.monotonic()
        failure = await failure_of(hasty, "@tokens 40\n@wire silence 10")
        assert IMPATIENCE_S * 0.9 < time.monotonic() - began < 15
    assert failure.remedy == "retry"
    assert "timed out after" not in failure.message
    assert failure.partial is not None
    await until(lambda: peer.calls("aborted"))


@contract.fault("an error inside the stream", simulated=OFFLINE)
async def test_an_error_in_the_stream(peer: Peer) -> None:
    failure = await failure_of(peer, "@tokens 40\n@pace 2ms\n@wire error-event overloaded")
    assert failure.remedy == "retry"


@contract.fault("an answer that is not what it says", simulated=OFFLINE)
async def test_garbage(peer: Peer) -> None:
    failure = await failure_of(peer, "@wire garbage\n@say hi")
    assert failure.remedy == "retry"


@contract.fault(
    "an answer without choices, candidates or an end",
    simulated=OFFLINE,
    openai=AN_ANSWER,
    anthropic=AN_ANSWER,
)
async def test_an_empty_answer(peer: Peer) -> None:
    failure = await failure_of(peer, "@wire empty\n@say hi")
    assert failure.remedy == "retry"


@contract.fault("a proxy's page of HTML: 409, 425, 502", simulated=OFFLINE)
@pytest.mark.parametrize("status", [409, 425, 502])
async def test_html(peer: Peer, status: int) -> None:
    failure = await failure_of(peer, f"@wire html {status}\n@say hi")
    assert (failure.remedy, failure.status) == ("retry", status)


@contract.fault("a refusal by the model")
async def test_a_refusal_is_given_up_and_billed(peer: Peer) -> None:
    script = (
        "@finish content_filter\n@say no"
        if peer.name == "simulated"
        else ("@wire refusal I cannot help with that.\n@usage input=100 output=9\n@say never")
    )
    failure = await failure_of(peer, script)
    assert failure.remedy == "give_up"
    assert failure.partial is not None
    assert failure.partial.usage.input_tokens > 0


@contract.fault("an answer withheld by a content filter")
async def test_a_filtered_answer(peer: Peer) -> None:
    failure = await failure_of(peer, "@say half an\n@finish content_filter")
    assert failure.remedy == "give_up"
    assert failure.partial is not None


@contract.fault(
    "arguments that are not JSON",
    simulated=OFFLINE,
    google="Its protocol carries objects; it ends such an answer, which is then tried again.",
)
async def test_bad_arguments_reach_the_tool_as_they_are(peer: Peer) -> None:
    script = '@wire bad-arguments\n@call weather {"city": "Oslo"}\n@then\n@say Sorry.'
    first = await answer_to(peer, script, tools=[WEATHER])
    (call,) = first.tool_calls
    results = ModelRequest(parts=[result_of(call, "the arguments are not JSON", failed=True)])
    assert (await answer_to(peer, script, first, results, tools=[WEATHER])).text == "Sorry."


@contract.fault("tool calls that share an id", simulated=OFFLINE)
async def test_shared_call_ids_are_told_apart(peer: Peer) -> None:
    script = (
        '@wire same-call-ids\n@call weather {"city": "A"}\n@call weather {"city": "B"}\n'
        "@then\n@quote 1"
    )
    first = with_unique_calls(await answer_to(peer, script, tools=[WEATHER]))
    calls = first.tool_calls
    assert len({call.tool_call_id for call in calls}) == 2
    results = ModelRequest(parts=[result_of(calls[0], "rain"), result_of(calls[1], "sun")])
    second = await answer_to(peer, script, first, results, tools=[WEATHER])
    assert second.text == "weather:\n> rain\nweather:\n> sun"


def result_of(call: ToolCallPart, content: str, *, failed: bool = False) -> ToolReturnPart:
    outcome = "failed" if failed else "success"
    return ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome=outcome)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_documented_table_is_this_contracts() -> None:
    from tests.adapters.write_contract_table import DOCUMENT, written

    document = DOCUMENT.read_text()
    assert document == written(document), "run: python -m tests.adapters.write_contract_table"
