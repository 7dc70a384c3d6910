"""The fake provider itself: what it answers, refuses and logs is what the adapters' tests lean on.

Raw HTTP only: that the vendors' clients understand it is for the adapters' tests to prove.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

GEMINI = "/v1beta/models/gemini-2.5-flash"
AZURE = "/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21"
MODELS = {
    "/v1/chat/completions": "gpt-4.1",
    "/v1/responses": "gpt-4.1",
    "/v1/messages": "claude-sonnet-4-6",
    f"{GEMINI}:generateContent": "",
    AZURE: "",
    "/compat/v1/chat/completions": "qwen3-8b",
}
CALLS = '@call ls {"path": "/"}\n@call ls {"path": "/tmp"}\n@then\n@quote 1'


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


def keys(key: str) -> dict[str, str]:
    names = ("x-api-key", "x-goog-api-key", "api-key")
    return {
        "authorization": f"Bearer {key}",
        **dict.fromkeys(names, key),
        "anthropic-version": "2023-06-01",
    }


def request_of(path: str, text: str, **more: Any) -> dict[str, Any]:
    """The smallest request that each protocol takes."""
    if path.startswith("/v1beta"):
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
    model = {"model": MODELS[path]} if MODELS[path] else {}
    if path == "/v1/responses":
        return {**model, "input": text, **more}
    limit = {"max_tokens": 1000} if path == "/v1/messages" else {}
    return {**model, **limit, "messages": [{"role": "user", "content": text}], **more}


def post(
    provider: RunningFakeProvider,
    path: str,
    body: Mapping[str, Any],
    *,
    key: str | None = None,
    **headers: str,
) -> httpx2.Response:
    sent = {**keys(key or provider.key), **headers}
    return httpx2.post(provider.url + path, json=body, headers=sent, timeout=5)


def ask(provider: RunningFakeProvider, path: str, text: str, **more: Any) -> Any:
    answer = post(provider, path, request_of(path, text, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(answer: httpx2.Response) -> list[Any]:
    """The data of a stream's events."""
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


def logged(provider: RunningFakeProvider, call_id: str) -> list[dict[str, Any]]:
    return [line for line in provider.calls() if line["call_id"] == call_id]


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


TEXT_IN: dict[str, Callable[[Any], str]] = {
    "/v1/chat/completions": lambda told: told["choices"][0]["message"]["content"],
    "/compat/v1/chat/completions": lambda told: told["choices"][0]["message"]["content"],
    "/v1/responses": lambda told: told["output"][0]["content"][0]["text"],
    "/v1/messages": lambda told: told["content"][0]["text"],
    f"{GEMINI}:generateContent": lambda told: told["candidates"][0]["content"]["parts"][0]["text"],
    AZURE: lambda told: told["choices"][0]["message"]["content"],
}


@pytest.mark.parametrize("path", MODELS)
def test_each_protocol_says_what_the_script_tells(provider: RunningFakeProvider, path: str) -> None:
    assert TEXT_IN[path](ask(provider, path, "@say hello there")) == "hello there"


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/chat/completions", 401, "invalid_api_key"),
        ("/v1/responses", 401, "invalid_api_key"),
        ("/v1/messages", 401, "authentication_error"),
        (f"{GEMINI}:generateContent", 400, "API_KEY_INVALID"),
        (AZURE, 401, "401"),
    ],
)
def test_a_wrong_key_is_refused_in_the_vendors_words(
    provider: RunningFakeProvider, path: str, status: int, word: str
) -> None:
    answer = post(provider, path, request_of(path, "@say hello"), key="wrong")
    assert (answer.status_code, word in answer.text) == (status, True)


def test_no_key_is_needed_where_none_is(provider: RunningFakeProvider) -> None:
    path = "/compat/v1/chat/completions"
    assert post(provider, path, request_of(path, "hello"), key="wrong").status_code == 200
    assert httpx2.get(f"{provider.url}/compat/v1/models", timeout=5).status_code == 200


