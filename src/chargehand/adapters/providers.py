"""Model providers by way of pydantic-ai's model layer: any of its ``Model``s behind our port.

A vendor is a function that makes its ``Client``; everything else (streaming, the time limit, what
came before a break, and what each failure means for the next attempt) is here.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings

from chargehand.runtime.ports import ModelCall, ModelCallFailed, Remedy

CALL_ID_HEADER = "X-Client-Request-Id"
ATTEMPT_HEADER = "X-Chargehand-Attempt"

_RETRIED_STATUSES = frozenset({408, 409, 425, 429})
_LONGEST_REASON = 500
_MODELS_KEPT = 64


async def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Client:
    """A vendor's client.

    ``model`` makes a model by its name; it may raise what models raise: that call fails. ``close``
    closes all connections, ``abandon`` that of one call, by its id, if it is still open.
    """

    model: Callable[[str], Model]
    close: Callable[[], Awaitable[None]] = _nothing
    abandon: Callable[[str], Awaitable[None]] = _nothing


class ModelLayer:
    """A ``ModelProvider`` over a vendor's client.

    ``connect`` makes the client, once, when the first call comes: off the event loop, for an SDK
    takes long to import. ``provider`` stands in messages, ``secrets`` never do.
    """

    def __init__(
        self, provider: str, connect: Callable[[], Client], *, secrets: Sequence[str] = ()
    ) -> None:
        self._provider = provider
        self._connect = connect
        self._secrets = secrets
        self._connecting: asyncio.Task[Client] | None = None
        self._model = lru_cache(maxsize=_MODELS_KEPT)(self._built)

    async def close(self) -> None:
        """Close the connections, if there are any."""
        if self._connecting is not None:
            await (await self._connecting).close()

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | ModelResponse, None]:
        """See the port. With ``call.output_schema`` the answer is JSON text in every model."""
        model_id = f"{self._provider}:{call.model}"
        client = await self._connected()
        deadline = asyncio.get_running_loop().time() + call.timeout_s
        opened: StreamedResponse | None = None
        try:
            # A time limit is never held across a yield: it would cancel whoever consumes.
            async with AsyncExitStack() as stack:
                async with asyncio.timeout_at(deadline):
                    opened = await stack.enter_async_context(self._request(call))
                events = aiter(opened)
                while True:
                    async with asyncio.timeout_at(deadline):
                        event = await anext(events, None)
                    if event is None:
                        break
                    if text := _text_in(event):
                        yield text
            answer = opened.get()
        except TimeoutError as error:
            raise _timed_out(model_id, call.timeout_s, opened) from error
        # What the library raises for its peers' faults, and bare for what a protocol cannot carry.
        except RuntimeError as error:
            raise self._failed(model_id, error, opened) from error
        finally:
            await client.abandon(call.call_id)
        yield _whole(model_id, answer)

    async def _connected(self) -> Client:
        if self._connecting is None:
            self._connecting = asyncio.create_task(asyncio.to_thread(self._connect))
        # One caller's end is not the others'.
        return await asyncio.shield(self._connecting)

    def _built(self, name: str) -> Model:
        assert self._connecting is not None
        return self._connecting.result().model(name)

    def _failed(
        self,
        model_id: str,
        error: Exception,
        opened: StreamedResponse | None,
    ) -> ModelCallFailed:
        status = error.status_code if isinstance(error, ModelHTTPError) else None
        what = f"answered {status}" if status else "failed"
        return ModelCallFailed(
            f"{model_id} {what}: {_without(self._secrets, _reason(error))}",
            remedy=_remedy(error),
            status=status,
            retry_after_s=_retry_after_s(error) if isinstance(error, ModelAPIError) else None,
            partial=_partial(opened),
        )

    def _request(self, call: ModelCall) -> AbstractAsyncContextManager[StreamedResponse]:
        model = self._model(call.model)
        parameters = _parameters(model, call)
        messages = model.prepare_messages(_coalesced(call.messages), parameters)
        return model.request_stream(messages, _settings(call), parameters)


def _coalesced(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The history with requests that follow one another made one.

    Each result of a tool is a message of its own, as it was recorded; some vendors refuse a turn
    that does not answer all calls of the turn before.
    """
    turns = list[ModelMessage]()
    for message in messages:
        last = turns[-1] if turns else None
        if isinstance(message, ModelRequest) and isinstance(last, ModelRequest):
            turns[-1] = replace(
                message,
                parts=[*last.parts, *message.parts],
                instructions=message.instructions or last.instructions,
            )
        else:
            turns.append(message)
    return turns


