"""Wake-ups between processes: rung after the commit, several in one, never needed for truth.

A NOTIFY inside a hot commit serialises all commits of the server, so a bell is rung on its own
connection a few milliseconds later, once for all that happened since. Whoever listens also polls
slowly, because a ring can be lost.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import asyncpg
import structlog

log = structlog.get_logger()

PAYLOAD_BYTES = 7900
"""PostgreSQL refuses payloads of 8,000 bytes and more."""

OnPayload = Callable[[str, str], None]
"""Called with a channel and a payload."""


class WireBroken(Exception):
    """The connection that carries rings is gone; those rung meanwhile are lost."""


class Wire(Protocol):
    """Carries rings from process to process. It may lose and repeat them, and keeps no order."""

    async def send(self, channel: str, payloads: Sequence[str]) -> None:
        """Send payloads, none of which holds a line break. Raises WireBroken."""
        ...

    async def listen(
        self, channels: Sequence[str], on_payload: OnPayload, on_connect: Callable[[], None]
    ) -> None:
        """Hand over each payload until cancelled; ``on_connect`` is called once it listens.

        Raises WireBroken as soon as the connection is.
        """
        ...

    async def close(self) -> None: ...


_TROUBLES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresWire:
    """Rings over NOTIFY; ``url`` is for LISTEN, and must reach PostgreSQL directly."""

    def __init__(self, pool: asyncpg.Pool, url: str | None = None) -> None:
        self._pool = pool
        self._url = url

    async def send(self, channel: str, payloads: Sequence[str]) -> None:
        try:
            await self._pool.execute(
                "select pg_notify($1, p) from unnest($2::text[]) as p",
                channel,
                list(packed(payloads)),
            )
        except _TROUBLES as error:
            raise WireBroken(str(error)) from error

    async def listen(
        self, channels: Sequence[str], on_payload: OnPayload, on_connect: Callable[[], None]
    ) -> None:
        try:
            await self._listen(channels, on_payload, on_connect)
        except _TROUBLES as error:
            raise WireBroken(str(error)) from error
        raise WireBroken("PostgreSQL ended the connection.")

    async def close(self) -> None:
        """Nothing to do: the pool is somebody else's."""

    async def _listen(
        self, channels: Sequence[str], on_payload: OnPayload, on_connect: Callable[[], None]
    ) -> None:
        def received(_connection: object, _pid: int, channel: str, payload: object) -> None:
            for part in str(payload).split("\n"):
                on_payload(channel, part)

        connection = await asyncpg.connect(self._url)
        try:
            broken = asyncio.Event()

            def ended(_connection: object) -> None:
                broken.set()

            connection.add_termination_listener(ended)
            for channel in channels:
                await connection.add_listener(channel, received)
            on_connect()
            await broken.wait()
        finally:
            await connection.close(timeout=2)


def packed(payloads: Iterable[str]) -> Iterable[str]:
    """Join payloads with newlines into as few notifications as their size allows."""
    batch, size = list[str](), 0
    for payload in payloads:
        if batch and size + len(payload) + 1 > PAYLOAD_BYTES:
            yield "\n".join(batch)
            batch, size = [], 0
        batch.append(payload)
        size += len(payload) + 1
    if batch:
        yield "\n".join(batch)


class Bell:
    """Collects payloads for one channel and sends them at most every ``pause_s`` seconds."""

    def __init__(self, wire: Wire, channel: str, *, pause_s: float = 0.005) -> None:
        self._wire = wire
        self._channel = channel
        self._pause_s = pause_s
        self._waiting: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def ring(self, payload: str) -> None:
        """Send ``payload`` soon; equal payloads that wait together are sent once."""
        self._waiting[payload] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._task is not None:
            await self._task

    async def _send(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause_s)
            waiting, self._waiting = self._waiting, {}
            try:
                await self._wire.send(self._channel, list(waiting))
            except WireBroken as error:
                # Every listener also polls, so a lost ring costs time, not truth.
                log.warning("bell_not_rung", channel=self._channel, error=str(error))


class Listener:
    """Listens on channels, and connects again when the wire breaks.

    ``on_payload(channel, payload)`` is called for each payload; ``on_connect()`` after every
    (re)connection, because rings may have been lost before it.
    """

    def __init__(
        self,
        wire: Wire,
        channels: Iterable[str],
        on_payload: OnPayload,
        on_connect: Callable[[], None] = lambda: None,
    ) -> None:
        self._wire = wire
        self._channels = tuple(channels)
        self._on_payload = on_payload
        self._on_connect = on_connect
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                await self._wire.listen(self._channels, self._on_payload, self._on_connect)
            except WireBroken as error:
                log.warning("listener_broken", error=str(error))
            await asyncio.sleep(0.2)
