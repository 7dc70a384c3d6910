"""Text that a crash of PostgreSQL has lost is dropped and told again (EXE-10).

``tests/durability/test_streams.py`` kills the server. Here what it loses is taken away by hand, at
the moments that matter: between two pieces, before the answer is recorded, before the run ends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic_ai.messages import ModelResponse
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.adapters import simulated
from chargehand.executions.live import Feed, Watch
from chargehand.executions.stories import LOST, Position, Stories
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take
from chargehand.runtime.ports import ModelCall
from chargehand.runtime.runs import Run
from chargehand.runtime.streaming_text import TextStream

Story = list[tuple[str, str, Any]]


@dataclass
class Crash:
    """Takes text events away as a crash of the server would; ``url`` is the owner's."""

    url: str
    lost: int = 0

    async def lose(self, text_events: int) -> None:
        """Lose all but so many of the text events that no other event follows."""
        connection = await asyncpg.connect(self.url)
        try:
            self.lost = await connection.fetchval(
                "with kept as (select execution_id, max(seq) as seq from events where type not in "
                "('output.delta', 'output.reset') group by execution_id), gone as (delete from "
                "events using kept where events.execution_id = kept.execution_id and events.seq > "
                "kept.seq + $1 returning events.seq), live as (update live_executions set "
                "last_event = kept.seq + $1 from kept where live_executions.execution_id = "
                "kept.execution_id) select max(seq) from gone",
                text_events,
            )
            assert self.lost, "there was nothing to lose"
        finally:
            await connection.close()


class CrashingModel:
    """The simulated model; once its text is stored, and before its answer, the crash comes."""

    def __init__(self, crash: Crash, then_wait_s: float = 0) -> None:
        self._inner = simulated.provider()
        self._crash = crash
        self._then_wait_s = then_wait_s

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | ModelResponse, None]:
        async for item in self._inner.stream(call):
            if isinstance(item, ModelResponse):
                await asyncio.sleep(0.3)
                await self._crash.lose(1)
                await asyncio.sleep(self._then_wait_s)
            yield item


@pytest.fixture
def crash(clone: TestDatabase) -> Crash:
    return Crash(clone.owner_url)


@asynccontextmanager
async def running(
    database: Database, clone: TestDatabase, folder: Path, model: Any = None
) -> AsyncIterator[Service]:
    providers = {} if model is None else {"simulated": model}
    async with running_service(
        database, clone.urls.system, folder, work=model is not None, providers=providers
    ) as service:
        yield service


async def begin(service: Service, script: str) -> ExecutionId:
    agent = await service.agent()
    body = {"input": script, "mode": "async"}
    answer = await service.client.post(f"/api/v1/agents/{agent}/execute", json=body)
    return ExecutionId(UUID(answer.json()["id"]))


async def stored(service: Service, execution: ExecutionId) -> Story:
    async with service.database.hot(service.caller.organization_id) as connection:
        rows = await connection.fetch(
            "select epoch || '.' || seq, type, data from events where execution_id = $1 "
            "order by seq",
            execution,
        )
    return [tuple(row) for row in rows]


def text_of(story: Story) -> str:
    """What is shown of the last step's text."""
    text = ""
    for _, kind, data in story:
        text = text + data["text"] if kind == "output.delta" else text
        text = "" if kind in ("output.reset", "step.started") else text
    return text


def numbers(story: Story) -> list[int]:
    return [int(event_id.split(".")[1]) for event_id, _, _ in story]


