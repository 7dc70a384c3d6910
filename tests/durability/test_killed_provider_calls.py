"""A worker killed -9 in the middle of a vendor's stream: another one goes on (EXE-4, MOD-1).

What the vendor saw is counted by the vendor's own log, in another process than ours.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.durability.test_killed_workers import PROBE, owner_of, start
from tests.factories.executions import Service, running_service
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider
from tests.factories.fleet import Fleet, fleet_on

from chargehand.kernel.database import Database

MODELS = {
    "openai": "gpt-4o",
    "openai-chat": "gpt-4o",
    "openai-compatible": "qwen3-coder",
    "azure": "gpt-4o",
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash",
}
WORDS = " ".join(f"word{n}" for n in range(30))
STREAMED = f"""
@call write {{"line": "a"}}
@call write {{"line": "b"}}
@then
@pace 60ms
@say {WORDS}
@call write {{"line": "c"}}
@then
@quote 1
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
def fleet(clone: TestDatabase, tmp_path: Path, fake: RunningFakeProvider) -> Iterator[Fleet]:
    with fleet_on(clone, tmp_path, CHARGEHAND_CONCURRENCY="10", **fake.settings()) as started:
        yield started


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database,
        clone.urls.system,
        tmp_path,
        work=False,
        capabilities=PROBE,
        connected=frozenset(MODELS),
    ) as running:
        yield running


@pytest.mark.parametrize("provider", MODELS)
async def test_a_streamed_run_with_tools_outlives_its_worker(
    service: Service, fleet: Fleet, fake: RunningFakeProvider, provider: str
) -> None:
    fake.forget()
    model = {"provider": provider, "name": MODELS[provider]}
    agent = await service.agent(
        model=model, capabilities={"probe": {}}, limits={"wall_time_s": 120}
    )
    fleet.start()
    fleet.start()
    execution = await start(service, agent, STREAMED)
    await until_told(service, fleet, execution, deltas=3)
    fleet.signal(await owner_of(service, execution), signal.SIGKILL)
    done = await service.until(execution, "completed", "failed")

    assert (done["status"], done["output"]) == ("completed", "write:\n> appended"), done["error"]
    assert [line["line"] for line in fleet.probe()] == ["a", "b", "c"]
    steps = await service.get(f"/executions/{execution}/steps")
    assert [step["kind"] for step in steps] == ["model", "tool", "tool", "model", "tool", "model"]
    assert len({step["epoch"] for step in steps}) == 2
    # The second answer was being streamed when its worker was killed: it alone was asked twice.
    assert [call["messages"] for call in fake.calls("started")] == numbers_of_messages(fake)
    ended = [call["event"] for call in fake.calls() if call["event"] != "started"]
    assert sorted(ended) == ["aborted", "answered", "answered", "answered"]
    attempts = [attempt for step in steps for attempt in step["attempts"]]
    assert {attempt["provider"] for attempt in attempts} == {provider}
    assert all(attempt["error"] is None for attempt in attempts)


def numbers_of_messages(fake: RunningFakeProvider) -> list[int]:
    numbers = [call["messages"] for call in fake.calls("started")]
    assert len(numbers) == 4, numbers
    first, second, again, last = numbers
    assert first < second == again < last
    return numbers


async def until_told(service: Service, fleet: Fleet, execution: str, *, deltas: int) -> None:
    """Wait until so many pieces of text have been stored for whoever watches."""
    query = "select count(*) from events where execution_id = $1 and type = 'output.delta'"
    deadline = time.monotonic() + 20
    while await count(service, query, execution) < deltas:
        assert time.monotonic() < deadline, fleet.log()[-3000:]
        await asyncio.sleep(0.02)


async def count(service: Service, query: str, *arguments: Any) -> int:
    async with service.database.hot(service.caller.organization_id) as connection:
        return await connection.fetchval(query, *arguments)
