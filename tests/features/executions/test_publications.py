"""What a hub is told, in which order, and from where on (EXE-10)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import TestDatabase

from chargehand.executions import publications
from chargehand.executions.event_types import EVENT_TYPES
from chargehand.executions.publications import AHEAD, PAGE, Page, page_of
from chargehand.executions.user_topics import Cursor
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId, new_id

START = Cursor(0, UUID(int=0), 0)
NOTHING = frozenset[Cursor]()
USER = new_id()

WRITE = """
insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
values ($1, $2, $3, $4, 1, $5, '{"n": 1}', now())
"""


class Writer:
    """A transaction of one organization, as a run's would be."""

    def __init__(self, connection: Any, organization: OrganizationId) -> None:
        self._connection = connection
        self._organization = organization

    async def take_number(self) -> None:
        await self._connection.fetchval("select pg_current_xact_id()")

    async def write(self, run: UUID, seq: int, kind: str = "output.delta") -> None:
        await self._connection.execute(WRITE, run, seq, self._organization, USER, kind)

    async def write_as(self, tx: str, run: UUID) -> None:
        await self._connection.execute(
            WRITE.replace("at)", "at, tx)").replace("now())", "now(), $6::text::xid8)"),
            *(run, 1, self._organization, USER, "done", tx),
        )


@asynccontextmanager
async def transaction(
    database: Database, of: OrganizationId | None = None
) -> AsyncIterator[Writer]:
    organization = of or OrganizationId(new_id())
    async with database.hot(organization) as connection:
        yield Writer(connection, organization)