def test_models_are_listed_by_vendor(provider: RunningFakeProvider) -> None:
    def names(path: str, field: str, name: str, **headers: str) -> list[str]:
        answer = httpx2.get(provider.url + path, headers=headers, timeout=5)
        return [model[name] for model in answer.json()[field]]

    key = provider.key
    assert "gpt-4.1" in names("/v1/models", "data", "id", authorization=f"Bearer {key}")
    anthropic = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    assert "claude-sonnet-4-6" in names("/v1/models", "data", "id", **anthropic)
    gemini = names("/v1beta/models", "models", "name", **{"x-goog-api-key": key})
    assert "models/gemini-2.5-flash" in gemini
    assert "gpt-4.1" in names("/openai/v1/models", "data", "id", **{"api-key": key})


@pytest.mark.parametrize("path", MODELS)
def test_an_unknown_field_is_refused(provider: RunningFakeProvider, path: str) -> None:
    answer = post(provider, path, request_of(path, "@say hello", surprise=1))
    assert answer.status_code == 400
    assert "surprise" in answer.text


def chat_results(first: Any, results: list[tuple[str, str]]) -> list[dict[str, Any]]:
    said = {
        "role": "assistant",
        "content": None,
        "tool_calls": first["choices"][0]["message"]["tool_calls"],
    }
    told = [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in results]
    return [{"role": "user", "content": CALLS}, said, *told]


def test_a_turn_follows_from_the_history(provider: RunningFakeProvider) -> None:
    path = "/v1/chat/completions"
    first = ask(provider, path, CALLS)
    ids = [call["id"] for call in first["choices"][0]["message"]["tool_calls"]]
    assert len(set(ids)) == 2
    messages = chat_results(first, [(ids[0], "a\nb"), (ids[1], "c")])
    second = ask(provider, path, "", messages=messages)
    assert TEXT_IN[path](second) == "ls:\n> a\nls:\n> c"
    messages += [{"role": "assistant", "content": "x"}, {"role": "user", "content": "@say anew"}]
    assert TEXT_IN[path](ask(provider, path, "", messages=messages)) == "anew"


def test_uncovered_calls_and_unknown_results_are_refused(provider: RunningFakeProvider) -> None:
    path = "/v1/chat/completions"
    first = ask(provider, path, CALLS)
    ids = [call["id"] for call in first["choices"][0]["message"]["tool_calls"]]
    for results in ([(ids[0], "a")], [(ids[0], "a"), ("other", "b")]):
        body = request_of(path, "", messages=chat_results(first, results))
        assert post(provider, path, body).status_code == 400


def test_anthropic_wants_results_first_and_all_of_them(provider: RunningFakeProvider) -> None:
    path = "/v1/messages"
    calls = ask(provider, path, CALLS)["content"]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "a"} for call in calls]
    text = {"type": "text", "text": "and be quick"}
    said = [{"role": "user", "content": CALLS}, {"role": "assistant", "content": calls}]

    def status(*blocks: Any) -> int:
        messages = [*said, {"role": "user", "content": list(blocks)}]
        return post(provider, path, request_of(path, "", messages=messages)).status_code

    assert status(*results, text) == 200
    assert status(text, *results) == 400
    assert status(results[0], text) == 400
    assert status(*results, {**results[0], "tool_use_id": "toolu_other"}) == 400


def test_responses_want_the_reasoning_before_its_calls(provider: RunningFakeProvider) -> None:
    path = "/v1/responses"
    include = ["reasoning.encrypted_content"]
    script = f"@wire thinking Let me see.\n{CALLS}"
    reasoning, *calls = ask(provider, path, script, include=include)["output"]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "a"}
        for call in calls
    ]
    prompt = {"role": "user", "content": script}

    def status(*items: Any) -> int:
        body = request_of(path, "", input=[prompt, *items], store=False)
        return post(provider, path, body).status_code

    assert status(reasoning, *calls, *results) == 200
    assert status(*calls, *results) == 400
    assert status(reasoning, *results) == 400
    assert status({**reasoning, "encrypted_content": None}, *calls, *results) == 404


def test_gemini_wants_as_many_responses_as_calls(provider: RunningFakeProvider) -> None:
    path = f"{GEMINI}:generateContent"
    said = ask(provider, path, CALLS)["candidates"][0]["content"]
    prompt = {"role": "user", "parts": [{"text": CALLS}]}
    result = {"functionResponse": {"name": "ls", "response": {"output": "a"}}}

    def status(*parts: Any) -> int:
        contents = [prompt, said, {"role": "user", "parts": list(parts)}]
        return post(provider, path, request_of(path, "", contents=contents)).status_code

    assert (status(result, result), status(result), status(result, result, result)) == (
        200,
        400,
        400,
    )


