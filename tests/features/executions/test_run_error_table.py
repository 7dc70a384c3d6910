"""Each code that the ``error`` of a run can have is produced, with a remedy (SPEC API-1)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.conformance import INTERNALS
from tests.factories.executions import Service, running_service, work_on

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take
from chargehand.web.error_codes import RUN_ERRORS

Story: TypeAlias = Callable[[Service, str, asyncpg.Connection], Awaitable[None]]
"""What happens to a run that has been accepted, before a worker works."""


async def nothing(service: Service, execution: str, owner: asyncpg.Connection) -> None:
    pass


async def lose_it_three_times(service: Service, execution: str, owner: asyncpg.Connection) -> None:
    for number in range(3):
        organization, run = service.caller.organization_id, ExecutionId(UUID(execution))
        taken = await take(
            service.database, organization, run, worker=f"host:{number}:x", lease_s=0.01
        )
        assert taken is not None
        await asyncio.sleep(0.02)


async def spoil_it(service: Service, execution: str, owner: asyncpg.Connection) -> None:
    statement = "update execution_payloads set config = '{}' where execution_id = $1"
    await owner.execute(statement, UUID(execution))


NUMBER = {"type": "object", "properties": {"id": {"type": "integer"}}}
TWICE_WRONG = '@json {"id": "x"}\n@then\n@json {"id": "y"}'

SCENARIOS: dict[str, tuple[dict[str, Any], str, Story, str]] = {
    "ModelProviderFailed": ({}, "@fail 400", nothing, "gave no answer in 1 attempt"),
    "ExecutionTimeout": (
        {"limits": {"wall_time_s": 0.3}},
        "@pace 100ms\n@tokens 100",
        nothing,
        "Raise limits.wall_time_s",
    ),
    "ResourceExhausted": (
        {"limits": {"tokens": 300}},
        "@say Much.\n@usage input=250 output=100",
        nothing,
        "Raise limits.tokens",
    ),
    "OutputInvalid": (
        {"output_schema": NUMBER},
        TWICE_WRONG,
        nothing,
        "after one repair round",
    ),
    "WorkerLost": ({}, "@say Hi.", lose_it_three_times, "Look at the workers' logs and memory"),
    "ExecutionFailed": ({}, "@say Hi.", spoil_it, "Tell your operator"),
}
"""By code: the agent's configuration, the script, what happens, and words of the remedy."""


@pytest.fixture
async def idle(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


def test_each_code_has_its_scenario() -> None:
    assert sorted(SCENARIOS) == sorted(row.code for row in RUN_ERRORS)


async def test_each_code_ends_a_run(
    idle: Service, clone: TestDatabase, subtests: pytest.Subtests
) -> None:
    owner = await asyncpg.connect(clone.owner_url)
    runs = dict[str, str]()
    for code, (config, script, story, _) in SCENARIOS.items():
        answer = await idle.client.post(
            f"/api/v1/agents/{await idle.agent(**config)}/execute",
            json={"input": script, "mode": "async"},
        )
        runs[code] = answer.json()["id"]
        await story(idle, runs[code], owner)
    await owner.close()
    async with work_on(idle, clone.urls.system):
        for code, run in runs.items():
            with subtests.test(code):
                done = await idle.until(run, "failed", "completed", "cancelled")
                assert (done["status"], done["error"]["code"]) == ("failed", code)
                assert SCENARIOS[code][3] in done["error"]["message"]
                assert not INTERNALS.search(str(done["error"]))
