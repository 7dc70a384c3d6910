"""What is rung, when, and with what: after the commit, and never for what was refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.executions.live import CHANNEL, WAKE_CHANNEL
from chargehand.kernel import jobs
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take

Heard = list[tuple[str, str]]


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


@pytest.fixture
async def heard(clone: TestDatabase) -> AsyncIterator[Heard]:
    """Everything that is rung on the three channels, in order."""
    rings: Heard = []
    connection = await asyncpg.connect(clone.urls.system)
    for channel in (jobs.CHANNEL, CHANNEL, WAKE_CHANNEL):
        await connection.add_listener(
            channel, lambda _c, _p, name, text: rings.append((name, text))
        )
    yield rings
    await connection.close()


async def until(heard: Heard, channel: str) -> str:
    async with asyncio.timeout(5):
        while not (texts := [text for name, text in heard if name == channel]):
            await asyncio.sleep(0.01)
    return texts[-1]


async def test_a_start_rings_the_workers_once(service: Service, heard: Heard) -> None:
    agent = await service.agent(input_schema={"type": "string"})
    url = f"/api/v1/agents/{agent}/execute"
    refused = await service.client.post(url, json={"input": 7})
    assert refused.status_code == 400
    accepted = await service.client.post(url, json={"input": "x", "mode": "async"})
    assert accepted.status_code == 202
    told = orjson.loads(await until(heard, jobs.CHANNEL))
    assert (told["type"], told["operation"], told["table"]) == (
        "table_changed_event",
        "insert",
        "pgqueuer",
    )
    assert [name for name, _ in heard].count(jobs.CHANNEL) == 1


async def test_a_cancel_rings_the_owner_and_those_who_watch(service: Service, heard: Heard) -> None:
    agent = await service.agent()
    started = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "x", "mode": "async"}
    )
    execution = started.json()["id"]
    run = await take(
        service.database,
        service.caller.organization_id,
        execution,
        worker="host:1:x",
        lease_s=60,
    )
    assert run is not None
    heard.clear()
    answer = await service.client.post(f"/api/v1/executions/{execution}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert await until(heard, WAKE_CHANNEL) == execution.replace("-", "")
    assert await until(heard, CHANNEL) == execution.replace("-", "")


async def test_a_run_that_is_handed_over_rings_the_workers(service: Service, heard: Heard) -> None:
    agent = await service.agent(capabilities={"todo": {}}, limits={"chunk_steps": 1})
    started = await service.client.post(
        f"/api/v1/agents/{agent}/execute",
        json={"input": '@call todo_write {"todos": []}\n@then\n@say Hi.', "mode": "async"},
    )
    execution = ExecutionId(UUID(started.json()["id"]))
    await until(heard, jobs.CHANNEL)
    heard.clear()
    await service.worker.handle(service.caller.organization_id, execution)
    left = await service.get(f"/executions/{execution}")
    assert (left["status"], left["steps"], left["chunk"]) == ("pending", 1, 2)
    assert orjson.loads(await until(heard, jobs.CHANNEL))["operation"] == "insert"
