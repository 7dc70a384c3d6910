"""Real workers killed and stopped, between steps and inside them (EXE-4, EXE-5, EXE-14).

What happened is judged from three sides: our rows, the model's own log of calls, and a file that
the tools append to outside the database.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.fleet import Fleet, fleet_on, pid_of

from chargehand.agents.installed import NO_OPTIONS, Capability
from chargehand.kernel.database import Database

PROBE = {"probe": Capability("probe", "Appends lines to a file.", NO_OPTIONS)}
RUNS = 30
FOUR_STEPS = """
@delay 500ms
@call write {"line": "a", "pause_s": 0.1}
@call send {"line": "b", "pause_s": 0.1}
@then
@delay 500ms
@say Done.
"""


@pytest.fixture
def fleet(clone: TestDatabase, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_on(
        clone, tmp_path, CHARGEHAND_CONCURRENCY="10", CHARGEHAND_MAX_LOSSES="50"
    ) as started:
        yield started


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    """The API alone; the work is done by the fleet's processes."""
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, capabilities=PROBE, tier="wide"
    ) as running:
        yield running


async def rows(service: Service, query: str, *arguments: Any) -> list[Any]:
    async with service.database.hot(service.caller.organization_id) as connection:
        return await connection.fetch(query, *arguments)


async def start(service: Service, agent: str, script: str, timeout_s: float = 10) -> str:
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": script, "mode": "async"}
    )
    # 200: it has ended before the answer was made.
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["id"]


async def probing_agent(service: Service) -> str:
    return await service.agent(capabilities={"probe": {}}, limits={"wall_time_s": 300})


async def owner_of(service: Service, execution: str) -> int:
    """Wait until the run has an owner; returns the owner's pid."""
    query = "select owner from live_executions where execution_id = $1 and owner is not null"
    async with asyncio.timeout(15):
        while not (found := await rows(service, query, execution)):
            await asyncio.sleep(0.01)
    return pid_of(found[0]["owner"])


async def test_thirty_runs_survive_a_kill_each_second(service: Service, fleet: Fleet) -> None:
    agent = await probing_agent(service)
    for _ in range(3):
        fleet.start()
    runs = [await start(service, agent, FOUR_STEPS) for _ in range(RUNS)]
    kills = await kill_owners_until_done(service, fleet)
    assert kills >= 3, "the runs ended before anything was tested"

    ended = await rows(service, "select id, status from executions")
    assert Counter(row["status"] for row in ended) == {"completed": RUNS}
    assert {str(row["id"]) for row in ended} == set(runs)
    assert await rows(service, "select * from live_executions") == []
    assert (await rows(service, "select active from slots"))[0]["active"] == 0
    steps = await rows(service, "select * from steps order by execution_id, seq")
    per_run = Counter(str(step["execution_id"]) for step in steps)
    assert per_run == dict.fromkeys(runs, 4)
    await assert_claims_do_not_overlap(service)
    assert_no_completed_model_step_was_repeated(steps, fleet)
    await assert_tools_ran_within_their_claims(service, steps, fleet)


async def kill_owners_until_done(service: Service, fleet: Fleet) -> int:
    """Each second kill -9 the owner of a random run and start another worker."""
    kills, deadline = 0, time.monotonic() + 120
    while live := await rows(service, "select owner from live_executions"):
        assert time.monotonic() < deadline, fleet.log()[-3000:]
        owners = [pid_of(row["owner"]) for row in live if row["owner"]]
        alive = [pid for pid in owners if pid in fleet.workers]
        if alive:
            fleet.signal(random.choice(alive), signal.SIGKILL)
            kills += 1
            fleet.spawn()
        await asyncio.sleep(1)
    return kills


async def assert_claims_do_not_overlap(service: Service) -> None:
    claims = await rows(service, "select * from claims order by execution_id, epoch, at")
    periods = defaultdict[Any, list[tuple[Any, Any]]](list)
    by_epoch = {(c["execution_id"], c["epoch"], c["event"]): c["at"] for c in claims}
    for (execution, epoch, event), at in by_epoch.items():
        if event == "claimed":
            ends = [by_epoch.get((execution, epoch, e)) for e in ("released", "lost", "ended")]
            (end,) = [end for end in ends if end is not None]
            periods[execution].append((at, end))
    assert len(periods) == RUNS
    for claimed in periods.values():
        for (_, end), (following, _) in pairwise(claimed):
            assert end <= following


