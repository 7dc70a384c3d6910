"""Tells a hub outside what happens in runs: all of it, in order, by one process at a time.

Each worker would do it. The one whose session holds an advisory lock does; PostgreSQL gives the
lock to another when that session ends: at once if its process is killed, after ``SILENCE_S`` if
the process or its machine stops answering. At least once: the position moves when the hub has taken
a page, so that whoever comes after a crash tells that page again.
"""

import asyncio
import contextlib
import os
import random
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Protocol
from uuid import UUID

import asyncpg
import structlog

from chargehand.executions import publications
from chargehand.executions.live import CHANNEL, POLL_S, Watch
from chargehand.executions.publications import Update
from chargehand.executions.user_topics import SETTLING_S, Cursor
from chargehand.kernel.bells import Listener, Wire
from chargehand.kernel.database import TROUBLES

AT_ONCE = 16
"""Updates on their way to the hub at a time; those of one run follow one another."""

TURN_S = 1.0
"""How often a process that waits asks for the turn, and tries again after trouble."""

KEEP_S = 2.0
ANSWER_S = 8
SILENCE_S = 12
"""PostgreSQL ends a session that is silent for so long: more than ``KEEP_S`` + ``ANSWER_S``, after
which the process itself has given up its turn."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0

_SESSION_SETTINGS = {
    # Where to look for the process whose turn it is: in pg_stat_activity.
    "application_name": f"chargehand publishing, pid {os.getpid()}",
    "client_connection_check_interval": "2s",
    "idle_session_timeout": f"{SILENCE_S}s",
}
_TURN = "select pg_try_advisory_lock(hashtextextended('chargehand.publishing ' || $1, 0))"

log = structlog.get_logger()


class HubTrouble(Exception):
    """The hub has not taken an update. ``kind`` is what is told once, however often it happens."""

    def __init__(self, kind: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.remedy = remedy


class Hub(Protocol):
    """Where updates go. It may get one twice."""

    async def publish(self, update: Update) -> None:
        """Return once the hub has taken it. Raises HubTrouble, and that in bounded time."""
        ...


class Delivery:
    """Hands updates to a hub until it has taken them, however long it is away."""

    def __init__(
        self,
        hub: Hub,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._hub = hub
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._noted = set[str]()

    async def deliver(self, updates: Sequence[Update]) -> None:
        """Return once the hub has taken them all, those of each run in their order."""
        lines = _by_run(updates)
        while lines:
            waiting = sum(map(len, lines))
            trouble = await self._round(lines)
            lines = [line for line in lines if line]
            self._note(trouble)
            if trouble is None:
                self._failures = 0
                continue
            progress = sum(map(len, lines)) < waiting
            self._failures = 1 if progress else self._failures + 1
            await asyncio.sleep(self._pause_s())

    async def _round(self, lines: Sequence[deque[Update]]) -> HubTrouble | None:
        """Take from the lines what the hub takes; once it fails, nothing more is begun."""
        troubles = list[HubTrouble]()
        room = asyncio.Semaphore(AT_ONCE)

        async def tell(line: deque[Update]) -> None:
            async with room:
                while line and not troubles:
                    try:
                        await self._hub.publish(line[0])
                    except HubTrouble as trouble:
                        troubles.append(trouble)
                    else:
                        line.popleft()

        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(tell(line))
        return troubles[0] if troubles else None

    def _pause_s(self) -> float:
        # The exponent is bounded: a hub may be away for a year.
        longest = min(self._longest_pause_s, self._first_pause_s * 2 ** min(self._failures, 30))
        return longest * random.uniform(0.5, 1)  # noqa: S311 (nothing is guarded by it)

    def _note(self, trouble: HubTrouble | None) -> None:
        """Tell of each kind of trouble once until the hub is well again, and then of that."""
        if trouble is None:
            if self._noted:
                log.warning("hub_takes_updates_again")
                self._noted.clear()
        elif trouble.kind not in self._noted:
            self._noted.add(trouble.kind)
            log.error("hub_takes_no_updates", reason=trouble.reason, remedy=trouble.remedy)


def _by_run(updates: Sequence[Update]) -> list[deque[Update]]:
    lines = dict[UUID, deque[Update]]()
    for update in updates:
        lines.setdefault(update.execution, deque()).append(update)
    return list(lines.values())


class _Session:
    """The connection that holds the turn; tasks that use it wait for one another."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()
        self._ended = asyncio.Event()
        connection.add_termination_listener(self._end)

    def _end(self, _connection: object) -> None:
        self._ended.set()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[asyncpg.Connection]:
        async with self._one_at_a_time:
            yield self._connection

    async def keep(self) -> None:
        """Show signs of life. Raises what the session's end raises."""
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):
                    await self._ended.wait()
            async with self.connection() as connection:
                await connection.execute("select 1")


class Publishing:
    """Tells ``hub``, whose position is kept by the name; ``url`` is the system role's.

    ``url`` must reach PostgreSQL directly, for a session of its own and for what ``wire`` listens.
    """

    def __init__(self, name: str, hub: Hub, wire: Wire, url: str) -> None:
        self._name = name
        self._wire = wire
        self._url = url
        self._delivery = Delivery(hub)

    async def serve(self) -> None:
        """Tell the hub whenever it is this process's turn, until cancelled."""
        while True:
            try:
                await self._serve_a_turn()
            except (*TROUBLES, asyncpg.PostgresError) as error:
                log.warning("publishing_interrupted", error=str(error))
            await asyncio.sleep(TURN_S)

    async def _serve_a_turn(self) -> None:
        async with _connected(self._url) as connection:
            # Asked for again and again: who waits inside a statement holds up VACUUM.
            while not await connection.fetchval(_TURN, self._name):  # noqa: ASYNC110
                await asyncio.sleep(TURN_S)
            log.info("publishing", to=self._name, pid=os.getpid())
            session = _Session(connection)
            await _until_one_ends(self._publish(session), session.keep())

    async def _publish(self, session: _Session) -> None:
        async with session.connection() as connection:
            after = await self._position(connection)
        watch = Watch()
        listener = Listener(
            self._wire, [CHANNEL], lambda _channel, _payload: watch.ring(), watch.ring
        )
        listener.start()
        try:
            await self._publish_behind(after, session, watch)
        finally:
            await listener.stop()

    async def _position(self, connection: asyncpg.Connection) -> Cursor:
        found = await publications.find_position(connection, self._name)
        if found is not None:
            return found
        log.warning("publishing_begins_here", to=self._name)
        return await publications.begin(connection, self._name)

    async def _publish_behind(self, after: Cursor, session: _Session, watch: Watch) -> None:
        told, pause_s = frozenset[Cursor](), SETTLING_S
        while True:
            watch.clear()
            async with session.connection() as connection:
                page = await publications.read(connection, after, told)
            await self._delivery.deliver(page.updates)
            told = page.early
            if page.end != after:
                after = page.end
                async with session.connection() as connection:
                    await publications.move(connection, self._name, after)
                pause_s = SETTLING_S
                continue
            await watch.rung(pause_s if page.held_up else POLL_S)
            pause_s = min(POLL_S, 2 * pause_s) if page.held_up else SETTLING_S


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        url, timeout=ANSWER_S, command_timeout=ANSWER_S, server_settings=_SESSION_SETTINGS
    )
    try:
        yield connection
    finally:
        # What ended the turn is what is told, above all that it was cancelled.
        with contextlib.suppress(*TROUBLES, asyncpg.PostgresError):
            await connection.close(timeout=2)


async def _until_one_ends(*works: Coroutine[None, None, None]) -> None:
    """Run them together until one ends, and raise what it raised; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
