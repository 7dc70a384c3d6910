"""Whether a vendor answers, as the checks find it (MOD-2)."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.test_provider_contract import connection_to
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand.adapters.availability import VendorChecks
from chargehand.adapters.vendors import CLIENTS, Connection
from chargehand.catalog.availability import Availability
from chargehand.catalog.providers import VENDORS

EVERY = (
    "openai",
    "openai-chat",
    "openai-compatible",
    "azure",
    "azure-dated",
    "anthropic",
    "google",
)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


async def check(name: str, connection: Connection, timeout_s: float = 5) -> Availability:
    vendor = name.removesuffix("-dated")
    return (await VendorChecks({vendor: connection}, timeout_s=timeout_s).check())[vendor]


def test_every_vendor_has_a_client() -> None:
    assert CLIENTS.keys() == VENDORS.keys()


@pytest.mark.parametrize("name", EVERY)
async def test_a_vendor_that_answers_lists_its_models(name: str, fake: RunningFakeProvider) -> None:
    found = await check(name, connection_to(name, fake))
    assert (found.available, found.problem) == (True, None)
    assert found.models
    assert not any(model.startswith("models/") for model in found.models)


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"openai-compatible"}))
async def test_a_wrong_key_is_told_and_not_shown(name: str, fake: RunningFakeProvider) -> None:
    wrong = "sk-canary-4f9c1d2e7b"
    found = await check(name, connection_to(name, fake, api_key=wrong))
    assert found.available is False
    assert "key" in (found.problem or "")
    assert wrong not in repr(found)


@pytest.mark.parametrize("name", EVERY)
async def test_nobody_there_is_told(name: str, fake: RunningFakeProvider) -> None:
    nobody = replace(connection_to(name, fake), url="http://127.0.0.1:9")
    found = await check(name, nobody)
    assert found.available is False
    assert found.problem


async def test_another_service_is_told(fake: RunningFakeProvider) -> None:
    elsewhere = connection_to("openai", fake, url=f"{fake.url}/nowhere")
    found = await check("openai", elsewhere)
    assert (found.available, "URL" in (found.problem or "")) == (False, True)


async def test_one_that_says_nothing_is_given_up_in_time() -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers = list[asyncio.StreamWriter]()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = Connection(
        url=f"http://127.0.0.1:{port}", api_key="k", idle_timeout_s=1, connections=1
    )
    began = time.monotonic()
    try:
        # Longer than the check may take, and no longer: one that waits for ever fails.
        async with asyncio.timeout(10):
            found = await check("openai", silent, timeout_s=0.3)
    finally:
        for writer in writers:
            writer.close()
        server.close()
    assert time.monotonic() - began < 3
    assert (found.available, found.problem) == (False, "no answer within 0.3 s")


async def test_what_shares_an_address_and_a_key_is_asked_once(tmp_path: Path) -> None:
    asked = list[str]()

    async def list_none(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"data": [{"id": "one"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(list_none, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shared = Connection(
        url=f"http://127.0.0.1:{port}/v1", api_key="k", idle_timeout_s=1, connections=1
    )
    try:
        found = await VendorChecks({"openai": shared, "openai-chat": shared}).check()
    finally:
        server.close()
    assert [one.models for one in found.values()] == [("one",), ("one",)]
    assert asked == ["GET /v1/models HTTP/1.1\r\n"]