@pytest.mark.parametrize(
    ("path", "model", "field"),
    [
        ("/v1/chat/completions", "gpt-5", "temperature"),
        ("/v1/responses", "o4-mini", "temperature"),
        ("/v1/messages", "claude-opus-4-7", "temperature"),
    ],
)
def test_models_that_refuse_a_temperature(
    provider: RunningFakeProvider, path: str, model: str, field: str
) -> None:
    body = request_of(path, "@say hello") | {"model": model}
    assert post(provider, path, body).status_code == 200
    answer = post(provider, path, {**body, field: 0.5})
    assert (answer.status_code, field in answer.text) == (400, True)


USAGE = "@say hi\n@usage input=100 output=20 cache_read=40 cache_write=10 reasoning=5"


def test_usage_is_told_in_each_vendors_convention(provider: RunningFakeProvider) -> None:
    chat = ask(provider, "/v1/chat/completions", USAGE)["usage"]
    assert (chat["prompt_tokens"], chat["completion_tokens"]) == (100, 20)
    assert chat["prompt_tokens_details"]["cached_tokens"] == 40
    assert chat["completion_tokens_details"]["reasoning_tokens"] == 5
    responses = ask(provider, "/v1/responses", USAGE)["usage"]
    assert (responses["input_tokens"], responses["output_tokens"]) == (100, 20)
    assert responses["input_tokens_details"]["cached_tokens"] == 40
    anthropic = ask(provider, "/v1/messages", USAGE)["usage"]
    assert (anthropic["input_tokens"], anthropic["output_tokens"]) == (50, 20)
    assert anthropic["cache_read_input_tokens"] == 40
    assert anthropic["cache_creation_input_tokens"] == 10
    gemini = ask(provider, f"{GEMINI}:generateContent", USAGE)["usageMetadata"]
    assert (gemini["promptTokenCount"], gemini["candidatesTokenCount"]) == (100, 15)
    assert (gemini["cachedContentTokenCount"], gemini["thoughtsTokenCount"]) == (40, 5)
    assert gemini["totalTokenCount"] == 120


def test_chat_tells_usage_in_a_stream_only_where_asked(provider: RunningFakeProvider) -> None:
    path = "/v1/chat/completions"
    plain = post(provider, path, request_of(path, USAGE, stream=True))
    *_, end, done = events_of(plain)
    assert (end["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")
    assert "usage" not in end
    options = {"include_usage": True}
    body = request_of(path, USAGE, stream=True, stream_options=options)
    *_, usage, done = events_of(post(provider, path, body))
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 120, "[DONE]")


def test_streams_have_the_vendors_events(provider: RunningFakeProvider) -> None:
    body = request_of("/v1/messages", "@say hi", stream=True)
    anthropic = [event["type"] for event in events_of(post(provider, "/v1/messages", body))]
    assert anthropic[:2] == ["message_start", "content_block_start"]
    assert "ping" in anthropic
    assert anthropic[-2:] == ["message_delta", "message_stop"]
    body = request_of("/v1/responses", "@say hi", stream=True)
    responses = events_of(post(provider, "/v1/responses", body))
    assert [event["sequence_number"] for event in responses] == list(range(len(responses)))
    assert responses[0]["type"] == "response.created"
    assert responses[-1]["type"] == "response.completed"
    path = f"{GEMINI}:streamGenerateContent?alt=sse"
    *_, end = events_of(post(provider, path, request_of(path, "@say hi")))
    assert end["candidates"][0]["finishReason"] == "STOP"


def test_a_failure_comes_in_the_vendors_envelope_and_goes(provider: RunningFakeProvider) -> None:
    path, script = "/v1/messages", "@fail 529 retry_after=2 times=1\n@say there"
    first = post(provider, path, request_of(path, script), **{"x-chargehand-attempt": "1"})
    assert (first.status_code, first.headers["retry-after"]) == (529, "2")
    assert first.json()["error"]["type"] == "overloaded_error"
    second = post(provider, path, request_of(path, script), **{"x-chargehand-attempt": "2"})
    assert TEXT_IN[path](second.json()) == "there"


