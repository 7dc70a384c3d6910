"""What a worker's settings say about calls of models holds for its runs (MOD-2)."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.conftest import TestDatabase
from tests.durability.test_killed_provider_calls import MODELS
from tests.factories.executions import Service, running_service
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider
from tests.factories.fleet import fleet_on

from chargehand.kernel.database import Database


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, connected=frozenset(MODELS)
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("settings", "script", "told", "attempts"),
    [
        (
            {"CHARGEHAND_MODEL_TIMEOUT_S": "0.5", "CHARGEHAND_MODEL_RETRIES": "0"},
            "@delay 30s\n@say late",
            "timed out after 0.5 s",
            1,
        ),
        ({"CHARGEHAND_MODEL_RETRIES": "1"}, "@fail 503", "answered 503", 2),
        (
            {"CHARGEHAND_MODEL_IDLE_TIMEOUT_S": "0.4", "CHARGEHAND_MODEL_RETRIES": "0"},
            "@tokens 40\n@wire silence 10",
            "openai:gpt-4o failed",
            1,
        ),
    ],
    ids=["time limit", "retries", "silence"],
)
async def test_a_worker_keeps_to_its_settings(
    service: Service,
    clone: TestDatabase,
    tmp_path: Path,
    fake: RunningFakeProvider,
    settings: dict[str, str],
    script: str,
    told: str,
    attempts: int,
) -> None:
    fake.forget()
    agent = await service.agent(model={"provider": "openai", "name": "gpt-4o"})
    with fleet_on(clone, tmp_path, CHARGEHAND_LEASE_S="10", **fake.settings(), **settings) as fleet:
        fleet.start()
        done = await service.run(agent, script)
    assert done["status"] == "failed"
    assert told in done["error"]["message"]
    assert len(fake.calls("started")) == attempts
    (step,) = await service.get(f"/executions/{done['id']}/steps")
    assert len(step["attempts"]) == attempts
    assert step["attempts"][0]["duration_ms"] < 25_000
