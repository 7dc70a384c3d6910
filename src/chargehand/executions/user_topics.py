"""A user's topic: the events of all that user's runs, in one order that misses none (EXE-10).

``output.delta``, ``output.reset`` and ``log`` are not in it: the run's own stream carries those.
That leaves it short, and made of events only whose commits waited for the disk.

The order is (transaction, execution, seq), and an event is told only once no transaction before its
own is under way: one that commits late would else be passed over. So a transaction that writes for
long holds the topic up, for as long as ``idle_in_transaction_session_timeout`` lets it.
"""

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chargehand.executions.live import POLL_S, Watch
from chargehand.executions.shared_reads import SharedReads
from chargehand.executions.stories import HEARTBEAT_S, PAGE, ToldEvent, not_of_this_stream
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId, UserId

SETTLING_S = 0.05
"""How soon to look again for an event that an older transaction holds up; doubled up to POLL_S."""

_ID = re.compile("([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The event behind which a stream goes on; as text it is opaque, and sorts as the events do."""

    tx: int
    execution: UUID
    seq: int

    def __str__(self) -> str:
        return f"{self.tx:016x}-{self.execution.hex}-{self.seq:08x}"


def parse_cursor(event_id: str | None) -> Cursor | None:
    """The cursor that an event's id names; None for None or "". Raises Invalid."""
    if not event_id:
        return None
    match = _ID.fullmatch(event_id)
    if match is None or match[3] > "7fffffff":
        raise not_of_this_stream(event_id, "must be an id that this stream gave")
    return Cursor(int(match[1], 16), UUID(match[2]), int(match[3], 16))


@dataclass(frozen=True, slots=True)
class _Page:
    """What follows a cursor. ``held_up``: more is there, behind an older transaction."""

    events: Sequence[tuple[Cursor, ToldEvent]]
    held_up: bool


# The condition on the type is that of the index ``events_user_topic``.
_READ = """
select w.n, e.tx::text as tx, e.execution_id, e.seq, e.type, e.data,
       e.tx < pg_snapshot_xmin(pg_current_snapshot()) as settled
  from unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[])
       with ordinality as w(user_id, tx, execution_id, seq, n)
 cross join lateral (
      select tx, execution_id, seq, type, data from events
       where organization_id = $5 and user_id = w.user_id
         and type not in ('output.delta', 'output.reset', 'log') and tx >= w.tx::xid8
         and (tx, execution_id, seq) > (w.tx::xid8, w.execution_id, w.seq)
       order by tx, execution_id, seq limit $6
  ) as e
 order by w.n, e.tx, e.execution_id, e.seq
"""


class UserTopics:
    """Follows users' runs for everybody in this process who wants to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = SharedReads[tuple[UserId, Cursor], _Page](self._fetch)

    async def now(self) -> Cursor:
        """Before all that is not told yet; what an older transaction holds up is to come."""
        tx = await self._database.system.fetchval(
            "select pg_snapshot_xmin(pg_current_snapshot())::text"
        )
        return Cursor(int(tx), UUID(int=0), 0)

    async def follow(
        self, organization: OrganizationId, user: UserId, after: Cursor, watch: Watch
    ) -> AsyncIterator[ToldEvent | None]:
        """Every event behind ``after``, then those to come, for ever; None is a heartbeat.

        ``watch`` is one of the user, and ends it. Raises what the database's absence raises.
        """
        told_at, pause_s = time.monotonic(), SETTLING_S
        while not watch.ended:
            watch.clear()
            page = await self._reads.read(organization, (user, after))
            for cursor, event in page.events:
                yield event
                after, told_at = cursor, time.monotonic()
                if watch.ended:
                    return
            if page.events:
                pause_s = SETTLING_S
                continue
            quiet_s = max(0.0, told_at + HEARTBEAT_S - time.monotonic())
            await watch.rung(min(quiet_s, pause_s) if page.held_up else quiet_s)
            pause_s = min(POLL_S, 2 * pause_s) if page.held_up else SETTLING_S
            if time.monotonic() >= told_at + HEARTBEAT_S:
                told_at = time.monotonic()
                yield None

    async def _fetch(
        self, organization: OrganizationId, keys: Sequence[tuple[UserId, Cursor]]
    ) -> Sequence[_Page]:
        async with self._database.hot(organization) as connection:
            rows = await connection.fetch(
                _READ,
                [user for user, _ in keys],
                [str(cursor.tx) for _, cursor in keys],
                [cursor.execution for _, cursor in keys],
                [cursor.seq for _, cursor in keys],
                organization,
                PAGE,
            )
        of_key: list[list[Any]] = [[] for _ in keys]
        for row in rows:
            of_key[row["n"] - 1].append(row)
        return [_page(found) for found in of_key]


def _page(rows: Sequence[Any]) -> _Page:
    events = list[tuple[Cursor, ToldEvent]]()
    for row in rows:
        if not row["settled"]:
            return _Page(events, held_up=True)
        cursor = Cursor(int(row["tx"]), row["execution_id"], row["seq"])
        data = {**row["data"], "execution_id": str(row["execution_id"])}
        events.append((cursor, ToldEvent(str(cursor), row["type"], data)))
    return _Page(events, held_up=False)
