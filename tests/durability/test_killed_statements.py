"""The effect journal (EXE-4): a worker killed between every two statements of a run.

What had its effect is counted in a file outside the database, as a receiver would count it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.fleet import Fleet, fleet_on, is_there, nursery_of

from chargehand.agents.installed import NO_OPTIONS, Capability
from chargehand.kernel.database import Database

PROBE = {"probe": Capability("probe", "Appends lines to a file.", NO_OPTIONS)}
SCRIPT = """
@call write {"line": "a"}
@call send {"line": "b"}
@call order {"line": "c"}
@then
@say Done.
"""
PLACES = 60
"""More than a run has; the last workers end what they take."""
AT_ONCE = 10


@pytest.fixture
def fleet(clone: TestDatabase, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_on(
        clone,
        tmp_path,
        CHARGEHAND_LEASE_S="1",
        CHARGEHAND_CONCURRENCY="2",
        CHARGEHAND_MAX_LOSSES="50",
        CHARGEHAND_POOL_SIZE="2",
    ) as started:
        yield started


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, capabilities=PROBE, tier="wide"
    ) as running:
        yield running


async def rows(service: Service, query: str, *values: Any) -> list[Any]:
    async with service.database.hot(service.caller.organization_id) as connection:
        return await connection.fetch(query, *values)


async def test_a_worker_killed_between_every_two_statements(service: Service, fleet: Fleet) -> None:
    agent = await service.agent(capabilities={"probe": {}}, limits={"wall_time_s": 300})
    runs = list[str]()
    killed = 0
    with nursery_of(fleet) as bear:
        # Places depend on which run a worker is at; these do not.
        for tool in ("write", "send", "order"):
            runs.append(await start(service, agent))
            assert await ended(service, [bear(PROBE_KILL_IN=tool)]) == 1
        for first in range(1, PLACES, AT_ONCE):
            places = range(first, first + AT_ONCE)
            for _ in places:
                runs.append(await start(service, agent))
            workers = [bear(PROBE_KILL_AT=str(place)) for place in places]
            killed += await ended(service, workers)
        bear()
        asked = await decide_until_done(service)
    assert killed >= 30, "it was to be killed at every place"
    done = [await service.get(f"/executions/{run}") for run in runs]
    assert {run["status"] for run in done} == {"completed"}
    lines = fleet.probe()
    # The receiver of an idempotent call tells a second one by its key.
    written = Counter(
        line["execution"]
        for line in {line["key"]: line for line in lines if line["tool"] == "write"}.values()
    )
    assert written == dict.fromkeys(runs, 1)
    for tool in ("send", "order"):
        made = Counter(line["key"] for line in lines if line["tool"] == tool)
        assert set(made.values()) == {1}, f"{tool} was repeated by itself"
    assert asked, "nobody was asked about an order that was cut short"
    unknown = await rows(service, "select tool_name from effects where state = 'unknown'")
    assert {row["tool_name"] for row in unknown} == {"send", "order"}
    steps = await rows(
        service, "select execution_id::text, count(*) from steps group by execution_id"
    )
    assert dict(map(tuple, steps)) == dict.fromkeys(runs, 5)
    assert await rows(service, "select * from live_executions") == []
    assert (await rows(service, "select active from slots"))[0]["active"] == 0


async def start(service: Service, agent: str) -> str:
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": SCRIPT, "mode": "async"}
    )
    return answer.json()["id"]


async def ended(service: Service, workers: list[int]) -> int:
    """Wait until these workers are dead, or nothing is left for them; returns how many died."""
    async with asyncio.timeout(60):
        while any(map(is_there, workers)):
            live = await rows(
                service, "select from live_executions where status in ('pending', 'running')"
            )
            if not live:
                break
            await asyncio.sleep(0.1)
    return sum(not is_there(worker) for worker in workers)


async def decide_until_done(service: Service) -> int:
    """Say no to every order whose outcome nobody knows, until all runs have ended."""
    asked = set[str]()
    async with asyncio.timeout(90):
        while live := await rows(
            service, "select execution_id::text as id, status, wait_seq, wait from live_executions"
        ):
            for row in live:
                if row["status"] == "awaiting_input":
                    assert row["wait"]["reason"] == "interrupted"
                    asked.add(row["id"])
                    await service.client.post(
                        f"/api/v1/executions/{row['id']}/deny", json={"wait": row["wait_seq"]}
                    )
            await asyncio.sleep(0.1)
    return len(asked)