def test_the_waiting_time_of_a_failure_may_be_anything(provider: RunningFakeProvider) -> None:
    path = "/v1/responses"

    def headers(line: str) -> httpx2.Headers:
        return post(provider, path, request_of(path, f"@fail 429\n{line}")).headers

    date = "Wed, 25 Nov 2026 07:28:00 GMT"
    assert headers(f"@wire retry-after {date}")["retry-after"] == date
    assert headers("@wire retry-after ms=1500")["retry-after-ms"] == "1500"
    assert "retry-after" not in headers("@wire retry-after 1.5 times=0")


@pytest.mark.parametrize("script", ["@fail connection", "@say a b c d\n@cut 2"])
def test_a_connection_is_reset(provider: RunningFakeProvider, script: str) -> None:
    path = "/v1/chat/completions"
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        post(provider, path, request_of(path, script, stream=True))


@pytest.mark.parametrize(
    ("script", "stream"),
    [
        ("@wire silence 2\n@say aaa bbb ccc ddd", True),
        ("@pace 200ms\n@tokens 100", True),
        ("@delay 60s\n@say late", False),
        ("@fail timeout", True),
        ("@wire slow-headers 60s", True),
    ],
)
def test_a_client_that_goes_away_is_noticed_at_once(
    provider: RunningFakeProvider, script: str, stream: bool
) -> None:
    path, call_id = "/v1/chat/completions", "-".join(["gone", *script.split()[:2]])
    body = json.dumps(request_of(path, script, stream=stream)).encode()
    head = {**keys(provider.key), "x-client-request-id": call_id, "content-length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection(("127.0.0.1", provider.port)) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode() + body)
        assert within(5, lambda: bool(logged(provider, call_id)))
    # The promise is 100 ms; the rest is for a machine that is busy.
    assert within(2, lambda: len(logged(provider, call_id)) == 2)
    assert [line["event"] for line in logged(provider, call_id)] == ["started", "aborted"]


def test_the_log_tells_what_was_asked_but_no_key(provider: RunningFakeProvider) -> None:
    path = "/v1/chat/completions"
    tool = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "@say hi"}, image]
    messages = [{"role": "user", "content": content}]
    body = request_of(path, "", messages=messages, tools=[tool], temperature=0.5, seed=7)
    ids = {"x-client-request-id": "logged", "x-chargehand-attempt": "3"}
    assert post(provider, path, body, **ids).status_code == 200
    started, ended = logged(provider, "logged")
    assert (started["event"], ended["event"], ended["status"]) == ("started", "answered", 200)
    assert (ended["attempt"], ended["protocol"], ended["model"]) == (3, "chat", "gpt-4.1")
    assert (ended["tools"], ended["files"]) == (["ls"], ["image/png"])
    assert ended["settings"] == {"temperature": 0.5, "seed": 7}
    assert (ended["messages"], ended["schema"], ended["stream"]) == (1, False, False)
    assert provider.key not in provider.log.read_text()


def test_a_script_of_its_own_drives_a_client_that_has_none(tmp_path: Path) -> None:
    path = "/v1/messages"
    with running_fake_provider(tmp_path, script="@say one\n@then\n@say two") as provider:
        assert TEXT_IN[path](ask(provider, path, "What is up?")) == "one"
        said = [
            {"role": "user", "content": "What is up?"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "And now?"},
        ]
        assert TEXT_IN[path](ask(provider, path, "", messages=said)) == "one"
        port = provider.port
        provider.stop()
        with pytest.raises(httpx2.ConnectError):
            ask(provider, path, "hello")
        provider.start()
        assert provider.port == port
        assert TEXT_IN[path](ask(provider, path, "@say back")) == "back"


def test_it_ends_with_who_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from tests.factories.fake_provider import RunningFakeProvider\n"
        "provider = RunningFakeProvider(Path(sys.argv[1]), None)\n"
        "provider.start(); print(provider.port, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    address = "127.0.0.1", int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert within(10, lambda: not listens(address))


def listens(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0
