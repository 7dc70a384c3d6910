"""What a Mercure hub has been told when everything around it was killed (EXE-10).

The hub is a process of its own, which writes down what it took. That is held against the rows of
``events``: each is there, in the order of its run, as it was stored.
"""

import asyncio
import os
import re
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.fleet import Fleet, fleet_on
from tests.factories.mercure import SECRET, Got, RunningHub, running_hub

from chargehand.adapters import embedded_postgres
from chargehand.adapters.embedded_postgres import EmbeddedPostgres
from chargehand.executions.publications import PAGE
from chargehand.executions.publishing import AT_ONCE
from chargehand.kernel import schema
from chargehand.kernel.database import TROUBLES, Database, connect

WORDS = " ".join(f"word{number}" for number in range(40))
SCRIPT = f"""
@call todo_write {{"todos": [{{"content": "look", "status": "pending"}}]}}
@then
@pace 20ms
@say First I look around, and say so in pieces.
@call todo_write {{"todos": []}}
@then
@pace 40ms
@say {WORDS}
"""
RUNS = 6

STORED = """
select execution_id::text as run, seq, epoch, type, data, user_id::text as user from events
 where type <> 'log' order by execution_id, seq
"""
WHOSE_TURN = """
select application_name from pg_stat_activity as a join pg_locks as l on l.pid = a.pid
 where l.locktype = 'advisory' and l.granted and datname = current_database()
   and application_name like 'chargehand publishing, pid %'
"""
RUN_ONLY = {"output.delta", "output.reset"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
def fleet(clone: TestDatabase, tmp_path: Path, hub: RunningHub) -> Iterator[Fleet]:
    with fleet_on(clone, tmp_path, CHARGEHAND_MAX_LOSSES="50", **hub.settings()) as started:
        yield started


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    """The API alone; the work is done by the fleet's processes."""
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, tier="wide"
    ) as running:
        yield running


async def agent_of(service: Service) -> str:
    return await service.agent(capabilities={"todo": {}})


async def start(service: Service, agent: str, script: str = SCRIPT) -> str:
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": script, "mode": "async"}
    )
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["id"]


