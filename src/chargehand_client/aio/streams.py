"""Streams of events, each taken up again where its connection breaks."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Self

import httpx2

from chargehand_client.events import Event
from chargehand_client.requests import Request
from chargehand_client.resuming import Resumption


class AsyncEventStream:
    """Events, each exactly once, in order, across broken connections and restarts of the service.

    Iterating raises Unreachable where the stream cannot be taken up again, ApiError where the
    service refuses it.
    """

    def __init__(
        self,
        reopen: Callable[[Request], Awaitable[httpx2.Response]],
        resumption: Resumption,
        response: httpx2.Response,
    ) -> None:
        self._reopen = reopen
        self._resumption = resumption
        self._response = response
        self._first: Event | None = None
        self._received = self._receive()
        # One for all loops: a second loop goes on where the first one was left.
        self._events = self._all()

    @property
    def last_event_id(self) -> str | None:
        """What to give as ``after`` to go on behind the last event that came.

        Before that it is where the stream begins; None: at the beginning of a run.
        """
        return self._resumption.last

    async def __aenter__(self) -> Self:
        try:
            if self._resumption.begins_now:
                # Known before the block is entered, so that nothing is missed of what it does.
                self._first = await anext(self._received)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._events.aclose()
        await self._received.aclose()
        await self._response.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def _all(self) -> AsyncGenerator[Event]:
        if self._first is not None:
            yield self._first
        async for event in self._received:
            if event is not None:
                yield event

    async def _receive(self) -> AsyncGenerator[Event | None]:
        """What comes on as many connections as it takes; None for what is no new event."""
        resumption = self._resumption
        while True:
            resumption.opened(self._response.status_code, time.monotonic())
            if resumption.ended:
                return
            reason: Exception | None = None
            try:
                async for message in httpx2.EventSource(self._response):
                    yield resumption.seen(message.id, message.event, message.data)
                    if resumption.ended:
                        return
            except (httpx2.TransportError, ValueError) as error:
                reason = error
            await self._response.aclose()
            await asyncio.sleep(resumption.broken(reason, time.monotonic()))
            self._response = await self._reopen(resumption.request())