def _settings(call: ModelCall) -> ModelSettings:
    """The call's settings, with its id and attempt as headers: a vendor's log can name them."""
    headers = {CALL_ID_HEADER: call.call_id, ATTEMPT_HEADER: str(call.attempt)}
    settings = call.settings.copy()
    settings["extra_headers"] = {**settings.get("extra_headers", {}), **headers}
    return settings


def _parameters(model: Model, call: ModelCall) -> ModelRequestParameters:
    instructions = _instructions(call)
    parameters = ModelRequestParameters(
        function_tools=list(call.tools),
        instruction_parts=[InstructionPart(content=instructions)] if instructions else None,
    )
    if call.output_schema is not None:
        native = model.profile.get("supports_json_schema_output", False)
        if call.tools and model.profile.get("google_supports_tool_combination") is False:
            native = False  # Gemini before 3 takes tools or a schema, not both
        parameters.output_mode = "native" if native else "prompted"
        parameters.output_object = OutputObjectDefinition(json_schema=dict(call.output_schema))
    return parameters


def _instructions(call: ModelCall) -> str | None:
    """The call's own, else the newest in the history: models look at the last request only."""
    if call.instructions is not None:
        return call.instructions
    requests = (message for message in reversed(call.messages) if isinstance(message, ModelRequest))
    return next((r.instructions for r in requests if r.instructions is not None), None)


def _text_in(event: ModelResponseStreamEvent) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
        case _:
            return ""


def _whole(model_id: str, response: ModelResponse) -> ModelResponse:
    """``response``, if it is a whole answer; what came of any other is billed all the same.

    Vendors differ in what they call the end of an answer with tool calls: here it is ``tool_call``.
    """
    if response.finish_reason == "content_filter":
        message = f"{model_id} withheld its answer: the provider's content filter stopped it"
        raise ModelCallFailed(message, remedy="give_up", partial=response)
    # A stream can end politely and too early; only a whole one says why it ended.
    if response.state == "incomplete" or response.finish_reason in ("error", None):
        message = f"{model_id} ended its answer before it was whole"
        raise ModelCallFailed(message, remedy="retry", partial=response)
    if response.finish_reason == "stop" and response.tool_calls:
        return replace(response, finish_reason="tool_call")
    return response


def _timed_out(model_id: str, timeout_s: float, opened: StreamedResponse | None) -> ModelCallFailed:
    message = f"{model_id} timed out after {timeout_s:g} s"
    return ModelCallFailed(message, remedy="retry", partial=_partial(opened))


def _remedy(error: Exception) -> Remedy:
    match error:
        case ModelQuotaExceededError():  # a 429 that no waiting helps; another vendor may
            return "next_model"
        case ModelHTTPError(status_code=status):
            return "retry" if status >= 500 or status in _RETRIED_STATUSES else "give_up"
        case ModelRequestRejectedError() | ContentFilterError():
            return "give_up"
        case ModelAPIError() | UnexpectedModelBehavior():
            return "retry"
        case _:
            return "give_up"


def _retry_after_s(error: ModelAPIError) -> float | None:
    """What the provider asks for; fractions of seconds too, which the library does not read."""
    headers = error.headers if isinstance(error, ModelHTTPError) else None
    if error.retry_after is not None or headers is None:
        return error.retry_after
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _reason(error: Exception) -> str:
    """What the provider said, without the wrapping that differs by vendor."""
    body = getattr(error, "body", None)
    for key in ("error", "message"):
        if isinstance(body, Mapping):
            body = cast("Mapping[str, object]", body).get(key, body)
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(body if isinstance(body, str) else message)[:_LONGEST_REASON]


def _without(secrets: Sequence[str], text: str) -> str:
    """The text, should a vendor have repeated the key that it was sent."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return text


def _partial(opened: StreamedResponse | None) -> ModelResponse | None:
    if opened is None:
        return None
    response = opened.get()
    return response if response.parts or response.usage.has_values() else None
