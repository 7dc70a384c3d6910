"""Streams of events, each taken up again where its connection breaks."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import Self

import httpx2

from chargehand_client.events import Event
from chargehand_client.requests import Request
from chargehand_client.resuming import Resumption


class EventStream:
    """Events, each exactly once, in order, across broken connections and restarts of the service.

    Iterating raises Unreachable where the stream cannot be taken up again, ApiError where the
    service refuses it.
    """

    def __init__(
        self,
        reopen: Callable[[Request], httpx2.Response],
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

    def __enter__(self) -> Self:
        try:
            if self._resumption.begins_now:
                # Known before the block is entered, so that nothing is missed of what it does.
                self._first = next(self._received)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._received.close()
        self._response.close()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def _all(self) -> Generator[Event]:
        if self._first is not None:
            yield self._first
        for event in self._received:
            if event is not None:
                yield event

    def _receive(self) -> Generator[Event | None]:
        """What comes on as many connections as it takes; None for what is no new event."""
        resumption = self._resumption
        while True:
            resumption.opened(self._response.status_code, time.monotonic())
            if resumption.ended:
                return
            reason: Exception | None = None
            try:
                for message in httpx2.EventSource(self._response):
                    yield resumption.seen(message.id, message.event, message.data)
                    if resumption.ended:
                        return
            except (httpx2.TransportError, ValueError) as error:
                reason = error
            self._response.close()
            time.sleep(resumption.broken(reason, time.monotonic()))
            self._response = self._reopen(resumption.request())
