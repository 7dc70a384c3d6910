"""Server-sent events: a small encoder (FastAPI's own costs twenty times as much an event).

Whoever sends waits for the connection to take it, so what is buffered for one reader is bounded by
the server's own write buffer. A reader that takes nothing for ``DRAIN_S`` is dropped.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Self

import orjson
import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

HEARTBEAT = b": heartbeat\n\n"
DRAIN_S = 10.0

ABORT = "chargehand.abort"
"""The ASGI extension of our HTTP server that ends a connection without waiting for its reader."""

log = structlog.get_logger()


class SlowReader(Exception):
    """The reader took nothing for ``DRAIN_S``, and has been dropped."""


def encode_event(event_id: str, event_type: str, data: Mapping[str, Any]) -> bytes:
    """One event of the `text/event-stream` format (WHATWG HTML, section 9.2)."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        event_id.encode(),
        event_type.encode(),
        orjson.dumps(data),
    )


def encode_position(event_id: str) -> bytes:
    """No event, but an id to come back with (the same section: it needs no data)."""
    return b"id: %b\n\n" % event_id.encode()


def event_stream(events: AsyncGenerator[bytes], headers: Mapping[str, str]) -> StreamingResponse:
    """Answer with a stream that no proxy buffers or caches."""
    return _EventStream(
        events,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers},
    )


class Patience:
    """Drops the connection of a reader that does not take what is sent for ``DRAIN_S``.

    Use it as a context, around all sends of one connection: one timer for each of them would cost
    as much as the rest of a send.
    """

    def __init__(self, scope: Scope) -> None:
        self._path: str = scope["path"]
        self._abort: Callable[[], None] | None = scope.get("extensions", {}).get(ABORT)
        self._loop = asyncio.get_running_loop()
        self._since = math.inf
        self._dropped = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, sending: Awaitable[None]) -> None:
        """Await one send. Raises SlowReader, or what the send raises for a reader who has left."""
        self._since = self._loop.time()
        await sending
        self._since = math.inf
        if self._dropped:
            raise SlowReader

    def _look(self) -> None:
        if self._loop.time() - self._since < DRAIN_S or self._abort is None:
            self._timer = self._loop.call_later(DRAIN_S / 4, self._look)
            return
        log.warning("slow_reader_dropped", path=self._path)
        self._dropped = True
        self._abort()


class _EventStream(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The events are closed here and now, not when the garbage is collected.
        async with contextlib.aclosing(self.body_iterator):  # pyright: ignore[reportArgumentType]
            with Patience(scope) as patience, contextlib.suppress(SlowReader):

                async def send_patiently(message: Message) -> None:
                    await patience.send(send(message))

                await super().__call__(scope, receive, send_patiently)
