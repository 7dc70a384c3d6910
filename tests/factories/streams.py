"""Followers of topics over real sockets: server-sent events and WebSocket."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, NamedTuple

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from chargehand.entrypoints.http_server import server_of


class Told(NamedTuple):
    """One event; its type is None where only a position was told."""

    id: str
    type: str | None
    data: Any


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[str]:
    """The address of an HTTP server for an application whose lifespan has begun already."""
    server = server_of(app)
    server.config.lifespan = "off"
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        running = asyncio.create_task(server.serve([listening]))
        await server.answering(running)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await running


async def events_of(
    url: str, path: str, last_event_id: str | None = None, **headers: str
) -> AsyncIterator[Told]:
    """The events of a stream as they come. Raises HTTPStatusError for what is no stream."""
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    async with (
        httpx2.AsyncClient(base_url=url, timeout=30) as client,
        client.stream("GET", path, headers=headers) as answer,
    ):
        if answer.status_code == 204:
            return
        if answer.is_error:
            await answer.aread()
            answer.raise_for_status()
        event: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value
            elif not line and event:
                yield Told(event["id"], event.get("event"), json.loads(event.get("data", "null")))
                event = {}


@contextlib.asynccontextmanager
async def live_socket(
    url: str, headers: Mapping[str, str] | None = None, query: str = "", **options: Any
) -> AsyncGenerator[ClientConnection]:
    """A connection to ``/api/v1/live``."""
    address = url.replace("http://", "ws://") + "/api/v1/live" + query
    # With a bounded queue the client would not see the answer to its own close behind it.
    async with connect(
        address, additional_headers=headers, proxy=None, max_size=None, max_queue=None, **options
    ) as connection:
        yield connection


async def say(connection: ClientConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


async def hear(connection: ClientConnection, timeout_s: float = 10) -> dict[str, Any]:
    """The next message; its topic, id, type and data are all that it has."""
    async with asyncio.timeout(timeout_s):
        message = json.loads(await connection.recv())
    assert set(message) == {"topic", "id", "type", "data"}
    return message
