"""Who rings when a run has new events, and who is woken (SPEC EXE-10).

The log in PostgreSQL is the truth; a ring only says that there may be more to read. So whoever
follows reads from its own position, and misses nothing when rings are lost.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Generator

import structlog

from chargehand.kernel.bells import Bell, Listener, Wire
from chargehand.kernel.database import TROUBLES, Database
from chargehand.kernel.identifiers import ExecutionId, OrganizationId, UserId

CHANNEL = "chargehand_events"
WAKE_CHANNEL = "chargehand_wake"

POLL_S = 1.0
_HEX = 32

log = structlog.get_logger()


class Bells:
    """Both bells of a process: one for those who watch a run, one for the worker that owns it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._events = Bell(wire, CHANNEL)
        self._wake = Bell(wire, WAKE_CHANNEL)

    def new_events(self, execution: ExecutionId, user: UserId | None = None) -> None:
        """Ring for those who follow the run, and with ``user`` for those who follow that user."""
        self._events.ring(execution.hex + (user.hex if user is not None else ""))

    def wake_owner(self, execution: ExecutionId) -> None:
        self._wake.ring(execution.hex)

    async def close(self) -> None:
        await self._events.close()
        await self._wake.close()


class Watch:
    """One follower's place at the bell; ``ended`` tells it to stop where it stands."""

    # A thousand wait at each event: an asyncio.Event with a time-out costs three times as much.
    __slots__ = ("_rung", "_waiter", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rung = True
        self._wake()

    def end(self) -> None:
        self.ended = True
        self.ring()

    def clear(self) -> None:
        """Before reading: a ring that comes from now on is for what may not have been read."""
        self._rung = False

    async def rung(self, timeout_s: float) -> bool:
        """Wait for a ring; False if none has come after ``timeout_s``."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._rung

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Feed:
    """Tells the followers in this process that there may be more to read.

    One connection that listens and one slow poll serve them all, however many they are.
    """

    def __init__(self, wire: Wire, database: Database) -> None:
        self._database = database
        self._runs: defaultdict[str, set[Watch]] = defaultdict(set)
        self._users: defaultdict[str, set[Watch]] = defaultdict(set)
        self._read_to: dict[str, int] = {}
        self._closed = False
        self._listener = Listener(wire, [CHANNEL], self._rung, self._rung_for_all)
        self._polling: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._listener.start()
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        self.close()
        await self._listener.stop()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})

    def close(self) -> None:
        """End every stream where it stands: its reader comes back, with its last event's id."""
        self._closed = True
        for watch in self._watches():
            watch.end()

    def watching_run(self, execution: ExecutionId) -> contextlib.AbstractContextManager[Watch]:
        """Rung whenever the run may have new events, or has ended."""
        return self._watching(self._runs, execution.hex)

    def watching_user(self, user: UserId) -> contextlib.AbstractContextManager[Watch]:
        """Rung whenever a run of the user's may have new events, other than text."""
        return self._watching(self._users, user.hex)

    def note_read(self, execution: ExecutionId, seq: int) -> None:
        """A follower of the run has read up to here, so that the poll need not ring for it."""
        self._read_to[execution.hex] = seq

    @contextlib.contextmanager
    def _watching(self, followers: defaultdict[str, set[Watch]], followed: str) -> Generator[Watch]:
        watch = Watch()
        if self._closed:
            watch.end()
        followers[followed].add(watch)
        try:
            yield watch
        finally:
            followers[followed].discard(watch)
            if not followers[followed]:
                del followers[followed]
                self._read_to.pop(followed, None)

    def _rung(self, _channel: str, payload: str) -> None:
        execution, user = payload[:_HEX], payload[_HEX:]
        for watch in (*self._runs.get(execution, ()), *self._users.get(user, ())):
            watch.ring()

    def _rung_for_all(self) -> None:
        for watch in self._watches():
            watch.ring()

    def _watches(self) -> list[Watch]:
        return [
            watch
            for followers in (*self._runs.values(), *self._users.values())
            for watch in followers
        ]

    async def _poll(self) -> None:
        """Each second, ring for those whose ring was lost."""
        while True:
            await asyncio.sleep(POLL_S)
            for followers in self._users.values():
                for watch in followers:
                    watch.ring()
            if self._runs:
                try:
                    await self._ring_for_the_behind()
                except TROUBLES as error:
                    log.warning("feed_not_polled", error=str(error))

    async def _ring_for_the_behind(self) -> None:
        """One query for all followed runs: has it ended, or more events than were read?"""
        rows = await self._database.system.fetch(
            "select execution_id, last_event from live_executions "
            "where execution_id = any($1::uuid[])",
            list(self._runs),
        )
        last = {row["execution_id"].hex: row["last_event"] for row in rows}
        for execution, followers in self._runs.items():
            if last.get(execution, -1) != self._read_to.get(execution):
                for watch in followers:
                    watch.ring()


async def is_over(database: Database, organization: OrganizationId, execution: ExecutionId) -> bool:
    """Whether the run has ended, so that no event will follow those that are there."""
    async with database.hot(organization) as connection:
        return not await connection.fetchval(
            "select exists (select from live_executions where execution_id = $1)", execution
        )


async def rests(database: Database, organization: OrganizationId, execution: ExecutionId) -> bool:
    """Whether the run has ended, or waits for something, or is paused."""
    async with database.hot(organization) as connection:
        return not await connection.fetchval(
            "select exists (select from live_executions where execution_id = $1 "
            "and status in ('pending', 'running'))",
            execution,
        )


async def wait_until_done(
    database: Database,
    feed: Feed,
    organization: OrganizationId,
    execution: ExecutionId,
    timeout_s: float,
) -> bool:
    """Wait until a run has ended or waits itself; False if it has not after ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            with feed.watching_run(execution) as watch:
                while not await rests(database, organization, execution):
                    if watch.ended:
                        return False
                    await watch.rung(POLL_S)
                    watch.clear()
    except TimeoutError:
        return False
    return True
