"""Who may see, follow and control a run (TEN-2, TEN-5), and whose it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.steered import colleague_key
from tests.factories.tenancy import client_of, make_caller

from chargehand.kernel.database import Database


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


async def test_another_organization_gets_404_everywhere(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Secret.")
    _, key = await make_caller(service.database)
    async with client_of(service.app, key) as stranger:
        for path in ("", "/steps", "/logs", "/events"):
            answer = await stranger.get(f"/api/v1/executions/{done['id']}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                404,
                "ExecutionNotFound",
            )
        cancelled = await stranger.post(f"/api/v1/executions/{done['id']}/cancel")
        listed = await stranger.get("/api/v1/executions")
    assert cancelled.status_code == 404
    assert listed.json()["items"] == []


async def test_a_colleague_sees_that_it_ran_but_not_what_was_said(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Secret.")
    async with client_of(service.app, await colleague_key(service, "member")) as colleague:
        seen = (await colleague.get(f"/api/v1/executions/{done['id']}")).json()
        assert (seen["status"], seen["steps"], seen["cost"]) == ("completed", 1, done["cost"])
        assert (seen["input"], seen["output"], seen["redacted"]) == (None, None, True)
        for path in ("/logs", "/events"):
            answer = await colleague.get(f"/api/v1/executions/{done['id']}{path}")
            assert answer.status_code == 403
        cancelled = await colleague.post(f"/api/v1/executions/{done['id']}/cancel")
        assert cancelled.status_code == 403
    async with client_of(service.app, await colleague_key(service, "admin")) as admin:
        seen = (await admin.get(f"/api/v1/executions/{done['id']}")).json()
        assert (seen["output"], seen["redacted"]) == ("Secret.", False)


async def test_a_run_of_a_private_agent_is_nobody_elses_business(service: Service) -> None:
    agent = await service.agent()
    done = await service.run(agent, "@say Secret.")
    await service.client.patch(f"/api/v1/agents/{agent}", json={"visibility": "private"})
    async with client_of(service.app, await colleague_key(service, "member")) as colleague:
        assert (await colleague.get(f"/api/v1/executions/{done['id']}")).status_code == 404
        assert (await colleague.get("/api/v1/executions")).json()["items"] == []


async def test_a_run_of_a_public_agent_belongs_to_the_caller(service: Service) -> None:
    agent = await service.agent()
    changed = await service.client.patch(f"/api/v1/agents/{agent}", json={"visibility": "public"})
    guest, key = await make_caller(service.database)
    async with client_of(service.app, key) as stranger:
        answer = await stranger.post(
            f"/api/v1/agents/{changed.json()['id']}/execute", json={"input": "@say Hi."}
        )
        assert answer.json()["output"] == "Hi.", answer.text
        execution = answer.json()["id"]
    assert (await service.client.get(f"/api/v1/executions/{execution}")).status_code == 404
    async with service.database.hot(guest.organization_id) as connection:
        booked = await connection.fetchval("select count(*) from usage_records")
    assert booked == 1


async def test_a_draft_runs_only_as_a_test(service: Service) -> None:
    made = await service.client.post(
        "/api/v1/agents",
        json={"name": "draft", "config": {"model": {"provider": "simulated", "name": "standard"}}},
    )
    agent = made.json()["slug"]
    refused = await service.client.post(f"/api/v1/agents/{agent}/execute", json={"input": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "AgentNotExecutable")
    tried = await service.client.post(f"/api/v1/agents/{agent}/test", json={"input": "@say Hi."})
    assert (tried.json()["output"], tried.json()["is_test"]) == ("Hi.", True)


async def test_an_older_published_version_runs_by_number(service: Service) -> None:
    agent = await service.agent()
    config = {"model": {"provider": "simulated", "name": "text"}}
    await service.client.patch(f"/api/v1/agents/{agent}", json={"config": config})
    published = await service.client.post(f"/api/v1/agents/{agent}/publish")
    assert published.status_code == 200, published.text
    new = await service.run(agent, "@say Hi.")
    old = await service.run(agent, "@say Hi.", version="1.0.0")
    assert (new["agent_version"], old["agent_version"]) == ("1.0.1", "1.0.0")
    steps = await service.get(f"/executions/{old['id']}/steps")
    assert steps[0]["model"] == "standard"


async def test_a_run_carries_its_end_user_onto_its_usage(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hi.", end_user="customer-7")
    assert done["end_user"] == "customer-7"
    async with service.database.hot(service.caller.organization_id) as connection:
        assert await connection.fetchval("select end_user from usage_records") == "customer-7"
