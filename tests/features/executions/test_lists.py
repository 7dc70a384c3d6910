"""Lists of executions: whose runs, which of them, page by page (EXE-17, TEN-5)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.tenancy import client_of, make_caller, make_organization

from chargehand.kernel.database import Database


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    """Its owner has an agent for each visibility; nobody works on what is started."""
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def member_of(service: Service) -> tuple[httpx2.AsyncClient, UUID]:
    organization = await organization_of(service)
    caller, key = await make_caller(service.database, "member", organization=organization)
    return client_of(service.app, key), caller.user_id


async def organization_of(service: Service) -> Any:
    from chargehand.tenancy.tables import Organization

    async with service.database.transaction(service.caller.organization_id) as session:
        found = await session.get(Organization, service.caller.organization_id)
    assert found is not None
    return found


async def make_agent(client: httpx2.AsyncClient, name: str, visibility: str) -> str:
    document = {"model": {"provider": "simulated", "name": "standard"}}
    answer = await client.post(
        "/api/v1/agents",
        json={"name": name, "visibility": visibility, "config": document, "publish": True},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def start(client: httpx2.AsyncClient, agent: str, **body: Any) -> str:
    answer = await client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "@say Hi.", "mode": "async", **body}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def listed(client: httpx2.AsyncClient, **filters: Any) -> list[str]:
    """The ids of all pages, of two rows each."""
    found, cursor = list[str](), {}
    while True:
        answer = await client.get("/api/v1/executions", params={**filters, "limit": 2, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_each_sees_what_the_roles_say_whatever_the_filter(service: Service) -> None:
    """The two ways in which a member's list is made agree with each other, and with one run."""
    member, member_id = await member_of(service)
    stranger_owner, stranger_key = await make_caller(
        service.database, organization=await make_organization(service.database)
    )
    stranger = client_of(service.app, stranger_key)
    private = await make_agent(service.client, "private", "private")
    shared = await make_agent(service.client, "shared", "organization")
    theirs = await make_agent(stranger, "theirs", "public")
    own = await make_agent(member, "own", "private")
    runs = [
        await start(service.client, private),
        await start(service.client, shared),
        await start(service.client, theirs),
        await start(member, shared),
        await start(member, own),
        await start(service.client, own),
        await start(stranger, theirs),
    ]
    of_members = [runs[5], runs[4], runs[3], runs[2], runs[1]]
    for filters in ({}, {"status": "pending"}):
        assert await listed(service.client, **filters) == runs[5::-1]
        assert await listed(member, **filters) == of_members
        assert await listed(stranger, **filters) == [runs[6]]
    for run in runs[:6]:
        answer = await member.get(f"/api/v1/executions/{run}")
        assert (answer.status_code == 200) == (run in of_members)
    assert await listed(member, user=str(member_id)) == [runs[4], runs[3]]
    assert stranger_owner.organization_id != service.caller.organization_id


async def test_filters_narrow_the_list_alone_and_together(service: Service) -> None:
    one = await make_agent(service.client, "one", "organization")
    other = await make_agent(service.client, "other", "organization")
    first = await start(service.client, one, end_user="ada")
    second = await start(service.client, other, end_user="bob")
    third = await start(service.client, one)
    await service.client.post(f"/api/v1/executions/{third}/cancel")
    test = await service.client.post(
        f"/api/v1/agents/{await draft_of(service)}/test", json={"input": "x", "mode": "async"}
    )
    fourth = test.json()["id"]
    client = service.client
    assert await listed(client, agent="one") == [third, first]
    assert await listed(client, status="cancelled") == [third]
    assert await listed(client, status="cancelled", agent=other) == []
    assert await listed(client, end_user="ada") == [first]
    assert await listed(client, end_user="nobody") == []
    assert await listed(client, is_test="true") == [fourth]
    assert await listed(client, is_test="false", agent=other) == [second]
    assert await listed(client, user=str(service.caller.user_id)) == [
        fourth,
        third,
        second,
        first,
    ]


async def draft_of(service: Service) -> str:
    document = {"model": {"provider": "simulated", "name": "standard"}}
    answer = await service.client.post("/api/v1/agents", json={"name": "draft", "config": document})
    return answer.json()["slug"]


async def test_failures_are_found_by_their_code(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    async with running_service(database, clone.urls.system, tmp_path) as service:
        agent = await service.agent()
        good = await service.run(agent, "@say Hi.")
        bad = await service.run(agent, "@fail 400")
        assert await listed(service.client, error_code="ModelProviderFailed") == [bad["id"]]
        assert await listed(service.client, error_code="ExecutionTimeout") == []
        assert await listed(service.client, status="completed") == [good["id"]]


async def test_a_list_can_be_bounded_in_time(service: Service) -> None:
    agent = await make_agent(service.client, "one", "organization")
    first = await start(service.client, agent)
    created = (await service.get(f"/executions/{first}"))["created_at"]
    second = await start(service.client, agent)
    moment = datetime.fromisoformat(created)
    before, later = moment - timedelta(minutes=1), moment + timedelta(minutes=1)
    assert await listed(service.client, created_after=before.isoformat()) == [second, first]
    assert await listed(service.client, created_before=before.isoformat()) == []
    assert await listed(service.client, created_after=later.isoformat()) == []
    assert await listed(service.client, created_before=later.astimezone(UTC).isoformat()) == [
        second,
        first,
    ]


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ({"created_after": "2026-11-24T10:00:00"}, "/query/created_after"),
        ({"created_after": "1969-01-01T00:00:00Z"}, "/query/created_after"),
        ({"created_before": "9999-01-01T00:00:00Z"}, "/query/created_before"),
        ({"status": "done"}, "/query/status"),
        ({"user": "ada"}, "/query/user"),
        ({"end_user": "a\x00b"}, "/query/end_user"),
        ({"limit": 101}, "/query/limit"),
        ({"statsu": "failed"}, "/query/statsu"),
    ],
)
async def test_a_filter_that_is_none_is_refused_by_its_place(
    service: Service, filters: dict[str, Any], pointer: str
) -> None:
    answer = await service.client.get("/api/v1/executions", params=filters)
    assert answer.status_code == 400
    (violation,) = answer.json()["error"]["details"]["violations"]
    assert violation["pointer"] == pointer
