"""What a hub outside is told, in which order, and how far it has been told (SPEC EXE-10).

The position is the cursor of ``user_topics``, over the runs of all organizations, and with the text
of models. Text is written without waiting for the disk, and a crash of PostgreSQL that loses it may
give its transaction's number to another. The stored position is safe from that: whoever moves it
waits for the disk, and so for all that was written before. So after every interruption the position
is read again, and none in memory is trusted.

Lines of the log are left out: who holds a subscription token may not read them
(``topics.may_read_log``), and the policy of the system role hides them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chargehand.executions.event_types import EVENT_TYPES
from chargehand.executions.topics import RunTopic, UserTopic
from chargehand.executions.user_topics import Cursor
from chargehand.kernel.identifiers import ExecutionId, UserId

PAGE = 100
AHEAD = 100
"""How far it looks beyond a page for what belongs before something in it; see ``_in_order``."""

_IN_USER_TOPIC = frozenset(event.name for event in EVENT_TYPES if event.in_user_topic)


@dataclass(frozen=True, slots=True)
class Update:
    """One event as a hub gets it. ``data`` is JSON, and names the run, as in a user's topic."""

    id: str
    execution: UUID
    topics: tuple[str, ...]
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class Page:
    """What follows a position, up to ``end``. ``held_up``: more is there, behind an older
    transaction. ``early``: events behind ``end`` that have been told with this page or before."""

    updates: Sequence[Update]
    end: Cursor
    held_up: bool
    early: frozenset[Cursor]


_POSITION = """
select tx::text as tx, execution_id, seq,
       tx >= pg_snapshot_xmax(pg_current_snapshot()) as of_another_cluster
  from publications where name = $1
"""

_BEGIN = """
insert into publications (name, tx, execution_id, seq)
values ($1, pg_snapshot_xmin(pg_current_snapshot()), $2, 0)
    on conflict (name) do update
   set tx = excluded.tx, execution_id = excluded.execution_id, seq = excluded.seq, moved_at = now()
returning tx::text as tx, execution_id, seq
"""

_MOVE = """
update publications set tx = $2::text::xid8, execution_id = $3, seq = $4, moved_at = now()
 where name = $1
"""

# The condition on the type is that of the index ``events_publication``.
_READ = """
select tx::text as tx, execution_id, seq, user_id, epoch, type,
       (data || jsonb_build_object('execution_id', execution_id))::text as data,
       tx < pg_snapshot_xmin(pg_current_snapshot()) as settled
  from events
 where type <> 'log' and tx >= $1::text::xid8
   and (tx, execution_id, seq) > ($1::text::xid8, $2, $3)
 order by events.tx, execution_id, seq limit $4
"""


async def find_position(connection: asyncpg.Connection, name: str) -> Cursor | None:
    """How far the hub has been told. None: nothing was ever told, or by another cluster.

    After a dump is restored elsewhere, transactions are counted anew (ADR 13): whatever happens
    there would lie before the position for a long time.
    """
    row = await connection.fetchrow(_POSITION, name)
    return None if row is None or row["of_another_cluster"] else _cursor(row)


async def begin(connection: asyncpg.Connection, name: str) -> Cursor:
    """Begin with what is not settled yet; what is older is never told."""
    return _cursor(await connection.fetchrow(_BEGIN, name, UUID(int=0)))


async def move(connection: asyncpg.Connection, name: str, to: Cursor) -> None:
    await connection.execute(_MOVE, name, str(to.tx), to.execution, to.seq)


async def read(connection: asyncpg.Connection, after: Cursor, told: frozenset[Cursor]) -> Page:
    """The page behind a position; ``told`` are events behind it that have been told already."""
    rows = await connection.fetch(_READ, str(after.tx), after.execution, after.seq, PAGE + AHEAD)
    return page_of(rows, after, told)


def page_of(rows: Sequence[Any], after: Cursor, told: frozenset[Cursor]) -> Page:
    settled = 0
    while settled < min(len(rows), PAGE) and rows[settled]["settled"]:
        settled += 1
    due, beyond = rows[:settled], rows[settled:]
    end = _cursor(due[-1]) if due else after
    chosen = [*due, *_earlier(due, beyond)]
    early = {one for one in told.union(map(_cursor, chosen)) if _place(one) > _place(end)}
    new = [row for row in _in_order(chosen) if _cursor(row) not in told]
    held_up = bool(beyond) and not beyond[0]["settled"]
    return Page([_update(row) for row in new], end, held_up, frozenset(early))


def _earlier(due: Sequence[Any], beyond: Sequence[Any]) -> list[Any]:
    """What lies beyond a page and yet was committed before something in it, in the same run.

    The numbers of a run's events are given under the lock of its live row, and so in the order of
    commits; the number of a transaction is given before it waits for that lock.
    """
    last = {row["execution_id"]: row["seq"] for row in sorted(due, key=lambda row: row["seq"])}
    return [row for row in beyond if row["seq"] < last.get(row["execution_id"], 0)]


def _in_order(rows: Sequence[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: row["seq"])


def _cursor(row: Any) -> Cursor:
    return Cursor(int(row["tx"]), row["execution_id"], row["seq"])


def _place(cursor: Cursor) -> tuple[int, UUID, int]:
    return cursor.tx, cursor.execution, cursor.seq


def _update(row: Any) -> Update:
    execution = ExecutionId(row["execution_id"])
    topics = [str(RunTopic(execution))]
    if row["type"] in _IN_USER_TOPIC:
        topics.append(str(UserTopic(UserId(row["user_id"]))))
    # At a hub an id stands for one event of all; ours are unique in their run only. What is behind
    # the last colon is the id that our own stream gives.
    told_id = f"urn:chargehand:{execution}:{row['epoch']}.{row['seq']}"
    return Update(told_id, execution, tuple(topics), row["type"], row["data"])