@pytest.fixture
async def system(clone: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(clone.urls.system)
    yield connection
    await connection.close()


async def read(system: asyncpg.Connection, after: Cursor = START) -> Page:
    """The page, once nothing holds it up: transactions of other tests do, in other databases."""
    await settled(system)
    return await publications.read(system, after, NOTHING)


async def settled(system: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while await system.fetchval(
            "select exists (select from events where tx >= pg_snapshot_xmin(pg_current_snapshot()))"
        ):
            await asyncio.sleep(0.02)


def numbers(page: Page) -> list[int]:
    return [int(update.id.rpartition(".")[2]) for update in page.updates]


async def test_each_event_goes_to_its_run_and_to_its_user_where_it_belongs(
    database: Database, system: asyncpg.Connection
) -> None:
    run = new_id()
    async with transaction(database) as writer:
        for seq, event in enumerate(EVENT_TYPES, 1):
            await writer.write(run, seq, event.name)
    page = await read(system)
    told = {update.type: update for update in page.updates}
    # Whoever holds a subscription token is not told the log.
    assert told.keys() == {event.name for event in EVENT_TYPES} - {"log"}
    both = (f"agent/{run}", f"user/{USER}/agents")
    for event in EVENT_TYPES:
        if event.name != "log":
            assert told[event.name].topics == (both if event.in_user_topic else both[:1])
    assert told["status.changed"].id == f"urn:chargehand:{run}:1.1"
    assert told["status.changed"].data == f'{{"n": 1, "execution_id": "{run}"}}'


async def test_all_organizations_are_told_of_and_their_logs_are_out_of_reach(
    database: Database, system: asyncpg.Connection
) -> None:
    for _ in range(2):
        async with transaction(database) as writer:
            await writer.write(new_id(), 1)
            await writer.write(new_id(), 1, "log")
    assert len((await read(system)).updates) == 2
    assert await system.fetchval("select count(*) from events where type = 'log'") == 0
    for column in ("organization_id", "at"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await system.fetchval(f"select {column} from events")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await system.execute("update events set type = 'log'")


async def test_who_commits_late_is_not_passed_over(
    database: Database, system: asyncpg.Connection
) -> None:
    late, early = new_id(), new_id()
    async with transaction(database) as slow:
        await slow.take_number()
        async with transaction(database) as quick:
            await quick.write(early, 2)
        held = await publications.read(system, START, NOTHING)
        assert (held.updates, held.end, held.held_up) == ([], START, True)
        await slow.write(late, 1)
    page = await read(system)
    assert (sorted(numbers(page)), page.held_up) == ([1, 2], False)
    assert not (await read(system, page.end)).updates


async def test_transactions_are_numbers(database: Database, system: asyncpg.Connection) -> None:
    """The tenth comes behind the ninth, in the order and behind a position."""
    runs = [new_id() for _ in range(3)]
    async with transaction(database) as writer:
        for run, tx in zip(runs, ("9", "10", "100"), strict=True):
            await writer.write_as(tx, run)
    rows = await system.fetch(publications._READ, "0", UUID(int=0), 0, 10)
    assert [row["tx"] for row in rows] == ["9", "10", "100"]
    assert (await read(system, Cursor(9, runs[0], 1))).end == Cursor(100, runs[2], 1)


async def test_a_run_is_told_in_the_order_of_its_commits_not_of_its_transactions(
    database: Database, system: asyncpg.Connection
) -> None:
    """Who waits for the run's row has the number of its transaction already."""
    run = new_id()
    async with transaction(database) as second:
        await second.take_number()
        async with transaction(database, second._organization) as first:
            await first.write(run, 1)
        await second.write(run, 2)
    assert numbers(await read(system)) == [1, 2]


def row(tx: int, run: UUID, seq: int, *, settled: bool = True) -> dict[str, Any]:
    what = {"user_id": USER, "epoch": 1, "type": "output.delta", "data": "{}"}
    return {"tx": str(tx), "execution_id": run, "seq": seq, "settled": settled, **what}


def test_what_was_committed_before_comes_first_though_it_lies_beyond_the_page() -> None:
    run, other = new_id(), new_id()
    fillers = [row(10 + n, other, n + 1) for n in range(PAGE - 1)]
    rows = [*fillers, row(500, run, 7), row(501, run, 6), row(502, run, 8)]
    page = page_of(rows, START, NOTHING)
    assert page.end == Cursor(500, run, 7)
    assert [
        n for n, update in zip(numbers(page), page.updates, strict=True) if update.execution == run
    ] == [6, 7]
    # What was told early is passed over when its turn comes, and forgotten behind it.
    following = page_of(rows[PAGE:], page.end, page.early)
    assert (numbers(following), following.end.tx, following.early) == ([8], 502, NOTHING)


def test_what_was_committed_before_comes_first_though_another_transaction_holds_it_up() -> None:
    run = new_id()
    rows = [row(10, run, 7), row(12, run, 6, settled=False), row(13, run, 8, settled=False)]
    page = page_of(rows, START, NOTHING)
    assert (numbers(page), page.end.tx, page.held_up) == ([6, 7], 10, True)
    # While the other transaction goes on, nothing is told twice.
    waiting = page_of(rows[1:], page.end, page.early)
    assert (numbers(waiting), waiting.end, waiting.held_up) == ([], page.end, True)
    assert waiting.early == page.early


async def test_pages_follow_one_another_without_a_gap(
    database: Database, system: asyncpg.Connection
) -> None:
    runs = [new_id() for _ in range(3)]
    events = PAGE + AHEAD
    for seq in range(1, events + 1):
        async with transaction(database) as writer:
            for run in runs:
                await writer.write(run, seq)
    told = dict[UUID, list[int]]()
    await settled(system)
    after, early = START, NOTHING
    while (page := await publications.read(system, after, early)).updates:
        for update, seq in zip(page.updates, numbers(page), strict=True):
            told.setdefault(update.execution, []).append(seq)
        after, early = page.end, page.early
    assert told == {run: list(range(1, events + 1)) for run in runs}


async def test_it_begins_with_what_is_not_settled_and_goes_on_where_it_was(
    database: Database, system: asyncpg.Connection
) -> None:
    assert await publications.find_position(system, "hub") is None
    async with transaction(database) as writer:
        await writer.write(new_id(), 1)
    await settled(system)
    async with transaction(database) as pending:
        await pending.take_number()
        async with transaction(database) as writer:
            await writer.write(new_id(), 2)
        begun = await publications.begin(system, "hub")
        await pending.write(new_id(), 3)
    assert await publications.find_position(system, "hub") == begun
    page = await read(system, begun)
    assert sorted(numbers(page)) == [2, 3]
    await publications.move(system, "hub", page.end)
    assert await publications.find_position(system, "hub") == page.end


async def test_a_position_of_another_cluster_is_none(
    clone: TestDatabase, system: asyncpg.Connection
) -> None:
    begun = await publications.begin(system, "hub")
    await system.execute("update publications set tx = '99999999999'")
    assert await publications.find_position(system, "hub") is None
    assert (await publications.begin(system, "hub")).tx >= begun.tx
    assert await publications.find_position(system, "hub") is not None


async def test_the_application_role_does_not_reach_positions(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.app.fetch("select * from publications")
