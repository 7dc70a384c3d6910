"""A model's text on its way to whoever watches: grouped, in order, and only once it is stored.

The first piece leaves at once, later ones at least every 100 ms (SPEC EXE-10). Each group is an
event of the run's log, written under the fence; it does not wait for the disk, for the journal of
the whole answer follows it.
"""

import asyncio
import contextlib
from typing import Self

import structlog

from chargehand.executions import journal
from chargehand.executions.journal import Event
from chargehand.executions.leases import EventsLost
from chargehand.executions.live import Bells
from chargehand.kernel.database import TROUBLES, Database
from chargehand.runtime.retelling import tell_again
from chargehand.runtime.runs import Run

log = structlog.get_logger()

GROUP_S = 0.1


class TextStream:
    """Use it as a context: when it is left, all text that was added has been stored."""

    def __init__(self, run: Run, database: Database, bells: Bells) -> None:
        self._run = run
        self._database = database
        self._bells = bells
        self._waiting: list[str] = []
        self._arrived = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()

    def add(self, text: str) -> None:
        self._run.partial_text.append(text)
        self._run.text_left = True
        self._waiting.append(text)
        self._arrived.set()
        if self._task is None:
            self._task = asyncio.create_task(self._flush_in_groups())

    async def reset(self, reason: str) -> None:
        """Tell listeners to drop the text of this step that they have."""
        await self.drain()
        self._run.partial_text.clear()
        await self._append(Event("output.reset", {"reason": reason}))

    async def drain(self) -> None:
        """Store what waits; raises what storing raised, LeaseLost among it."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._closed.set()
        self._arrived.set()
        await task
        self._closed.clear()

    async def _flush_in_groups(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            text, self._waiting = "".join(self._waiting), []
            if text:
                await self._store(text)
            elif self._closed.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), GROUP_S)
            if self._closed.is_set():
                self._arrived.set()

    async def _store(self, text: str) -> None:
        """A database that does not answer costs the run nothing; listeners are told later."""
        try:
            await self._append(Event("output.delta", {"text": text}))
        except TROUBLES as error:
            log.warning("text_not_stored", characters=len(text), error=str(error))
            # It may have been stored or not: if not, the next write finds it lost.
            self._run.lease.last_event += 1

    async def _append(self, event: Event) -> None:
        lease = self._run.lease
        try:
            async with self._database.hot(lease.organization_id) as connection:
                await connection.execute("set local synchronous_commit = off")
                await journal.append_events(connection, lease, [event])
        except EventsLost as lost:
            log.warning("events_lost", reason=str(lost))
            # All that has come is told again, also what waits.
            self._waiting.clear()
            async with self._database.hot(lease.organization_id) as connection:
                await tell_again(connection, self._run)
        self._bells.new_events(lease.execution_id)