def assert_no_completed_model_step_was_repeated(steps: list[Any], fleet: Fleet) -> None:
    """A call's id is ``run/epoch.step.attempt``: none is of a later epoch than the step's own."""
    completed = {(str(s["execution_id"]), s["seq"]): s["epoch"] for s in steps}
    started = [call["call_id"] for call in fleet.calls() if call["event"] == "started"]
    assert len(started) == len(set(started)) >= 2 * RUNS
    for call_id in started:
        execution, _, rest = call_id.partition("/")
        epoch, step, _ = map(int, rest.split("."))
        assert epoch <= completed[execution, step]


async def assert_tools_ran_within_their_claims(
    service: Service, steps: list[Any], fleet: Fleet
) -> None:
    lines = fleet.probe()
    sent = Counter(line["key"] for line in lines if line["tool"] == "send")
    assert set(sent.values()) == {1}, "a call that must not be repeated was repeated"
    written = Counter(line["key"] for line in lines if line["tool"] == "write")
    assert len(written) == RUNS
    completed = {(str(s["execution_id"]), s["tool_name"]): s["completed_at"] for s in steps}
    claims = await rows(service, "select * from claims")
    periods = {
        (c["execution_id"], c["epoch"], c["event"] == "claimed"): (c["worker"], c["at"])
        for c in claims
    }
    for line in lines:
        assert line["at"] <= completed[line["execution"], line["tool"]].timestamp()
        assert any(
            pid_of(worker) == line["pid"]
            and at.timestamp() <= line["at"] <= periods[run, epoch, False][1].timestamp()
            for (run, epoch, begins), (worker, at) in periods.items()
            if begins and str(run) == line["execution"]
        ), "a tool ran outside every claim of its process"


async def test_a_worker_stopped_between_answer_and_journal_is_refused(
    service: Service, fleet: Fleet, tmp_path: Path
) -> None:
    agent = await probing_agent(service)
    frozen = fleet.start(PROBE_FREEZE=str(tmp_path / "frozen"))
    execution = await start(service, agent, FOUR_STEPS)
    await until(lambda: (tmp_path / "frozen").exists() and is_stopped(frozen))
    fleet.start()
    done = await service.until(execution, "completed", "failed")
    before = await rows(service, "select * from steps order by seq")
    fleet.signal(frozen, signal.SIGCONT)
    await until(lambda: '"lease_lost"' in fleet.log())
    assert done["status"] == "completed"
    assert await rows(service, "select * from steps order by seq") == before
    assert [step["epoch"] for step in before] == [2, 2, 2, 2]


async def test_a_worker_stopped_inside_a_transaction_is_refused(
    service: Service, fleet: Fleet, clone: TestDatabase
) -> None:
    """Its journal waits for a lock of ours; we stop it there, then let PostgreSQL go on.

    The statement then runs, and the transaction stays open, holding the live row, for a client
    that does not come back to commit: PostgreSQL ends it after the lease's time.
    """
    import asyncpg

    agent = await probing_agent(service)
    stopped = fleet.start()
    # A first run, so that the statement is prepared and has only to be executed.
    await service.until(await start(service, agent, "@say Warm."), "completed")
    owner, observer = [await asyncpg.connect(clone.owner_url) for _ in range(2)]
    try:
        execution = await start(service, agent, FOUR_STEPS)
        await owner_of(service, execution)
        lock = owner.transaction()
        await lock.start()
        await owner.execute("lock table steps in access exclusive mode")
        await until_rows(observer, "wait_event_type = 'Lock'")
        fleet.signal(stopped, signal.SIGSTOP)
        await lock.commit()
        await until_rows(observer, "state = 'idle in transaction'")
        fleet.start()
        done = await service.until(execution, "completed", "failed")
        mine = "select * from steps where execution_id = $1 order by seq"
        before = await rows(service, mine, execution)
        fleet.signal(stopped, signal.SIGCONT)
        await until(lambda: "database_lost" in fleet.log() or "lease_lost" in fleet.log())
    finally:
        await owner.close()
        await observer.close()
    assert done["status"] == "completed"
    assert await rows(service, mine, execution) == before
    assert {step["epoch"] for step in before} == {2}


async def test_the_real_lease_recovers_within_fifteen_seconds(
    service: Service, fleet: Fleet
) -> None:
    agent = await probing_agent(service)
    first = fleet.start(CHARGEHAND_LEASE_S="10")
    fleet.start(CHARGEHAND_LEASE_S="10", CHARGEHAND_LOG_LEVEL="debug")
    execution = await start(service, agent, "@delay 4s\n@say Done.")
    owner = await owner_of(service, execution)
    fleet.signal(owner, signal.SIGKILL)
    killed_at = time.monotonic()
    async with asyncio.timeout(20):
        while (await owner_of(service, execution)) == owner:
            await asyncio.sleep(0.05)
    assert time.monotonic() - killed_at <= 15
    assert (await service.until(execution, "completed"))["output"] == "Done."
    assert first in (owner, *fleet.workers)


