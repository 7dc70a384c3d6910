"""The vendors of models: how each one's client is made, on first use (SPEC MOD-1, MOD-2).

No client retries by itself: ``runtime.model_call`` does, where each attempt is on record. The SDKs
are imported inside functions: together they cost 70 MB and one and a half seconds of CPU.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model

from chargehand.adapters.answers import OpenAnswers
from chargehand.adapters.providers import CALL_ID_HEADER, Client, ModelLayer
from chargehand.catalog.providers import remedy_for
from chargehand.runtime.ports import ModelCall, ModelCallFailed

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How an installation reaches one vendor; its ``repr`` does not show the key.

    ``idle_timeout_s`` is how long an answer that has begun may be silent; ``connections`` is the
    size of the pool. ``api_version`` is Azure's: a dated version, or None for its v1 API.
    """

    url: str
    api_key: str | None
    idle_timeout_s: float
    connections: int
    api_version: str | None = None

    def __repr__(self) -> str:
        return f"Connection(url={self.url!r})"


def provider(name: str, connection: Connection) -> ModelLayer:
    """The vendor of this name (see ``catalog.providers``) behind the port; it is not called yet."""
    secrets = () if connection.api_key is None else (connection.api_key,)
    return ModelLayer(name, partial(CLIENTS[name], connection), secrets=secrets)


class NotConnected:
    """Stands for a vendor that this process has no connection to: every call says so, and how."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | ModelResponse, None]:
        raise ModelCallFailed(
            f"{self._name}:{call.model} was not called: this worker has no connection to it. To "
            f"have one, {remedy_for(self._name)}",
            remedy="give_up",
        )
        yield ""  # what makes it a generator


def _responses(connection: Connection) -> Client:
    """OpenAI's Responses API. Nothing is kept with OpenAI: the whole history goes along."""
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
    from pydantic_ai.providers.openai import OpenAIProvider

    http, answers = _http(connection)
    sdk = AsyncOpenAI(
        base_url=connection.url, api_key=connection.api_key, http_client=http, max_retries=0
    )
    vendor = OpenAIProvider(openai_client=sdk)
    settings = OpenAIResponsesModelSettings(openai_store=False)
    return Client(
        lambda model: OpenAIResponsesModel(model, provider=vendor, settings=settings),
        http.aclose,
        answers.close,
    )


def _chat(connection: Connection) -> Client:
    """OpenAI's Chat Completions API."""
    from openai import AsyncOpenAI
    from pydantic_ai.providers.openai import OpenAIProvider

    http, answers = _http(connection)
    sdk = AsyncOpenAI(
        base_url=connection.url, api_key=connection.api_key, http_client=http, max_retries=0
    )
    vendor = OpenAIProvider(openai_client=sdk)
    return Client(partial(_chat_model, vendor), http.aclose, answers.close)


def _compatible(connection: Connection) -> Client:
    """Any server that speaks Chat Completions; one that wants no key is sent a word instead."""
    from openai import AsyncOpenAI
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    http, answers = _http(connection)
    sdk = AsyncOpenAI(
        base_url=connection.url,
        api_key=connection.api_key or "none",
        http_client=http,
        max_retries=0,
    )
    vendor = OpenAICompatibleProvider("openai-compatible", openai_client=sdk)
    return Client(partial(_chat_model, vendor), http.aclose, answers.close)


def _azure(connection: Connection) -> Client:
    """Azure OpenAI's chat completions; a model's name is its deployment's."""
    from pydantic_ai.providers.azure import AzureProvider

    http, answers = _http(connection)
    dated = connection.api_version
    vendor = AzureProvider(
        azure_endpoint=connection.url if dated else f"{connection.url}/openai/v1",
        api_version=dated,
        api_key=connection.api_key,
        http_client=http,
    )
    vendor.client.max_retries = 0
    return Client(partial(_chat_model, vendor), http.aclose, answers.close)


def _anthropic(connection: Connection) -> Client:
    """Anthropic's Messages API."""
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    http, answers = _http(connection)
    sdk = AsyncAnthropic(
        base_url=connection.url, api_key=connection.api_key, http_client=http, max_retries=0
    )
    vendor = AnthropicProvider(anthropic_client=sdk)
    return Client(lambda model: AnthropicModel(model, provider=vendor), http.aclose, answers.close)


def _google(connection: Connection) -> Client:
    """The Gemini API."""
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    http, answers = _http(connection)
    vendor = GoogleProvider(api_key=connection.api_key, base_url=connection.url, http_client=http)
    return Client(lambda model: GoogleModel(model, provider=vendor), http.aclose, answers.close)


CLIENTS: dict[str, Callable[[Connection], Client]] = {
    "openai": _responses,
    "openai-chat": _chat,
    "openai-compatible": _compatible,
    "azure": _azure,
    "anthropic": _anthropic,
    "google": _google,
}


def _chat_model(vendor: Any, model: str) -> Model:
    """A chat model whose stream is whole only with a reason for its end: one can end politely."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile

    profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    return OpenAIChatModel(model, provider=vendor, profile=profile)


def _http(connection: Connection) -> tuple[httpx2.AsyncClient, OpenAnswers]:
    """One pool. ``ModelLayer`` limits a call as a whole, the wait for a free connection included.

    httpx2 over aiohttp, as the OpenAI SDK brings it, for every vendor: it takes about half the CPU
    of a call (ADR 0010).
    """
    from openai import DefaultAioHttpClient

    answers = OpenAnswers(CALL_ID_HEADER, connection.idle_timeout_s)
    http = DefaultAioHttpClient(
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx2.Limits(max_connections=connection.connections),
        event_hooks={"response": [answers.watch]},
        follow_redirects=False,
    )
    return http, answers
