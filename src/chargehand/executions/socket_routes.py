"""WebSocket: many topics over one connection (SPEC EXE-10).

The client sends ``{"subscribe": topic, "last_event_id": …}`` and ``{"unsubscribe": topic}``. Each
message of the server has ``topic``, ``id``, ``type`` and ``data``: an event as the topic's stream
has it, or ``subscribed`` (its id is where the topic goes on), ``unsubscribed`` (nothing more comes)
or ``error``, with a body as errors of HTTP have it.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from fastapi import APIRouter, WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from chargehand.executions.live_routes import admit, check_opens
from chargehand.executions.topics import Opened, Topics, parse_topic
from chargehand.kernel.database import TROUBLES
from chargehand.kernel.errors import ChargehandError, Denied, Invalid, LimitReached, Violation
from chargehand.tenancy.open_connections import OpenConnections
from chargehand.tenancy.subscription_tokens import Admitted
from chargehand.web.error_codes import STATUS_OF_CODE
from chargehand.web.problems import envelope
from chargehand.web.streaming import Patience, SlowReader

router = APIRouter(prefix="/api/v1")

MAX_TOPICS = 100

# RFC 6455, section 7.4: codes of its registry, then some of our own.
TRY_AGAIN, REFUSED = 1013, 4401

_MESSAGES = ({"subscribe"}, {"unsubscribe"})

log = structlog.get_logger()


@router.websocket("/live")
async def live(websocket: WebSocket) -> None:
    """Follow topics; refused before it is accepted where the key or the token is."""
    try:
        _check_origin(websocket)
        presented = websocket.headers.get("authorization", "")
        scheme, _, credentials = presented.partition(" ")
        holder = await admit(
            websocket,
            credentials if scheme.lower() == "bearer" else None,
            websocket.query_params.get("token"),
        )
    except ChargehandError as error:
        body = envelope(websocket, error.code, error.message, dict(error.details))
        await websocket.send_denial_response(JSONResponse(body, STATUS_OF_CODE[error.code]))
        return
    await websocket.accept()
    with Patience(websocket.scope) as patience:
        await _LiveSocket(websocket, holder, patience).serve()


def _check_origin(websocket: WebSocket) -> None:
    """A page may come from this server or from an allowed origin. Raises Denied."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in websocket.app.state.cors_origins:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise Denied(
            f"Pages of {origin[:200]} may not connect. Your operator can allow the origin with "
            "CHARGEHAND_CORS_ORIGINS."
        )


class _LiveSocket:
    """One connection: each topic is a task, and one message is sent at a time."""

    def __init__(self, websocket: WebSocket, holder: Admitted, patience: Patience) -> None:
        self._websocket = websocket
        self._patience = patience
        self._holder = holder
        self._topics: Topics = websocket.app.state.topics
        self._connections: OpenConnections = websocket.app.state.open_connections
        self._following: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until the client leaves, is refused, or reads nothing."""
        receiving = asyncio.create_task(self._receive())
        with self._connections.kept(
            self._holder.caller, lambda: self._end(REFUSED), self._holder.expires_at
        ):
            await asyncio.wait({receiving, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        tasks = [receiving, *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ended.done() and (code := self._ended.result()):
            with contextlib.suppress(SlowReader, WebSocketDisconnect):
                await self._patience.send(self._websocket.close(code))

    def _end(self, code: int) -> None:
        """0: the connection is gone already."""
        if not self._ended.done():
            self._ended.set_result(code)

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._obey(message.get("text") or "")
        except (SlowReader, WebSocketDisconnect):
            self._end(0)
        except TROUBLES as error:
            log.warning("stream_broken", error=str(error))
            self._end(TRY_AGAIN)

    async def _obey(self, text: str) -> None:
        topic = None
        try:
            wanted = _parse(text)
            topic = wanted.get("subscribe") or wanted.get("unsubscribe")
            await self._unfollow(str(topic))
            if "subscribe" in wanted:
                await self._follow(wanted["subscribe"], wanted.get("last_event_id"))
            else:
                await self._tell(topic, None, "unsubscribed", {})
        except ChargehandError as error:
            told = {"code": error.code, "message": error.message, "details": dict(error.details)}
            await self._tell(topic, None, "error", told)

    async def _follow(self, name: str, last_event_id: str | None) -> None:
        if len(self._following) >= MAX_TOPICS:
            raise LimitReached(
                f"This connection follows {MAX_TOPICS} topics already. Unsubscribe from one, or "
                "open another connection.",
                limit=MAX_TOPICS,
            )
        topic = parse_topic(name)
        check_opens(self._holder, topic)
        opened = await self._topics.open(self._holder, topic, last_event_id)
        await self._tell(name, opened.behind, "subscribed", {})
        self._following[name] = asyncio.create_task(self._pass_on(name, opened))

    async def _unfollow(self, name: str) -> None:
        task = self._following.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _pass_on(self, name: str, opened: Opened) -> None:
        try:
            with opened.watching() as watch:
                # None is a heartbeat: here the server's pings are.
                async for event in opened.follow(watch):
                    if event is not None:
                        await self._tell(name, event.id, event.type, event.data)
                if watch.ended:
                    self._end(TRY_AGAIN)
                    return
            await self._tell(name, None, "unsubscribed", {})
            self._following.pop(name, None)
        except (SlowReader, WebSocketDisconnect):
            self._end(0)
        except TROUBLES as error:
            log.warning("stream_broken", error=str(error))
            self._end(TRY_AGAIN)

    async def _tell(
        self, topic: str | None, event_id: str | None, event_type: str, data: Mapping[str, Any]
    ) -> None:
        message = {"topic": topic, "id": event_id, "type": event_type, "data": data}
        async with self._sending:
            sending = self._websocket.send_text(orjson.dumps(message).decode())
            await self._patience.send(sending)


def _parse(text: str) -> Mapping[str, Any]:
    """Raises Invalid."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = None
    if isinstance(message, dict) and set(message) - {"last_event_id"} in _MESSAGES:
        position = message.get("last_event_id")
        topic = message.get("subscribe", message.get("unsubscribe"))
        if isinstance(topic, str) and isinstance(position, str | None):
            return message
    wrong = Violation("", "is neither a subscription nor the end of one")
    raise Invalid(
        'Send {"subscribe": "agent/<execution id>"}, with a "last_event_id" to go on behind it, or '
        '{"unsubscribe": …}.',
        violations=[wrong.as_json()],
    )
