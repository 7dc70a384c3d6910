"""When no ring arrives, the slow poll finds what there is: later, and nothing less (EXE-10)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.adapters.redis_bells import RedisWire
from chargehand.executions.live import Feed, wait_until_done
from chargehand.executions.stories import BEGINNING, Stories
from chargehand.executions.user_topics import UserTopics
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId

LATE_S = 10.0


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


@pytest.fixture
async def deaf(database: Database) -> AsyncIterator[Feed]:
    """The feed of a process whose Redis is away."""
    wire = RedisWire("unix:///nowhere/socket")
    feed = Feed(wire, database)
    feed.start()
    yield feed
    await feed.stop()
    await wire.close()


async def begin(service: Service, script: str) -> ExecutionId:
    body = {"input": script, "mode": "async"}
    agent = await service.agent()
    answer = await service.client.post(f"/api/v1/agents/{agent}/execute", json=body)
    return ExecutionId(UUID(answer.json()["id"]))


async def test_a_run_is_told_to_its_end(service: Service, deaf: Feed) -> None:
    execution = await begin(service, "@delay 1500ms\n@pace 150ms\n@say one two three four five six")
    organization, told = service.caller.organization_id, list[str]()
    with deaf.watching_run(execution) as watch:
        async with asyncio.timeout(10):
            story = Stories(deaf, service.database).follow(
                organization, execution, BEGINNING, watch, with_log=True
            )
            async for event in story:
                assert event is not None
                told.append(event.id)
    assert told == [event[0] for event in await service.events(str(execution))]


async def test_a_users_topic_goes_on(service: Service, deaf: Feed) -> None:
    topics = UserTopics(service.database)
    caller = service.caller
    with deaf.watching_user(caller.user_id) as watch:
        cursor = await topics.now()
        following = topics.follow(caller.organization_id, caller.user_id, cursor, watch)
        first = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.2)
        await begin(service, "@say Hi.")
        async with asyncio.timeout(LATE_S):
            event = await first
            assert event is not None
            while event is None or event.type != "done":
                event = await anext(following)


async def test_who_waits_for_the_end_sees_it(service: Service, deaf: Feed) -> None:
    execution = await begin(service, "@delay 500ms\n@say Hi.")
    waiting = wait_until_done(
        service.database, deaf, service.caller.organization_id, execution, 0.5 + LATE_S
    )
    assert await waiting