async def stored(url: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(STORED)
    finally:
        await connection.close()


async def turn_of(url: str) -> int | None:
    """The process whose turn it is to publish."""
    connection = await asyncpg.connect(url)
    try:
        names = [row[0] for row in await connection.fetch(WHOSE_TURN)]
    finally:
        await connection.close()
    assert len(names) <= 1
    return int(names[0].rpartition(" ")[2]) if names else None


async def next_turn(url: str, not_of: Sequence[int] = (), timeout_s: float = 20) -> int:
    async with asyncio.timeout(timeout_s):
        while (pid := await turn_of(url)) is None or pid in not_of:
            await asyncio.sleep(0.05)
    return pid


async def begun(url: str) -> None:
    """Wait until it is known from where on the hub is told."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while not await connection.fetchval("select count(*) from publications"):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.1)


def first_times(told: Sequence[Got]) -> dict[str, list[Got]]:
    """What each run's follower hears who passes over ids that it has heard already."""
    found, heard = defaultdict[str, list[Got]](list), set[str]()
    for one in told:
        if one.id not in heard:
            heard.add(one.id)
            found[one.run].append(one)
    return dict(found)


def as_told(rows: Sequence[Any]) -> dict[str, list[Got]]:
    """What a hub should have been told of these rows."""
    found = defaultdict[str, list[Got]](list)
    for row in rows:
        run = row["run"]
        topics = (f"agent/{run}", f"user/{row['user']}/agents")
        data = {**orjson.loads(row["data"]), "execution_id": run}
        found[run].append(
            Got(
                f"urn:chargehand:{run}:{row['epoch']}.{row['seq']}",
                row["type"],
                topics[:1] if row["type"] in RUN_ONLY else topics,
                data,
            )
        )
    return dict(found)


async def all_told(url: str, hub: RunningHub, runs: Sequence[str], timeout_s: float = 60) -> None:
    """Wait until every run has ended and the hub has all that is stored of it."""

    async def there() -> bool:
        heard = {one.id for one in hub.got()}
        rows = await stored(url)
        ended = {row["run"] for row in rows if row["type"] == "done"}
        ids = {f"urn:chargehand:{row['run']}:{row['epoch']}.{row['seq']}" for row in rows}
        return ended == set(runs) and ids <= heard

    await until(there, timeout_s)


async def test_a_hub_that_is_well_is_told_everything_once(
    service: Service, fleet: Fleet, hub: RunningHub, clone: TestDatabase
) -> None:
    for _ in range(2):
        fleet.start()
    await begun(clone.owner_url)
    agent = await agent_of(service)
    runs = [await start(service, agent) for _ in range(RUNS)]
    await all_told(clone.owner_url, hub, runs)
    told = hub.got()
    assert len(told) == len({one.id for one in told}), "somebody else publishes too"
    assert first_times(told) == as_told(await stored(clone.owner_url))
    types = {one.type for one in told}
    assert {"output.delta", "status.changed", "done"} < types
    assert "log" not in types
    assert max(request["in_hand"] for request in hub.requests()) <= AT_ONCE
    assert SECRET not in fleet.log()
    assert "eyJ" not in fleet.log(), "a token"


async def test_who_publishes_is_killed_again_and_again(
    service: Service, fleet: Fleet, hub: RunningHub, clone: TestDatabase
) -> None:
    hub.feel("delay 0.03")
    for _ in range(3):
        fleet.start()
    await begun(clone.owner_url)
    agent = await agent_of(service)
    runs = [await start(service, agent) for _ in range(RUNS)]
    kills = 0
    while kills < 4:
        pid = await next_turn(clone.owner_url)
        before = len(hub.requests())
        await until(lambda least=before + 20: told_so_many(hub, least), 20)
        fleet.signal(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        kills += 1
        fleet.spawn()
        await next_turn(clone.owner_url, [pid])
        assert time.monotonic() - killed_at < 5, "another takes over within a few seconds"
    await all_told(clone.owner_url, hub, runs)
    assert first_times(hub.got()) == as_told(await stored(clone.owner_url))
    doubles = len(hub.got()) - len({one.id for one in hub.got()})
    assert doubles <= kills * PAGE, "only the page in hand is told again"


async def told_so_many(hub: RunningHub, least: int) -> bool:
    return len(hub.requests()) >= least


async def test_who_publishes_stands_still_and_another_takes_over(
    service: Service, fleet: Fleet, hub: RunningHub, clone: TestDatabase
) -> None:
    """Its connection stays open: PostgreSQL ends the session for its silence."""
    for _ in range(2):
        fleet.start()
    await begun(clone.owner_url)
    frozen = await next_turn(clone.owner_url)
    fleet.signal(frozen, signal.SIGSTOP)
    try:
        agent = await agent_of(service)
        runs = [await start(service, agent, "@say Hello there.")]
        assert await next_turn(clone.owner_url, [frozen], 40) != frozen
        await all_told(clone.owner_url, hub, runs)
    finally:
        fleet.signal(frozen, signal.SIGCONT)
    runs.append(await start(service, agent, "@say Hello again."))
    await all_told(clone.owner_url, hub, runs)
    assert first_times(hub.got()) == as_told(await stored(clone.owner_url))


def noted(fleet: Fleet, event: str) -> list[dict[str, Any]]:
    lines = [orjson.loads(line) for line in fleet.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [("stopped", "MERCURE_URL"), ("503", "hub's log"), ("401", "MERCURE_JWT_SECRET")],
)
async def test_a_hub_that_fails_for_a_while_misses_nothing_and_holds_no_run_up(
    service: Service,
    fleet: Fleet,
    hub: RunningHub,
    clone: TestDatabase,
    trouble: str,
    told: str,
) -> None:
    fleet.start()
    await begun(clone.owner_url)
    agent = await agent_of(service)
    first = await start(service, agent)
    await until(lambda: told_so_many(hub, 10), 20)
    if trouble == "stopped":
        hub.stop()
    else:
        hub.feel(trouble)
    others = [await start(service, agent, "@say Hello.") for _ in range(3)]
    for run in (first, *others):
        assert (await service.until(run, "completed"))["status"] == "completed"
    await until(lambda: troubled(fleet), 20)
    if trouble != "stopped":
        await until(lambda: refused_so_many(hub, trouble, 4), 20)
    assert not {one.run for one in hub.got()} & set(others)
    if trouble == "stopped":
        hub.start()
    hub.feel("")
    await all_told(clone.owner_url, hub, [first, *others])
    assert first_times(hub.got()) == as_told(await stored(clone.owner_url))
    (line,) = noted(fleet, "hub_takes_no_updates")
    assert told in line["remedy"]
    await until(lambda: well_again(fleet), 20)
    assert len(noted(fleet, "hub_takes_updates_again")) == 1
    assert SECRET not in fleet.log()
    assert not re.search(r"eyJ[\w-]+\.", fleet.log()), "a token"


async def refused_so_many(hub: RunningHub, status: str, least: int) -> bool:
    return sum(request["status"] == int(status) for request in hub.requests()) >= least


async def troubled(fleet: Fleet) -> bool:
    return bool(noted(fleet, "hub_takes_no_updates"))


async def well_again(fleet: Fleet) -> bool:
    return bool(noted(fleet, "hub_takes_updates_again"))


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="chargehand-tests-"))
    # As root the server runs as another user, which must be able to reach its cluster.
    folder.chmod(0o711)
    # What is not waited for stays long unwritten: a crash is to lose it.
    with embedded_postgres.start(folder, settings={"wal_writer_delay": "10s"}) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


async def test_postgresql_is_killed_and_what_it_keeps_is_told(
    server: EmbeddedPostgres, tmp_path: Path, hub: RunningHub
) -> None:
    """Its transactions' numbers go back with the text that it loses, and the position with them."""
    urls = schema.runtime_urls(server.dsn)
    await schema.migrate(server.dsn, urls)
    database: Database = await connect(urls.app, urls.system, pool_size=2)
    given = TestDatabase(server.dsn, urls)
    with fleet_on(given, tmp_path, CHARGEHAND_MAX_LOSSES="50", **hub.settings()) as fleet:
        async with running_service(database, urls.system, tmp_path, work=False) as service:
            fleet.start()
            await begun(server.dsn)
            agent = await agent_of(service)
            runs = [await start(service, agent) for _ in range(3)]
            for _ in range(3):
                before = len(hub.requests())
                await until(lambda least=before + 15: told_so_many(hub, least), 30)
                os.kill(server.pid, signal.SIGKILL)
                await until(lambda: answers(server.dsn), 30)
            await all_told(server.dsn, hub, runs, 90)
            kept = as_told(await stored(server.dsn))
            ids = {one.id for run in kept.values() for one in run}
            assert first_times([one for one in hub.got() if one.id in ids]) == kept
    await database.close()


async def answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except TROUBLES:
        return False
    await connection.close()
    return True
