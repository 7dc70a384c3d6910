"""Followers that stop reading are dropped, and cost the server no memory meanwhile (EXE-10)."""

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.streams import Told, events_of, serving

from chargehand.entrypoints import http_server
from chargehand.kernel.database import Database
from chargehand.web import streaming

EVENTS, TEXT = 400, "x" * 200_000
"""80 MB: far more than the kernel buffers for a connection."""


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def a_long_story(service: Service) -> str:
    agent = await service.agent()
    body = {"input": "x", "mode": "async"}
    answer = await service.client.post(f"/api/v1/agents/{agent}/execute", json=body)
    execution = answer.json()["id"]
    async with service.database.hot(service.caller.organization_id) as connection:
        await connection.execute(
            "insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, "
            "at) select $1, n, $2, $3, 1, 'output.delta', jsonb_build_object('text', $4::text), "
            "now() from generate_series(3, $5::int) as n",
            execution,
            service.caller.organization_id,
            service.caller.user_id,
            TEXT,
            EVENTS,
        )
    return execution


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def connected(url: str, path: str, key: str, *headers: str) -> socket.socket:
    """A socket that has sent a request, and has read nothing."""
    address = urlsplit(url)
    reader = socket.create_connection((address.hostname, address.port or 80))
    lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", f"Authorization: {key}", *headers]
    reader.sendall("\r\n".join([*lines, "", ""]).encode())
    return reader


async def until_dropped(url: str) -> None:
    """Wait until the server has no connection left; by the kernel's own account."""
    port = f":{urlsplit(url).port:04X}"
    async with asyncio.timeout(10):
        while any(
            line.split()[1].endswith(port) and line.split()[3] == "01"
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        ):
            await asyncio.sleep(0.05)


async def test_a_stream_that_nobody_reads_is_dropped_and_costs_no_memory(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = await a_long_story(service)
    key, path = service.client.headers["Authorization"], f"/api/v1/executions/{execution}/events"
    async with serving(service.app) as url:
        before = memory_mb()
        monkeypatch.setattr(streaming, "DRAIN_S", 2.0)
        with connected(url, path, key):
            grown = list[float]()
            for _ in range(10):
                await asyncio.sleep(0.15)
                grown.append(memory_mb() - before)
            await until_dropped(url)
        assert max(grown) < 60, "the server holds what the reader does not take"
        # Others go on meanwhile, and whoever comes back behind its last event does too.
        behind = [
            event.id
            async for event in until(events_of(url, path, "1.398", Authorization=key), "1.400")
        ]
        assert behind == ["1.399", "1.400"]


async def until(stream: AsyncIterator[Told], last: str) -> AsyncIterator[Told]:
    async for event in stream:
        yield event
        if event.id == last:
            return


async def test_a_socket_that_nobody_reads_is_dropped(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = await a_long_story(service)
    monkeypatch.setattr(streaming, "DRAIN_S", 1.0)
    async with serving(service.app) as url:
        before = memory_mb()
        with upgraded(url, service.client.headers["Authorization"]) as reader:
            # Only the head: what a client sends before it is lost.
            assert b"101" in await asyncio.to_thread(reader.recv, 12)
            reader.sendall(masked(b'{"subscribe": "agent/%s"}' % execution.encode()))
            await asyncio.sleep(0.8)
            assert memory_mb() - before < 60
            await until_dropped(url)


async def test_a_socket_is_pinged_and_dropped_when_it_does_not_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "PING_S", 0.3)
    async with serving(service.app) as url:
        with upgraded(url, service.client.headers["Authorization"]) as reader:
            reader.setblocking(False)
            received, loop = b"", asyncio.get_running_loop()
            async with asyncio.timeout(5):
                while chunk := await loop.sock_recv(reader, 1000):
                    received += chunk
    _, _, frames = received.partition(b"\r\n\r\n")
    assert frames[0] == 0x89, "a ping"
    assert b"keepalive ping timeout" in frames


def upgraded(url: str, key: str) -> socket.socket:
    nonce = base64.b64encode(bytes(16)).decode()
    return connected(
        url,
        "/api/v1/live",
        key,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {nonce}",
    )


def masked(text: bytes) -> bytes:
    """A short text frame; its mask is four zeros."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
