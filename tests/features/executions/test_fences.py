"""A worker that wakes up late writes nothing, and calls nobody (EXE-5).

Here its successor still owns the run: nothing but the fence, or the worker's own clock, stops it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.adapters import simulated
from chargehand.agents.installed import NO_OPTIONS, Capability
from chargehand.executions import journal, parking, recovery
from chargehand.executions.endings import Ending, finish
from chargehand.executions.journal import Event, Log, StepRecord
from chargehand.executions.leases import Lease, LeaseLost
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection, Database
from chargehand.kernel.identifiers import ExecutionId, new_id
from chargehand.runtime.claiming import take
from chargehand.runtime.loop import advance
from chargehand.runtime.ports import CallPolicy
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.toolset import Tool, ToolContext, Toolset

PROBE = Capability("probe", "Notes that it was called.", NO_OPTIONS)
STORY = (
    "live_executions",
    "executions",
    "execution_payloads",
    "steps",
    "run_messages",
    "events",
    "logs",
    "effects",
    "usage_records",
    "claims",
    "signals",
    "slots",
    "outbox",
)
"""Every table that a run writes."""


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, capabilities={"probe": PROBE}
    ) as running:
        yield running


async def begin(service: Service, script: str = "@say Hi.") -> ExecutionId:
    agent = await service.agent(capabilities={"probe": {}})
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": script, "mode": "async"}
    )
    assert answer.status_code == 202, answer.text
    return ExecutionId(UUID(answer.json()["id"]))


async def claimed(service: Service, execution: ExecutionId, worker: str, lease_s: float) -> Run:
    """The run as this worker claims it, as soon as it can."""
    organization = service.caller.organization_id
    async with asyncio.timeout(10):
        while True:
            run = await take(
                service.database, organization, execution, worker=worker, lease_s=lease_s
            )
            if run is not None:
                return run
            await asyncio.sleep(0.01)


async def story(clone: TestDatabase) -> dict[str, list[str]]:
    """All that is stored of runs, as the owner of the database sees it."""
    async with as_owner(clone) as connection:
        return {
            table: [
                row["line"]
                for row in await connection.fetch(
                    f"select t::text as line from {table} as t order by 1"
                )
            ]
            for table in STORY
        }


@asynccontextmanager
async def as_owner(clone: TestDatabase) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(clone.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


def a_step(seq: int) -> StepRecord:
    return StepRecord(seq=seq, kind="model", call_id="1.1.1", started_at=now(), completed_at=now())


async def record(connection: Connection, run: Run) -> None:
    message = {"kind": "response", "parts": [], "usage": {}, "timestamp": now().isoformat()}
    await journal.record_step(
        connection,
        run.lease,
        run.spender,
        a_step(run.steps + 1),
        messages=[message],
        state={"late": True},
        events=[Event("step.completed", {"step_number": 1})],
        logs=[Log("info", "step.model", "late")],
    )


async def append(connection: Connection, run: Run) -> None:
    await journal.append_events(connection, run.lease, [Event("output.delta", {"text": "late"})])


async def intend(connection: Connection, run: Run) -> None:
    await journal.record_intent(
        connection,
        run.lease,
        message_seq=1,
        call_id="late",
        idempotency_key=new_id(),
        tool_name="probe",
        arguments={},
        policy="unknown",
    )


async def hand_over(connection: Connection, run: Run) -> None:
    await parking.hand_over(connection, run.lease, reason="drain")


async def end(connection: Connection, run: Run) -> None:
    await finish(connection, run.lease, Ending(status="completed", output="late"))


WRITES: Mapping[str, Callable[[Connection, Run], Awaitable[None]]] = {
    "a step": record,
    "events": append,
    "an intent": intend,
    "a hand-over": hand_over,
    "the end": end,
}


@pytest.mark.parametrize("what", WRITES)
async def test_whoever_was_succeeded_writes_nothing(
    service: Service, clone: TestDatabase, what: str
) -> None:
    execution = await begin(service)
    late = await claimed(service, execution, "first", lease_s=0.02)
    successor = await claimed(service, execution, "second", lease_s=60)
    before = await story(clone)
    with pytest.raises(LeaseLost, match="first no longer owns"):
        async with service.database.hot(late.lease.organization_id) as connection:
            await WRITES[what](connection, late)
    assert await story(clone) == before
    async with service.database.hot(successor.lease.organization_id) as connection:
        await WRITES[what](connection, successor)
    assert await story(clone) != before


async def test_whoever_was_succeeded_renews_no_lease(service: Service, clone: TestDatabase) -> None:
    execution = await begin(service)
    late = await claimed(service, execution, "first", lease_s=0.02)
    successor = await claimed(service, execution, "second", lease_s=60)

    async def renewed(lease: Lease) -> set[ExecutionId]:
        async with service.database.across() as connection:
            pair = (lease.execution_id, lease.epoch)
            return await recovery.renew(connection, [pair], timedelta(seconds=60))

    before = await story(clone)
    assert await renewed(late.lease) == set()
    assert await story(clone) == before
    assert await renewed(successor.lease) == {execution}


# By its own clock


@dataclass
class Late:
    """A worker's run, and what was called in its name."""

    run: Run
    outside: Outside
    toolset: Toolset
    call_log: Path
    called: list[str]

    async def advance(self) -> None:
        await advance(self.run, self.toolset, None, self.outside)

    def model_calls(self) -> list[Any]:
        lines = self.call_log.read_bytes().splitlines() if self.call_log.exists() else []
        return [line for line in map(orjson.loads, lines) if line["event"] == "started"]


