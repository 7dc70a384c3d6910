"""The simulated provider: offline, deterministic, and open about being a simulator (MOD-1).

It speaks pydantic-ai's model layer like the real ones and obeys ``simulated_script``. Its token
counts are an estimate of its own (characters / 4, rounded up; a fixed count per file), not a
tokeniser's; by that measure it keeps to ``max_tokens``.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from chargehand.adapters import simulated_request as request
from chargehand.adapters import simulated_script as script
from chargehand.adapters.providers import ATTEMPT_HEADER, CALL_ID_HEADER, Client, ModelLayer
from chargehand.catalog.entries import Capability, ModelEntry
from chargehand.catalog.models import find_model, nearest
from chargehand.kernel.clock import now

PROVIDER = "simulated"
TOKENS_PER_FILE = 256

CallEvent = Literal["started", "answered", "failed", "aborted"]


def provider(call_log: Path | None = None) -> ModelLayer:
    """The simulator behind the port.

    Each call appends a JSON line to ``call_log`` when it starts and one when it ends: keys
    ``call_id``, ``event`` (``started``; then ``answered``, ``failed`` or ``aborted``), ``model``,
    ``messages`` (how many), ``pid``, ``at``. A killed process leaves a start without an end.
    """
    client = Client(partial(_model, call_log=call_log))
    return ModelLayer(PROVIDER, lambda: client)


def _model(name: str, *, call_log: Path | None) -> "SimulatedModel":
    entry = find_model(PROVIDER, name)
    if entry is None:
        near = nearest(PROVIDER, name)
        hint = f"; did you mean {near.name!r}?" if near else ""
        raise _http_error(name, 404, f"the simulator has no model {name!r}{hint}")
    return SimulatedModel(entry, call_log=call_log)


class SimulatedModel(Model[None]):
    """One of the catalogue's simulated models; what its entry cannot do it answers with a 400."""

    _announces_lookalike_notes = False

    def __init__(self, entry: ModelEntry, *, call_log: Path | None = None) -> None:
        profile = ModelProfile(
            context_window=entry.context_window,
            supports_tools="tools" in entry.capabilities,
            supports_json_schema_output="structured_output" in entry.capabilities,
            supports_inline_system_prompts=True,
        )
        super().__init__(profile=profile)
        self._entry = entry
        self._call_log = call_log

    @property
    def model_name(self) -> str:
        return self._entry.name

    @property
    def system(self) -> str:
        return PROVIDER

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        async with self.request_stream(
            messages, model_settings, model_request_parameters
        ) as stream:
            async for _ in stream:
                pass
        return stream.get()

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,  # noqa: ARG002
    ) -> AsyncGenerator[StreamedResponse, None]:
        settings = model_settings or ModelSettings()
        call_id, _ = _identity(settings)
        self._record("started", call_id, messages)
        outcome: CallEvent = "aborted"
        try:
            stream = await self._open(messages, settings, model_request_parameters)
            yield stream
            outcome = "answered" if stream.finish_reason else "aborted"
        except ModelAPIError:
            outcome = "failed"
            raise
        finally:
            self._record(outcome, call_id, messages)

    async def _open(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings,
        parameters: ModelRequestParameters,
    ) -> "SimulatedStream":
        self._refuse_what_it_cannot_do(messages, parameters)
        call_id, attempt = _identity(settings)
        turn = _turn_due(self.model_name, messages, parameters)
        await asyncio.sleep(turn.delay_s)
        _fail_if_told(self.model_name, turn, attempt)
        limit = self._entry.max_output_tokens
        assert limit is not None, "the simulator's models have a limit"
        stream = SimulatedStream(
            model_request_parameters=parameters,
            name=self.model_name,
            turn=turn,
            text=_until_stop(script.text_of(turn, request.results(messages)), settings),
            cut=turn.cut if turn.cut and script.applies(turn.cut.times, attempt) else None,
            max_tokens=min(settings.get("max_tokens", limit), limit),
            number=sum(isinstance(message, ModelResponse) for message in messages),
        )
        stream.start(f"sim-{call_id}-{attempt}", self._input(messages, parameters))
        return stream

    def _input(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
        """The estimated input tokens of a request."""
        instructions = self._get_instruction_parts(messages, parameters) or []
        seen = chain(
            request.texts(messages),
            request.schemas(parameters),
            (part.content for part in instructions),
        )
        return -(-sum(map(len, seen)) // 4) + TOKENS_PER_FILE * len(request.files(messages))

    def _refuse_what_it_cannot_do(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters
    ) -> None:
        asked: set[Capability] = {request.kind(file) for file in request.files(messages)}
        if parameters.function_tools:
            asked.add("tools")
        if parameters.output_object is not None:
            asked.add("structured_output")
        if lacking := asked - self._entry.capabilities:
            raise _http_error(
                self.model_name, 400, f"this model does not take: {', '.join(sorted(lacking))}"
            )

    def _record(self, event: CallEvent, call_id: str, messages: Sequence[ModelMessage]) -> None:
        if self._call_log is None:
            return
        line = {
            "call_id": call_id,
            "event": event,
            "model": self.model_name,
            "messages": len(messages),
            "pid": os.getpid(),
            "at": now(),
        }
        # Unbuffered and in append mode it is one write: lines of several processes never mix.
        with self._call_log.open("ab", buffering=0) as log:
            log.write(orjson.dumps(line) + b"\n")


@dataclass
class SimulatedStream(StreamedResponse):
    """Streams one turn, a word at a time, then its tool calls.

    ``number`` is how many answers the history holds: it keeps tool call ids apart within a run.
    """

    name: str
    turn: script.Turn
    text: str
    cut: script.Cut | None
    max_tokens: int
    number: int
    _began: datetime = field(default_factory=now, init=False)
    _full: bool = field(default=False, init=False)

    def start(self, response_id: str, input_tokens: int) -> None:
        """Like real providers, the input is counted before the first token comes."""
        told = self.turn.usage
        read, written = told.get("cache_read", 0), told.get("cache_write", 0)
        self.provider_response_id = response_id
        self._usage = RequestUsage(
            input_tokens=told.get("input", max(input_tokens, read + written)),
            cache_read_tokens=read,
            cache_write_tokens=written,
        )

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        for piece in script.pieces(self.text):
            await asyncio.sleep(self.turn.pace_s)
            if not self._spend(piece):
                break
            for event in self._parts_manager.handle_text_delta(vendor_part_id=0, content=piece):
                yield event
        for index, call in enumerate(self.turn.calls):
            if not self._spend(call.tool + call.arguments):
                break
            yield self._parts_manager.handle_tool_call_part(
                vendor_part_id=f"call {index}",
                tool_name=call.tool,
                args=call.arguments,
                tool_call_id=f"call_{self.number}_{index}",
            )
        self._end()

    def _spend(self, text: str) -> bool:
        """Count what is about to be sent; False when it, and so the rest, has no room."""
        spent = self._usage.output_tokens + script.token_count(text)
        if self.cut is not None and spent > self.cut.tokens:
            raise self._broken()
        self._full = self._full or spent > self.max_tokens
        if not self._full:
            self._usage.output_tokens = spent
        return not self._full

    def _end(self) -> None:
        if self.cut is not None:
            raise self._broken()
        told = self.turn.usage
        reasoning = told.get("reasoning", 0)
        self._usage.output_reasoning_tokens = reasoning
        self._usage.output_tokens = told.get("output", max(self._usage.output_tokens, reasoning))
        ended = "length" if self._full else "tool_call" if self.turn.calls else "stop"
        self.finish_reason = self.turn.finish or ended

    def _broken(self) -> ModelConnectionError:
        return ModelConnectionError(
            self.name, "the stream broke, as @cut told", phase="read", in_stream=True
        )

    @property
    def model_name(self) -> str:
        return self.name

    @property
    def provider_name(self) -> str:
        return PROVIDER

    @property
    def provider_url(self) -> None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self._began


def _identity(settings: ModelSettings) -> tuple[str, int]:
    """The call's id and attempt, which ``ModelLayer`` sends as headers."""
    headers = settings.get("extra_headers", {})
    return headers.get(CALL_ID_HEADER, ""), int(headers.get(ATTEMPT_HEADER, "1"))


def _turn_due(
    model: str, messages: Sequence[ModelMessage], parameters: ModelRequestParameters
) -> script.Turn:
    """The turn of the newest script; a prompt without directives lets an older script go on."""
    answered = 0
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            answered += 1
        elif script.holds_directives(text := request.prompt(message)):
            try:
                return script.turn_of(text, answered)
            except script.ScriptInvalid as error:
                raise _http_error(model, 400, str(error)) from error
    return script.Turn(paragraphs=(_introduction(messages, parameters),))


def _introduction(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> str:
    prompts = [text for message in messages if (text := request.prompt(message))]
    files = len(request.files(messages))
    tools = ", ".join(tool.name for tool in parameters.function_tools) or "none"
    return (
        "[simulated] I am a simulator, not a language model. "
        f"I saw {len(messages)} message(s), {files} file(s), tools: {tools}. "
        f"The last text begins: {(prompts[-1] if prompts else '')[:120]!r}. "
        f"I do what lines of the input say: {script.HELP}"
    )


def _fail_if_told(model: str, turn: script.Turn, attempt: int) -> None:
    failure = turn.failure
    if failure is None or not script.applies(failure.times, attempt):
        return
    told = "as @fail told"
    match failure.kind:
        case "timeout":
            raise ModelTimeoutError(model, f"timed out, {told}")
        case "connection":
            raise ModelConnectionError(model, f"no connection, {told}")
        case status:
            raise _http_error(model, int(status), told, failure.retry_after_s)


def _http_error(
    model: str, status: int, message: str, retry_after_s: float | None = None
) -> ModelHTTPError:
    return ModelHTTPError(status, model, {"message": message}, retry_after=retry_after_s)


def _until_stop(text: str, settings: ModelSettings) -> str:
    for stop in settings.get("stop_sequences", []):
        text = text.partition(stop)[0]
    return text
