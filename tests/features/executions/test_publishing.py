"""Who tells a hub, in which order, and what becomes of it when the hub fails (EXE-10)."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog
from tests.conftest import TestDatabase

from chargehand.executions.live import CHANNEL, POLL_S
from chargehand.executions.publications import PAGE, Update
from chargehand.executions.publishing import AT_ONCE, Delivery, HubTrouble, Publishing
from chargehand.kernel.bells import PostgresWire
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId, new_id

ORGANIZATION = OrganizationId(new_id())
WRITE = """
insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
select $1, n, $2, $2, 1, 'output.delta', '{}', now() from generate_series($3::int, $4::int) as n
"""


class MemoryHub:
    """Takes updates, unless it is told not to; ``refuses`` are answers to come."""

    def __init__(self, refuses: Sequence[str] = ()) -> None:
        self.got = list[str]()
        self.refuses = list(refuses)
        self.asked = 0
        self.in_hand = 0
        self.most_in_hand = 0
        self.runs_in_hand = set[UUID]()
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, update: Update) -> None:
        self.asked += 1
        assert update.execution not in self.runs_in_hand, "one update of a run at a time"
        self.runs_in_hand.add(update.execution)
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
            if self.refuses:
                kind = self.refuses.pop(0)
                raise HubTrouble(kind, f"is {kind}", "wait")
            self.got.append(update.id)
        finally:
            self.in_hand -= 1
            self.runs_in_hand.discard(update.execution)


def updates(runs: int, each: int) -> list[Update]:
    ids = [new_id() for _ in range(runs)]
    return [Update(f"{run}:{seq}", run, (), "", "{}") for seq in range(each) for run in ids]


def by_run(told: Sequence[str]) -> dict[str, list[int]]:
    found = defaultdict[str, list[int]](list)
    for one in told:
        run, _, seq = one.rpartition(":")
        found[run].append(int(seq))
    return dict(found)


def delivery(hub: MemoryHub) -> Delivery:
    return Delivery(hub, first_pause_s=0.01, longest_pause_s=0.02)


async def deliver(hub: MemoryHub, told: Sequence[Update]) -> list[Any]:
    """What was logged meanwhile."""
    with structlog.testing.capture_logs() as logged:
        async with asyncio.timeout(20):
            await delivery(hub).deliver(told)
    return [(line["event"], line.get("reason")) for line in logged]


async def test_runs_are_told_beside_one_another_each_in_order() -> None:
    hub = MemoryHub()
    told = updates(runs=40, each=5)
    assert await deliver(hub, told) == []
    assert by_run(hub.got) == {str(update.execution): list(range(5)) for update in told}
    assert hub.most_in_hand == AT_ONCE


async def test_what_the_hub_does_not_take_is_told_again_in_its_place() -> None:
    hub = MemoryHub(["away", "broken"] * 10)
    told = updates(runs=3, each=20)
    await deliver(hub, told)
    assert by_run(hub.got) == {str(update.execution): list(range(20)) for update in told}


async def test_trouble_is_logged_once_until_it_is_over() -> None:
    hub = MemoryHub(["away"] * 5 + ["broken"] * 3 + ["away"] * 3)
    assert await deliver(hub, updates(runs=1, each=1)) == [
        ("hub_takes_no_updates", "is away"),
        ("hub_takes_no_updates", "is broken"),
        ("hub_takes_updates_again", None),
    ]


async def test_a_hub_that_fails_is_not_asked_by_all_at_once() -> None:
    """After a failure nothing more is begun, and the next round waits."""
    hub = MemoryHub(["away"] * AT_ONCE)
    await deliver(hub, updates(runs=PAGE, each=1))
    assert hub.asked == AT_ONCE + PAGE


async def test_pauses_grow_and_differ_and_end() -> None:
    pauses = Delivery(MemoryHub(), first_pause_s=1, longest_pause_s=8)
    found = list[list[float]]()
    for failures in (1, 2, 3, 10, 100_000):
        pauses._failures = failures
        found.append([pauses._pause_s() for _ in range(200)])
    bounds = [(1, 2), (2, 4), (4, 8), (4, 8), (4, 8)]
    for drawn, (least, most) in zip(found, bounds, strict=True):
        assert least <= min(drawn) < max(drawn) <= most


@contextlib.asynccontextmanager
async def serving(publishing: Publishing) -> AsyncIterator[None]:
    task = asyncio.create_task(publishing.serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def wire(database: Database, clone: TestDatabase) -> PostgresWire:
    return PostgresWire(database.system, clone.urls.system)


async def write(database: Database, run: UUID, first: int, last: int) -> None:
    async with database.hot(ORGANIZATION) as connection:
        await connection.execute(WRITE, run, ORGANIZATION, first, last)


async def position(database: Database) -> tuple[Any, ...] | None:
    row = await database.system.fetchrow("select tx::text, execution_id, seq from publications")
    return None if row is None else tuple(row)


async def until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
            await asyncio.sleep(0.02)


async def begun(database: Database) -> None:
    async def there() -> bool:
        return await position(database) is not None

    await until(there)


async def test_the_position_moves_when_the_hub_has_taken_a_page(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    hub, run = MemoryHub(), new_id()
    async with serving(Publishing("hub", hub, wire, clone.urls.system)):
        await begun(database)
        before = await position(database)
        hub.open.clear()
        await write(database, run, 1, 3)
        await until(lambda: hub.asked == 1)
        assert await position(database) == before
        hub.refuses = ["away"]
        hub.open.set()
        await until(lambda: len(hub.got) == 3)

        async def moved() -> bool:
            return (await position(database) or ())[1:] == (run, 3)

        await until(moved)
    assert hub.got == [f"urn:chargehand:{run}:1.{seq}" for seq in (1, 2, 3)]


async def test_a_ring_is_enough_to_be_told_at_once(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    hub, run = MemoryHub(), new_id()
    async with serving(Publishing("hub", hub, wire, clone.urls.system)):
        await begun(database)
        await wait_for_listener(database)
        started = asyncio.get_running_loop().time()
        for seq in range(1, 11):
            await write(database, run, seq, seq)
            await wire.send(CHANNEL, [run.hex])
            await until(lambda least=seq: len(hub.got) == least)
        assert asyncio.get_running_loop().time() - started < 5 * POLL_S


async def wait_for_listener(database: Database) -> None:
    async def there() -> bool:
        return await database.system.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database() "
            "and query ilike 'listen%' || $1 || '%')",
            CHANNEL,
        )

    await until(there)


async def test_only_one_tells_and_another_takes_over_behind_its_position(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    hubs = [MemoryHub(), MemoryHub()]
    run = new_id()
    told = list[str]()
    async with contextlib.AsyncExitStack() as held:
        for hub in hubs:
            await held.enter_async_context(serving(Publishing("hub", hub, wire, clone.urls.system)))
        await begun(database)
        for turn in range(3):
            first = turn * 2 * PAGE + 1
            await write(database, run, first, first + 2 * PAGE - 1)

            def all_told(expected: int = 2 * PAGE) -> bool:
                return sum(len(hub.got) for hub in hubs) == expected

            await until(all_told)
            # Who had the turn has told it all, and the other one nothing.
            assert sorted(len(hub.got) for hub in hubs) == [0, 2 * PAGE]
            told += hubs[0].got + hubs[1].got
            for hub in hubs:
                hub.got.clear()

            async def moved(last: int = first + 2 * PAGE - 1) -> bool:
                return (await position(database) or ())[2] == last

            await until(moved)
            await end_the_turn(clone)
    assert told == [f"urn:chargehand:{run}:1.{seq}" for seq in range(1, 6 * PAGE + 1)]


async def end_the_turn(clone: TestDatabase) -> None:
    """As PostgreSQL ends the session of a process that is gone."""
    owner = await asyncpg.connect(clone.owner_url)
    try:
        ended = await owner.fetch(
            "select pg_terminate_backend(l.pid) from pg_locks as l join pg_database as d "
            "on d.oid = l.database and d.datname = current_database() "
            "join pg_stat_activity as a on a.pid = l.pid "
            "where l.locktype = 'advisory' and l.granted "
            "and a.application_name like 'chargehand publishing, pid %'"
        )
        assert [row[0] for row in ended] == [True]
    finally:
        await owner.close()


async def test_who_loses_the_session_stops_in_the_middle_of_a_page(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    hub = MemoryHub()
    async with serving(Publishing("hub", hub, wire, clone.urls.system)):
        await begun(database)
        hub.open.clear()
        await write(database, new_id(), 1, 5)
        await until(lambda: hub.in_hand == 1)
        await end_the_turn(clone)
        await until(lambda: hub.in_hand == 0)
        hub.open.set()
        await until(lambda: len(hub.got) == 5)
        assert hub.asked == 6


async def test_after_an_interruption_only_the_stored_position_counts(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    """A crash of PostgreSQL takes it back together with text; here it is taken back by hand."""
    hub, run = MemoryHub(), new_id()
    async with serving(Publishing("hub", hub, wire, clone.urls.system)):
        await begun(database)
        before = await position(database)
        assert before is not None
        await write(database, run, 1, 3)

        async def moved() -> bool:
            return (await position(database) or ())[1:] == (run, 3)

        await until(moved)
        await database.system.execute(
            "update publications set tx = $1::text::xid8, execution_id = $2, seq = $3", *before
        )
        await end_the_turn(clone)
        await until(lambda: len(hub.got) == 6)
    assert hub.got == [f"urn:chargehand:{run}:1.{seq}" for seq in (1, 2, 3)] * 2


async def test_a_turn_is_kept_however_long_the_hub_is_silent(
    database: Database, clone: TestDatabase, wire: PostgresWire
) -> None:
    """The session shows signs of life while an update is on its way."""
    hub = MemoryHub()
    async with serving(Publishing("hub", hub, wire, clone.urls.system)):
        await begun(database)
        hub.open.clear()
        await write(database, new_id(), 1, 1)
        await until(lambda: hub.in_hand == 1)
        owner = await asyncpg.connect(clone.owner_url)

        async def signs_of_life() -> Any:
            return await owner.fetchval(
                "select query_start from pg_stat_activity where query = 'select 1' "
                "and application_name like 'chargehand publishing%' "
                "and datname = current_database()"
            )

        try:
            await until(signs_of_life)
        finally:
            await owner.close()
        assert hub.asked == 1
