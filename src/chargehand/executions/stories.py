"""The story of a run: its event log from any position on, followed to its end (SPEC EXE-10).

An event's id is ``<epoch>.<seq>``; ``seq`` grows in the order of commits, and within one epoch a
number is never used for two events (see ``journal``). Text is written without waiting for the disk,
so a crash of PostgreSQL can lose the end of a story that has been told already: whoever was told
it, now or when it comes back with such an id, gets an ``output.reset`` and goes on behind the last
event that is still there.
"""

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from chargehand.executions.live import Feed, Watch
from chargehand.executions.shared_reads import SharedReads
from chargehand.kernel.database import Database
from chargehand.kernel.errors import Invalid, Violation
from chargehand.kernel.identifiers import ExecutionId, OrganizationId

HEARTBEAT_S = 15.0
PAGE = 100
LOST = "the database lost the text that you had last; it is told again"

_ID = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Position:
    """The event behind which a stream goes on."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


BEGINNING = Position(0, 0)


def parse_position(event_id: str | None) -> Position:
    """The position that an event's id names; the beginning for None or "". Raises Invalid."""
    if not event_id:
        return BEGINNING
    match = _ID.fullmatch(event_id)
    if match is None:
        raise not_of_this_stream(event_id, "must be <epoch>.<seq>, as the stream gave it")
    return Position(int(match[1]), int(match[2]))


def not_of_this_stream(event_id: str, wrong: str) -> Invalid:
    return Invalid(
        f"Last-Event-ID {event_id!r} is not an id of this stream. Leave it out to begin anew.",
        violations=[Violation("/header/Last-Event-ID", wrong).as_json()],
    )


@dataclass(slots=True, eq=False)
class ToldEvent:
    """One event as followers get it; one object is given to all who follow together."""

    id: str
    type: str
    data: dict[str, Any]
    frame: bytes | None = None
    """What the first who sent it made of it, so that the others need not."""


@dataclass(frozen=True, slots=True)
class _Page:
    """What follows a position. ``lost``: there is no such event any more."""

    events: Sequence[tuple[Position, ToldEvent]]
    lost: bool
    over: bool
    """The run has ended, and nothing follows these events."""


# What is behind a position, and first the event that stands there, to see that it still does.
_READ = """
select w.n, l.execution_id is not null as live, e.seq, e.epoch, e.type, e.data
  from unnest($1::uuid[], $2::integer[]) with ordinality as w(execution_id, seq, n)
  left join live_executions as l on l.execution_id = w.execution_id and l.organization_id = $3
  left join lateral (
      select seq, epoch, type, data from events
       where execution_id = w.execution_id and organization_id = $3 and seq >= w.seq
       order by seq limit $4
  ) as e on true
 order by w.n, e.seq
"""

_LAST_KNOWN = """
select epoch, seq from events
 where execution_id = $1 and organization_id = $2 and seq <= $3 and epoch <= $4
 order by seq desc limit 1
"""


class Stories:
    """Follows runs for everybody in this process who wants to."""

    def __init__(self, feed: Feed, database: Database) -> None:
        self._feed = feed
        self._database = database
        self._reads = SharedReads[tuple[ExecutionId, Position], _Page](self._fetch)

    async def nothing_behind(
        self, organization: OrganizationId, execution: ExecutionId, after: Position
    ) -> bool:
        """Whether the run has ended and has no event behind ``after``."""
        page = await self._reads.read(organization, (execution, after))
        return page.over and not page.events and not page.lost

    async def follow(
        self,
        organization: OrganizationId,
        execution: ExecutionId,
        after: Position,
        watch: Watch,
        *,
        with_log: bool,
    ) -> AsyncIterator[ToldEvent | None]:
        """Every event behind ``after``, then those to come, until ``done``; None is a heartbeat.

        ``with_log=False`` is for who may not read the run's log: it leaves out its lines. ``watch``
        is one of the run, and ends it. Raises what the database's absence raises.
        """
        told_at = time.monotonic()
        while not watch.ended:
            watch.clear()
            page = await self._reads.read(organization, (execution, after))
            if page.lost:
                after = await self._last_known(organization, execution, after)
                yield ToldEvent(str(after), "output.reset", {"reason": LOST})
                continue
            for position, event in page.events:
                after = position
                if event.type == "log" and not with_log:
                    continue
                yield event
                told_at = time.monotonic()
                if watch.ended or event.type == "done":
                    return
            self._feed.note_read(execution, after.seq)
            if page.over:
                return
            if not page.events:
                await watch.rung(max(0.0, told_at + HEARTBEAT_S - time.monotonic()))
                if time.monotonic() >= told_at + HEARTBEAT_S:
                    told_at = time.monotonic()
                    yield None

    async def _fetch(
        self, organization: OrganizationId, keys: Sequence[tuple[ExecutionId, Position]]
    ) -> Sequence[_Page]:
        async with self._database.hot(organization) as connection:
            rows = await connection.fetch(
                _READ,
                [execution for execution, _ in keys],
                [position.seq for _, position in keys],
                organization,
                PAGE + 1,
            )
        of_key: list[list[Any]] = [[] for _ in keys]
        for row in rows:
            of_key[row["n"] - 1].append(row)
        return [_page(found, after) for found, (_, after) in zip(of_key, keys, strict=True)]

    async def _last_known(
        self, organization: OrganizationId, execution: ExecutionId, after: Position
    ) -> Position:
        """The last event that who was told ``after`` was also told, and that is still there."""
        async with self._database.hot(organization) as connection:
            row = await connection.fetchrow(
                _LAST_KNOWN, execution, organization, after.seq, after.epoch
            )
        return BEGINNING if row is None else Position(row["epoch"], row["seq"])


def _page(rows: Sequence[Any], after: Position) -> _Page:
    found = [row for row in rows if row["seq"] is not None]
    there = [Position(row["epoch"], row["seq"]) for row in found]
    lost = after != BEGINNING and after not in there[:1]
    events = [
        (position, ToldEvent(str(position), row["type"], row["data"]))
        for position, row in zip(there, found, strict=True)
        if position.seq > after.seq
    ]
    return _Page(events, lost, over=not rows[0]["live"] and len(found) <= PAGE)
