"""API-1: each code of the closed table is answered by some request, whole and with a remedy."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from tests.conftest import TestDatabase
from tests.factories.conformance import INTERNALS
from tests.factories.error_scenarios import SCENARIOS, Scenario, World, create, execute
from tests.factories.executions import running_service

from chargehand.kernel.database import Database
from chargehand.web.error_codes import HTTP_ERRORS, STATUS_OF_CODE

HEADER_OF_STATUS = {401: "www-authenticate", 405: "allow", 429: "retry-after", 503: "retry-after"}


@pytest.fixture
async def world(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[World]:
    async with running_service(database, clone.urls.system, tmp_path) as service:
        told = World(service)
        yield told
        await told.close()


def test_each_code_has_its_scenario() -> None:
    assert sorted(SCENARIOS) == sorted(row.code for row in HTTP_ERRORS)


async def test_each_code_is_answered(world: World, subtests: pytest.Subtests) -> None:
    """In the order of the scenarios: the last one takes the database away."""
    for code, scenario in SCENARIOS.items():
        with subtests.test(code):
            check(await scenario.tell(world), code, scenario)


def check(response: httpx2.Response, code: str, scenario: Scenario) -> None:
    assert response.status_code == STATUS_OF_CODE[code], response.text
    ((name, error),) = response.json().items()
    assert name == "error"
    assert set(error) == {"code", "message", "details", "timestamp", "request_id"}
    assert error["code"] == code
    assert scenario.remedy in error["message"]
    assert error["request_id"].startswith("req_")
    assert error["request_id"] == response.headers["x-request-id"]
    assert datetime.fromisoformat(error["timestamp"]).utcoffset() is not None
    violations: list[Any] = error["details"].get("violations", [])
    assert sorted(one["pointer"] for one in violations) == sorted(scenario.pointers)
    assert all(one["message"] for one in violations)
    assert error["details"].items() >= scenario.details.items()
    assert HEADER_OF_STATUS.get(response.status_code, "x-request-id") in response.headers
    assert not INTERNALS.search(response.text)


async def test_an_unknown_key_without_a_database_is_an_outage_too(world: World) -> None:
    client = await world.client()
    world.service.database.system.terminate()
    answer = await client.get("/api/v1/me")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "DatabaseUnavailable"
    assert answer.headers["retry-after"] == "1"


async def test_the_log_of_a_defect_has_the_id_that_its_caller_was_given(world: World) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await SCENARIOS["InternalError"].tell(world)
    (line,) = (line for line in lines if line["event"] == "request_failed")
    assert line["request_id"] == answer.json()["error"]["request_id"]


async def test_the_methods_of_a_path_are_all_named(world: World) -> None:
    """Not those of its first route only."""
    answer = await world.owner.put("/api/v1/agents/code-review")
    assert answer.headers["allow"] == "DELETE, GET, PATCH"
    answer = await world.owner.request("OPTIONS", "/api/v1/uploads")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("moment", ["0.5", "1764000000", "2026-11-24", "yesterday"])
async def test_a_moment_that_is_not_written_out_is_refused(world: World, moment: str) -> None:
    answer = await world.owner.get("/api/v1/executions", params={"created_before": moment})
    assert pointers(answer) == ["/query/created_before"]


async def test_a_wrong_header_is_told_by_its_pointer(world: World) -> None:
    done = await execute(world.owner, await create(world.owner, "Followed"))
    path = f"{done.headers['location']}/events"
    answer = await world.owner.get(path, headers={"Last-Event-ID": "seven"})
    assert pointers(answer) == ["/header/Last-Event-ID"]


def pointers(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 400, answer.text
    return [one["pointer"] for one in answer.json()["error"]["details"]["violations"]]
