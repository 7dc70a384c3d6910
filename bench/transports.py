"""CPU of one model call by HTTP transport and client layer: the figures behind ADR 0010.

``python bench/transports.py [CALLS]`` prints a Markdown table. The aiohttp rows need
``pip install aiohttp``, which Chargehand itself does not.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path

import httpx2
import uvloop
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SERVER = Path(__file__).with_name("model_server.py")
BODY = {"model": "bench", "messages": [{"role": "user", "content": "Hello."}]}
HISTORY = [ModelRequest(parts=[UserPromptPart("Hello.")])]
Call = Callable[[], Awaitable[object]]


@contextmanager
def server(*arguments: str):
    command = [sys.executable, str(SERVER), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def transports():
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    yield "httpx2", lambda: httpx2.AsyncClient(limits=limits)
    try:
        from openai import DefaultAioHttpClient

        DefaultAioHttpClient()
    except RuntimeError:
        return
    yield "aiohttp", lambda: DefaultAioHttpClient(limits=limits)


def layers(url: str, http: httpx2.AsyncClient):
    sdk = AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
    model = OpenAIChatModel("bench", provider=OpenAIProvider(openai_client=sdk))

    async def plain():
        (await http.post(f"{url}/chat/completions", json=BODY)).raise_for_status()

    async def by_sdk():
        await sdk.chat.completions.create(**BODY)

    async def by_layer():
        await model.request(HISTORY, None, ModelRequestParameters())

    async def streamed():
        async with model.request_stream(HISTORY, None, ModelRequestParameters()) as events:
            async for _ in events:
                pass

    yield "plain", plain
    yield "SDK", by_sdk
    yield "model layer", by_layer
    yield "model layer, streamed", streamed


async def cpu_ms(call: Call, calls: int, in_flight: int) -> float:
    """CPU of this process per call."""
    waiting = iter(range(calls))

    async def client() -> None:
        for _ in waiting:
            await call()

    await call()
    began = time.process_time()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return (time.process_time() - began) * 1000 / calls


async def measure(calls: int) -> None:
    print("| transport | client | 32 in flight | 128 in flight |\n|---|---|---|---|")
    with server() as url:
        for transport, make in transports():
            async with make() as http:
                for layer, call in layers(url, http):
                    found = [await cpu_ms(call, calls, n) for n in (32, 128)]
                    print(
                        f"| {transport} | {layer} | {found[0]:.2f} | {found[1]:.2f} |", flush=True
                    )
    print("\n| transport | 200 tokens, 10 streams: µs per token |\n|---|---|")
    with server("--tokens", "200", "--pace-ms", "5") as url:
        for transport, make in transports():
            async with make() as http:
                streamed = dict(layers(url, http))["model layer, streamed"]
                print(f"| {transport} | {await cpu_ms(streamed, 40, 10) * 5:.0f} |", flush=True)


if __name__ == "__main__":
    uvloop.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