async def late_worker(service: Service, script: str, folder: Path, lease_s: float) -> Late:
    called = list[str]()

    async def note(_: ToolContext, arguments: dict[str, Any]) -> str:
        called.append(arguments.get("line", ""))
        return "noted"

    tool = Tool("note", "Notes it.", {"type": "object"}, "unknown", note)
    run = await claimed(service, await begin(service, script), "first", lease_s)
    outside = Outside(
        service.database,
        service.worker.bells,
        service.worker.doorbell,
        {"simulated": simulated.provider(folder / "calls")},
        lambda: False,
        3,
        CallPolicy(),
    )
    toolset = Toolset(run.config.capabilities, {"probe": lambda _: [tool]})
    return Late(run, outside, toolset, folder / "calls", called)


async def until_expired(run: Run) -> None:
    while time.monotonic() < run.lease_until:
        await asyncio.sleep(0.01)


async def test_no_model_is_called_once_the_lease_has_run_out(
    service: Service, tmp_path: Path
) -> None:
    late = await late_worker(service, "@say late", tmp_path, lease_s=0.05)
    await until_expired(late.run)
    with pytest.raises(LeaseLost):
        await late.advance()
    assert late.model_calls() == []


async def test_no_model_is_called_again_once_the_lease_has_run_out(
    service: Service, tmp_path: Path
) -> None:
    script = "@fail 429 retry_after=0.7 times=1\n@say late"
    late = await late_worker(service, script, tmp_path, lease_s=0.5)
    with pytest.raises(LeaseLost):
        await late.advance()
    assert len(late.model_calls()) == 1


SLOW_INTENTS = """
create function slow_intent() returns trigger language plpgsql as
    $$ begin perform pg_sleep(1.5); return new; end $$;
create trigger slow_intent before insert on effects for each row execute function slow_intent();
"""


async def test_no_tool_is_called_once_the_lease_has_run_out(
    service: Service, clone: TestDatabase, tmp_path: Path
) -> None:
    """The database takes longer over the intent than the lease holds: the call is not made."""
    async with as_owner(clone) as connection:
        await connection.execute(SLOW_INTENTS)
    script = '@call note {"line": "late"}'
    late = await late_worker(service, script, tmp_path, lease_s=1)
    with pytest.raises(LeaseLost):
        await late.advance()
    assert len((await story(clone))["effects"]) == 1
    assert late.called == []