@pytest.fixture
async def held(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[tuple[Service, Run]]:
    """A service without a worker, and a run that the test owns."""
    async with running(database, clone, tmp_path) as service:
        execution = await begin(service, "x")
        run = await take(
            database, service.caller.organization_id, execution, worker="w:1:a", lease_s=60
        )
        assert run is not None
        yield service, run


async def test_text_lost_between_two_pieces_is_told_again(
    held: tuple[Service, Run], crash: Crash
) -> None:
    service, run = held
    async with TextStream(run, service.database, service.worker.bells) as stream:
        for text in ("one ", "two ", "three "):
            stream.add(text)
            await stream.drain()
        await crash.lose(1)
        stream.add("four")
        await stream.drain()
        story = await stored(service, run.lease.execution_id)
        assert text_of(story) == "one two three four"
        assert [kind for _, kind, _ in story[-3:]] == [
            "output.delta",
            "output.reset",
            "output.delta",
        ]
        assert numbers(story)[-2] == crash.lost + 1, "a number is never used for two events"
        stream.add(" five")
    assert text_of(await stored(service, run.lease.execution_id)) == "one two three four five"


async def test_text_whose_storing_failed_is_told_with_the_next(
    held: tuple[Service, Run], clone: TestDatabase
) -> None:
    service, run = held
    owner = await asyncpg.connect(clone.owner_url)
    try:
        async with TextStream(run, service.database, service.worker.bells) as stream:
            stream.add("one ")
            await stream.drain()
            lock = owner.transaction()
            await lock.start()
            await owner.execute("lock table live_executions in access exclusive mode")
            stream.add("two ")
            async with asyncio.timeout(10):
                while not await owner.fetch(
                    "select pg_terminate_backend(pid) from pg_stat_activity where "
                    "datname = current_database() and wait_event_type = 'Lock'"
                ):
                    await asyncio.sleep(0.01)
            await stream.drain()
            await lock.rollback()
            stream.add("three")
    finally:
        await owner.close()
    assert text_of(await stored(service, run.lease.execution_id)) == "one two three"


async def test_text_lost_before_the_answer_is_recorded_is_told_again(
    database: Database, clone: TestDatabase, tmp_path: Path, crash: Crash
) -> None:
    async with running(database, clone, tmp_path, CrashingModel(crash)) as service:
        execution = await begin(service, "@pace 120ms\n@say one two three four")
        done = await service.until(str(execution), "completed", "failed")
        story = await stored(service, execution)
    assert done["output"] == "one two three four"
    before_the_end = [kind for _, kind, _ in story].index("step.completed")
    assert text_of(story[:before_the_end]) == done["output"]
    assert [kind for _, kind, _ in story].count("output.reset") == 1
    assert crash.lost not in numbers(story)


async def test_text_lost_before_a_cancelled_run_ends_is_told_again(
    database: Database, clone: TestDatabase, tmp_path: Path, crash: Crash
) -> None:
    async with running(database, clone, tmp_path, CrashingModel(crash, 60)) as service:
        execution = await begin(service, "@pace 120ms\n@say one two three four")
        async with asyncio.timeout(10):
            while not crash.lost:
                await asyncio.sleep(0.02)
        await service.client.post(f"/api/v1/executions/{execution}/cancel")
        done = await service.until(str(execution), "cancelled")
        story = await stored(service, execution)
    assert text_of(story) == done["output"] == "one two three four"


async def test_a_follower_that_was_told_lost_text_goes_on_behind_what_is_left(
    held: tuple[Service, Run], crash: Crash
) -> None:
    """Whether it is there when the text goes, or comes back with its id."""
    service, run = held
    execution, organization = run.lease.execution_id, run.lease.organization_id
    feed: Feed = service.app.state.feed
    async with TextStream(run, service.database, service.worker.bells) as stream:
        for text in ("one ", "two ", "three "):
            stream.add(text)
            await stream.drain()
        whole = await stored(service, execution)
        told: Story = []
        with feed.watching_run(execution) as watch:
            story = Stories(feed, service.database)
            following = story.follow(organization, execution, Position(0, 0), watch, with_log=True)
            async with asyncio.timeout(10):
                while len(told) < len(whole):
                    event = await anext(following)
                    assert event is not None
                    told.append((event.id, event.type, event.data))
                await crash.lose(1)
                stream.add("four")
                while "four" not in str(told[-1][2]):
                    event = await anext(following)
                    assert event is not None
                    told.append((event.id, event.type, event.data))
        left = await stored(service, execution)
        assert told == [*whole, (left[-3][0], "output.reset", {"reason": LOST}), *left[-2:]]
        await service.client.post(f"/api/v1/executions/{execution}/cancel")
    back = story.follow(organization, execution, Position(1, crash.lost), Watch(), with_log=False)
    events = [await anext(back) for _ in range(3)]
    assert [(e.id, e.type) for e in events if e] == [
        (left[-3][0], "output.reset"),
        *[(event_id, kind) for event_id, kind, _ in left[-2:]],
    ]