async def test_a_drained_worker_hands_its_runs_over_without_a_gap(
    service: Service, fleet: Fleet
) -> None:
    agent = await probing_agent(service)
    fleet.start()
    fleet.start()
    execution = await start(service, agent, FOUR_STEPS)
    owner = await owner_of(service, execution)
    fleet.signal(owner, signal.SIGTERM)
    assert await asyncio.to_thread(fleet.wait, owner) == 0
    done = await service.until(execution, "completed")
    claims = await rows(service, "select event from claims order by epoch, at")
    assert done["output"] == "Done."
    assert [claim["event"] for claim in claims] == ["claimed", "released", "claimed", "ended"]
    assert Counter(line["key"] for line in fleet.probe()).most_common(1)[0][1] == 1


async def kill_inside_the_tool(service: Service, fleet: Fleet, script: str) -> dict[str, Any]:
    """Kill the owner after its tool has written its line and before the result is recorded."""
    agent = await probing_agent(service)
    fleet.start()
    fleet.start()
    execution = await start(service, agent, script)
    await until(lambda: fleet.probe())
    fleet.signal(fleet.probe()[0]["pid"], signal.SIGKILL)
    return await service.until(execution, "completed", "failed")


async def test_a_call_that_must_not_be_repeated_has_an_unknown_outcome(
    service: Service, fleet: Fleet
) -> None:
    script = '@call send {"line": "once", "pause_s": 5}\n@then\n@quote 1'
    done = await kill_inside_the_tool(service, fleet, script)
    assert done["status"] == "completed"
    assert "not known whether" in done["output"]
    assert [line["line"] for line in fleet.probe()] == ["once"]
    (effect,) = await rows(service, "select * from effects")
    assert (effect["state"], str(effect["idempotency_key"])) == ("unknown", fleet.probe()[0]["key"])
    steps = await rows(service, "select * from steps order by seq")
    assert steps[1]["error"]["outcome"] == "interrupted"


async def test_an_idempotent_call_is_repeated_with_the_same_key(
    service: Service, fleet: Fleet
) -> None:
    script = '@call write {"line": "twice", "pause_s": 2}\n@then\n@quote 1'
    done = await kill_inside_the_tool(service, fleet, script)
    assert done["status"] == "completed"
    lines = fleet.probe()
    assert [line["line"] for line in lines] == ["twice", "twice"]
    assert len({line["key"] for line in lines}) == 1
    assert len({line["pid"] for line in lines}) == 2
    (effect,) = await rows(service, "select * from effects")
    assert (effect["state"], effect["epoch"]) == ("done", 2)


async def test_a_killed_stream_is_reset_and_told_again(service: Service, fleet: Fleet) -> None:
    agent = await probing_agent(service)
    fleet.start()
    fleet.start()
    text = " ".join(f"word{n}" for n in range(20))
    execution = await start(service, agent, f"@pace 100ms\n@say {text}")
    query = "select count(*) as n from events where type = 'output.delta'"
    async with asyncio.timeout(20):
        while (await rows(service, query))[0]["n"] < 3:
            await asyncio.sleep(0.02)
    fleet.signal(await owner_of(service, execution), signal.SIGKILL)
    done = await service.until(execution, "completed")
    events = await service.events(execution)
    kinds = [event[1] for event in events]
    assert done["output"] == text
    assert kinds.count("output.reset") == 1
    after = events[kinds.index("output.reset") :]
    assert "".join(e[2]["text"] for e in after if e[1] == "output.delta") == text
    assert [int(e[0].split(".")[1]) for e in events] == list(range(1, len(events) + 1))


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def until_rows(connection: Any, state: str) -> None:
    """Wait until a journal's statement is in this state, by PostgreSQL's own account."""
    query = (
        f"select pid from pg_stat_activity where {state} and pid <> pg_backend_pid() "
        "and query like '%set last_step = %'"
    )
    async with asyncio.timeout(20):
        while not await connection.fetch(query):
            await asyncio.sleep(0.02)


def test_the_fleet_runs_the_code_under_test() -> None:
    import chargehand

    assert Path(chargehand.__file__).is_relative_to(Path(os.getcwd()))
