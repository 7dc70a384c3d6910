"""Agents over HTTP: create, read, change, publish, list, delete."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from tests.factories.agents import agent_document, config_document, make_agent, make_agents_app
from tests.factories.tenancy import client_of, make_caller, make_organization

from chargehand.agents.installed import AVAILABLE, Installed
from chargehand.agents.schemas import AgentPatch
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import new_id
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.tables import Organization

BASE = "/api/v1/agents"


@pytest.fixture
async def owner(database: Database) -> tuple[Caller, str]:
    return await make_caller(database, organization=await make_organization(database, "acme"))


@pytest.fixture
async def client(
    database: Database, owner: tuple[Caller, str]
) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(make_agents_app(database), owner[1]) as opened:
        yield opened


async def organization_of(database: Database, caller: Caller) -> Organization:
    async with database.transaction(caller.organization_id) as session:
        return await session.get_one(Organization, caller.organization_id)


async def colleague(
    database: Database, caller: Caller, role: Role, *scopes: str
) -> tuple[Caller, httpx2.AsyncClient]:
    """Another user of the same organization, with a client."""
    organization = await organization_of(database, caller)
    other, key = await make_caller(database, role, scopes or ("admin",), organization)
    return other, client_of(make_agents_app(database), key)


async def events(database: Database) -> list[tuple[str, int]]:
    async with database.across() as connection:
        rows = await connection.fetch("select type, data from outbox order by id")
    return [(row["type"], row["data"]["revision"]) for row in rows]


async def record_run(database: Database, caller: Caller, agent: str) -> None:
    """A row as an ended run leaves it."""
    run = new_id()
    async with database.hot(caller.organization_id) as connection:
        await connection.execute(
            "insert into executions (id, organization_id, agent_organization_id, agent_id, "
            "agent_version_id, agent_version, trigger_kind, user_id, root_id, queue, status, "
            "created_at, updated_at) select $1, organization_id, organization_id, id, "
            "current_version_id, '1.0.0', 'user', $3, $1, 'agents', 'completed', now(), now() "
            "from agents where id = $2",
            run,
            agent,
            caller.user_id,
        )


def error(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found = answer.json()["error"]
    assert found["code"] == code
    return found


async def created(client: httpx2.AsyncClient, **document: Any) -> dict[str, Any]:
    answer = await client.post(BASE, json=agent_document(**document))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_an_agent_is_a_draft_until_it_is_published(
    client: httpx2.AsyncClient, owner: tuple[Caller, str], database: Database
) -> None:
    document = agent_document(
        {"limits": {"cost_usd": 0.25}},
        name="Code Review",
        tags=["a", "a", "b"],
        metadata={"k": [1]},
    )
    answer = await client.post(BASE, json=document)
    agent = answer.json()
    assert answer.status_code == 201, answer.text
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"{BASE}/{agent['id']}"
    assert (agent["slug"], agent["visibility"], agent["active"]) == ("code-review", "private", True)
    assert (agent["status"], agent["version"], agent["draft"]["version"]) == (
        "draft",
        "1.0.0",
        "1.0.0",
    )
    assert (agent["tags"], agent["metadata"]) == (["a", "b"], {"k": [1]})
    assert agent["owner_id"] == str(owner[0].user_id)
    assert (agent["config"]["limits"]["cost_usd"], agent["config"]["limits"]["steps"]) == (
        "0.25",
        20,
    )
    assert (agent["provider"], agent["model"]) == ("simulated", "standard")

    published = await client.post(f"{BASE}/code-review/publish", json={"changelog": "First."})
    assert published.status_code == 200, published.text
    assert published.headers["ETag"] == '"2"'
    assert (published.json()["status"], published.json()["draft"]) == ("published", None)
    for ref in ("code-review", agent["id"]):
        found = await client.get(f"{BASE}/{ref}")
        assert found.json() == published.json()
        assert found.headers["ETag"] == '"2"'
    version = (await client.get(f"{BASE}/code-review/versions/1.0.0")).json()
    assert (version["changelog"], version["current"]) == ("First.", True)
    assert version["published_by"] == str(owner[0].user_id)
    assert version["config"] == agent["config"]
    assert await events(database) == [("AgentCreated", 1), ("AgentPublished", 2)]


async def test_publishing_at_once(client: httpx2.AsyncClient, database: Database) -> None:
    agent = await created(client, publish=True, slug="now")
    assert (agent["status"], agent["draft"], agent["revision"]) == ("published", None, 1)
    assert [kind for kind, _ in await events(database)] == ["AgentCreated", "AgentPublished"]


async def test_editing_and_publishing_again_counts_versions(client: httpx2.AsyncClient) -> None:
    await created(client, publish=True, slug="x")

    async def edit(**patch: Any) -> dict[str, Any]:
        answer = await client.patch(f"{BASE}/x", json=patch)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def config(text: str) -> dict[str, Any]:
        return config_document(instructions=text)

    edited = await edit(config=config("two"), changelog="why")
    assert (edited["version"], edited["config"]["instructions"]) == ("1.0.0", "")
    assert (edited["draft"]["version"], edited["draft"]["changelog"]) == ("1.0.1", "why")
    edited = await edit(config=config("three"))
    assert edited["draft"]["version"] == "1.0.1"
    assert (await edit(bump="major"))["draft"]["version"] == "2.0.0"
    assert (await edit(config=config("four")))["draft"]["version"] == "2.0.0"
    published = (await client.post(f"{BASE}/x/publish")).json()
    assert (published["version"], published["config"]["instructions"]) == ("2.0.0", "four")
    assert (await edit(config=config("five"), version="2.5.0"))["draft"]["version"] == "2.5.0"
    assert (await client.post(f"{BASE}/x/publish", json={"version": "2.5.0"})).status_code == 200
    assert (await edit(config=config("six"), bump="minor"))["draft"]["version"] == "2.6.0"

    versions = (await client.get(f"{BASE}/x/versions", params={"limit": 2})).json()
    assert [(v["version"], v["status"], v["current"]) for v in versions["items"]] == [
        ("2.6.0", "draft", False),
        ("2.5.0", "published", True),
    ]
    rest = (
        await client.get(f"{BASE}/x/versions", params={"cursor": versions["next_cursor"]})
    ).json()
    assert [v["version"] for v in rest["items"]] == ["2.0.0", "1.0.0"]
    assert rest["next_cursor"] is None
    old = (await client.get(f"{BASE}/x/versions/1.0.0")).json()
    assert (old["status"], old["config"]["instructions"]) == ("published", "")


async def test_version_conflicts(client: httpx2.AsyncClient) -> None:
    await created(client, slug="x")
    answer = await client.patch(f"{BASE}/x", json={"bump": "minor"})
    assert "Nothing of x is published" in error(answer, 409, "VersionConflict")["message"]
    renumbered = await client.patch(f"{BASE}/x", json={"version": "0.1.0"})
    assert renumbered.json()["version"] == "0.1.0"
    await client.patch(f"{BASE}/x", json={"version": "3.0.0"})
    await client.post(f"{BASE}/x/publish")

    answer = await client.post(f"{BASE}/x/publish")
    assert "no draft to publish" in error(answer, 409, "VersionConflict")["message"]
    answer = await client.post(f"{BASE}/x/publish", json={"version": "3.0.0"})
    assert "is published and never changes" in error(answer, 409, "VersionConflict")["message"]
    answer = await client.post(f"{BASE}/x/publish", json={"version": "9.0.0"})
    assert error(answer, 404, "VersionNotFound")["details"]["versions"] == ["3.0.0"]
    for low in ("3.0.0", "2.9.9"):
        change = {"config": config_document(instructions="n"), "version": low}
        answer = await client.patch(f"{BASE}/x", json=change)
        assert error(answer, 409, "VersionConflict")["details"]["highest"] == "3.0.0"
    answer = await client.patch(f"{BASE}/x", json={"changelog": "about nothing", "bump": "minor"})
    found = error(answer, 400, "InvalidAgentConfig")["details"]["violations"]
    assert [violation["pointer"] for violation in found] == ["/changelog", "/bump"]
    for ref in ("1.0", "latest", "4.0.0"):
        error(await client.get(f"{BASE}/x/versions/{ref}"), 404, "VersionNotFound")


async def test_a_change_that_changes_nothing_keeps_the_revision(
    client: httpx2.AsyncClient, database: Database
) -> None:
    agent = await created(client, publish=True, slug="x", tags=["t"])
    same = {
        name: agent[name]
        for name in ("name", "description", "visibility", "tags", "metadata", "config")
    }
    answer = await client.patch(f"{BASE}/x", json=same)
    assert answer.json() == {**agent, "warnings": []}
    assert len(await events(database)) == 2
    changed = await client.patch(f"{BASE}/x", json={"description": "new"})
    assert (changed.headers["ETag"], changed.json()["description"]) == ('"2"', "new")
    assert changed.json()["draft"] is None


async def test_of_two_changes_to_the_same_revision_one_wins(client: httpx2.AsyncClient) -> None:
    agent = await created(client, slug="x")
    etag = {"If-Match": f'"{agent["revision"]}"'}
    answers = await asyncio.gather(
        *(
            client.patch(f"{BASE}/x", json={"description": text}, headers=etag)
            for text in ("first", "second", "third")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer.status_code == 412:
            assert error(answer, 412, "PreconditionFailed")["details"]["etag"] == '"2"'
    found = (await client.get(f"{BASE}/x")).json()
    assert (found["description"], found["revision"]) == (winner["description"], 2)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/publish"),
        ("POST", "/activate"),
        ("POST", "/deactivate"),
    ],
)
async def test_a_stale_etag_changes_nothing(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    agent = await created(client, slug="x")
    body = {"description": "new"} if method == "PATCH" else None
    answer = await client.request(method, f"{BASE}/x{path}", json=body, headers={"If-Match": '"7"'})
    error(answer, 412, "PreconditionFailed")
    assert (await client.get(f"{BASE}/x")).json() == agent


async def test_concurrent_edits_without_an_etag_all_count(client: httpx2.AsyncClient) -> None:
    await created(client, publish=True, slug="x")
    edits = [
        client.patch(f"{BASE}/x", json={"config": config_document(instructions=str(n))})
        for n in range(6)
    ]
    answers = await asyncio.gather(*edits)
    assert {answer.status_code for answer in answers} == {200}
    versions = (await client.get(f"{BASE}/x/versions")).json()["items"]
    assert [version["version"] for version in versions] == ["1.0.1", "1.0.0"]
    assert (await client.get(f"{BASE}/x")).json()["revision"] == 7


async def test_names_and_slugs_are_unique_in_an_organization(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await created(client, name="Helper", slug="helper")
    answer = await client.post(BASE, json=agent_document(name="Helper", slug="other"))
    error(answer, 409, "DuplicateAgentName")
    answer = await client.post(BASE, json=agent_document(name="Other", slug="helper"))
    error(answer, 409, "DuplicateAgentSlug")
    assert (await created(client, name="helper!"))["slug"] == "helper-2"
    assert (await created(client, name="HELPER?"))["slug"] == "helper-3"
    error(
        await client.patch(f"{BASE}/helper-2", json={"name": "Helper"}), 409, "DuplicateAgentName"
    )
    _, key = await make_caller(database)
    async with client_of(make_agents_app(database), key) as other:
        assert (await created(other, name="Helper"))["slug"] == "helper"


async def test_concurrent_creations_get_distinct_slugs(client: httpx2.AsyncClient) -> None:
    names = [f"Same{'!' * n}" for n in range(5)]
    agents = await asyncio.gather(*(created(client, name=name) for name in names))
    assert sorted(agent["slug"] for agent in agents) == [
        "same",
        "same-2",
        "same-3",
        "same-4",
        "same-5",
    ]
    same_name = [client.post(BASE, json=agent_document(name="One")) for _ in range(4)]
    answers = await asyncio.gather(*same_name)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_the_tier_limits_agents(database: Database) -> None:
    organization = await make_organization(database, tier="free")
    caller, key = await make_caller(database, organization=organization)
    for _ in range(8):
        await make_agent(database, caller)
    async with client_of(make_agents_app(database), key) as client:
        answers = await asyncio.gather(
            *(client.post(BASE, json=agent_document()) for _ in range(4))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 201, 403, 403]
        answer = await client.post(BASE, json=agent_document())
        found = error(answer, 403, "OrganizationLimitExceeded")
        assert found["details"] == {"used": 10, "limit": 10, "tier": "free"}
        listed = (await client.get(BASE)).json()["items"]
        await record_run(database, caller, listed[0]["id"])
        for agent in listed[:2]:
            assert (await client.delete(f"{BASE}/{agent['id']}")).status_code == 200
        await created(client)
        await created(client)
        error(await client.post(BASE, json=agent_document()), 403, "OrganizationLimitExceeded")


async def test_every_violation_of_a_request_in_one_answer(client: httpx2.AsyncClient) -> None:
    document = {
        "name": " ",
        "slug": "Not A Slug",
        "config": {"model": {"provider": "simulated", "name": "nope"}, "limits": {"steps": -1}},
    }
    answer = await client.post(BASE, json=document)
    found = error(answer, 400, "InvalidAgentConfig")["details"]["violations"]
    assert {violation["pointer"] for violation in found} == {
        "/name",
        "/slug",
        "/config/model/name",
        "/config/limits/steps",
    }
    validation = (await client.post(f"{BASE}/validate", json=document)).json()
    assert validation == {"valid": False, "violations": found, "warnings": []}
    for document in ([], None, "text", {}):
        assert (await client.post(BASE, json=document)).status_code == 400
    raw = await client.post(
        BASE,
        content=b'{"name": "a\\ud800", "config": {"model": {"temperature": NaN}}, "\\ud800": 1}',
        headers={"Content-Type": "application/json"},
    )
    assert len(error(raw, 400, "InvalidAgentConfig")["details"]["violations"]) == 3


@pytest.mark.parametrize("sent_as", [None, "text/plain", "text/xml", "application/x/y+json"])
async def test_a_body_that_is_not_said_to_be_json_is_refused(
    client: httpx2.AsyncClient, sent_as: str | None
) -> None:
    await created(client, slug="x")
    headers = {} if sent_as is None else {"Content-Type": sent_as}
    for method, path in (
        ("POST", ""),
        ("POST", "/validate"),
        ("PATCH", "/x"),
        ("POST", "/x/publish"),
    ):
        answer = await client.request(
            method, BASE + path, content=b'{"name": "n"}', headers=headers
        )
        found = error(answer, 415, "UnsupportedMediaType")
        assert "send Content-Type: application/json" in found["message"]
    assert (await client.post(f"{BASE}/x/publish", headers=headers)).status_code == 200


async def test_what_is_given_is_not_null(client: httpx2.AsyncClient) -> None:
    agent = await created(client, slug="x")
    for field in AgentPatch.model_fields:
        answer = await client.patch(f"{BASE}/x", json={field: None})
        found = error(answer, 400, "InvalidAgentConfig")["details"]["violations"]
        assert [violation["pointer"] for violation in found] == [f"/{field}"]
    assert (await client.get(f"{BASE}/x")).json() == agent


async def test_a_slug_is_never_an_id(client: httpx2.AsyncClient) -> None:
    other = await created(client, slug="other")
    named = await created(client, name=other["id"], publish=True)
    assert (await client.get(f"{BASE}/{named['slug']}")).json()["id"] == named["id"]
    assert (await client.get(f"{BASE}/{other['id']}")).json()["id"] == other["id"]
    answer = await client.post(BASE, json=agent_document(slug=other["id"]))
    found = error(answer, 400, "InvalidAgentConfig")["details"]["violations"]
    assert [violation["pointer"] for violation in found] == ["/slug"]


async def test_a_cursor_of_another_agents_versions_is_refused(client: httpx2.AsyncClient) -> None:
    for slug in ("one", "two"):
        await created(client, slug=slug, publish=True)
        await client.patch(f"{BASE}/{slug}", json={"config": config_document(instructions="n")})
    page = (await client.get(f"{BASE}/one/versions", params={"limit": 1})).json()
    params = {"cursor": page["next_cursor"]}
    assert (await client.get(f"{BASE}/one/versions", params=params)).status_code == 200
    for path in ("/two/versions", ""):
        error(await client.get(BASE + path, params=params), 400, "InvalidInput")


async def test_validation_saves_nothing_and_knows_what_is_taken(
    client: httpx2.AsyncClient,
) -> None:
    model = {"provider": "simulated", "name": "unpriced"}
    answer = await client.post(f"{BASE}/validate", json=agent_document({"model": model}))
    assert (answer.json()["valid"], answer.json()["violations"]) == (True, [])
    assert "no price" in answer.json()["warnings"][0]["message"]
    assert (await client.get(BASE)).json()["items"] == []
    await created(client, name="Taken", slug="taken")
    answer = await client.post(f"{BASE}/validate", json=agent_document(name="Taken", slug="taken"))
    pointers = [violation["pointer"] for violation in answer.json()["violations"]]
    assert (answer.json()["valid"], pointers) == (False, ["/name", "/slug"])


async def test_lists_are_filtered(
    client: httpx2.AsyncClient, owner: tuple[Caller, str], database: Database
) -> None:
    member, _ = await colleague(database, owner[0], "member")
    text_model = {"model": {"provider": "simulated", "name": "text"}}
    await make_agent(database, owner[0], slug="one", tags=["x", "y"], publish=True)
    await make_agent(database, owner[0], text_model, slug="two", tags=["y"], visibility="public")
    await make_agent(database, member, slug="three", description="100% of it")
    await client.post(f"{BASE}/one/deactivate")

    async def listed(**filters: Any) -> list[str]:
        answer = await client.get(BASE, params=filters)
        assert answer.status_code == 200, answer.text
        return [agent["slug"] for agent in answer.json()["items"]]

    assert await listed() == ["three", "two", "one"]
    assert await listed(status="published") == ["one"]
    assert await listed(status="draft") == ["three", "two"]
    assert await listed(visibility="public") == ["two"]
    assert await listed(tag="y") == ["two", "one"]
    assert await listed(tag="x", active=False) == ["one"]
    assert await listed(active=True) == ["three", "two"]
    assert await listed(owner=str(member.user_id)) == ["three"]
    assert await listed(model="text", provider="simulated") == ["two"]
    assert await listed(provider="openai") == []
    assert await listed(text="0% OF") == ["three"]
    assert await listed(text="TW") == ["two"]
    assert await listed(text="%") == ["three"]
    error(await client.get(BASE, params={"status": "gone"}), 400, "InvalidInput")
    error(await client.get(BASE, params={"text": "a\0"}), 400, "InvalidInput")
    error(await client.get(BASE, params={"tag": "x" * 201}), 400, "InvalidInput")
    for unknown in ({"q": "x"}, {"cursor": "zz"}):
        found = error(await client.get(BASE, params=unknown), 400, "InvalidInput")
        assert found["details"]["violations"][0]["pointer"] == f"/query/{next(iter(unknown))}"

    page = (await client.get(BASE, params={"limit": 2})).json()
    assert [agent["slug"] for agent in page["items"]] == ["three", "two"]
    rest = (await client.get(BASE, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert ([agent["slug"] for agent in rest["items"]], rest["next_cursor"]) == (["one"], None)


async def test_an_agent_without_runs_is_removed(
    client: httpx2.AsyncClient, owner: tuple[Caller, str], database: Database
) -> None:
    agent = await created(client, slug="x", publish=True)
    answer = await client.delete(f"{BASE}/x")
    assert answer.json() == {"id": agent["id"], "slug": "x", "outcome": "removed"}
    error(await client.get(f"{BASE}/x"), 404, "AgentNotFound")
    async with database.hot(owner[0].organization_id) as connection:
        assert await connection.fetchval("select count(*) from agent_versions") == 0
    assert (await events(database))[-1] == ("AgentDeleted", 1)
    await created(client, slug="x")


async def test_an_agent_with_runs_is_archived_unless_purged(
    client: httpx2.AsyncClient, owner: tuple[Caller, str], database: Database
) -> None:
    agent = await created(client, slug="x", publish=True, visibility="organization")
    await client.patch(f"{BASE}/x", json={"config": config_document(instructions="draft")})
    await record_run(database, owner[0], agent["id"])
    for _ in range(2):
        assert (await client.delete(f"{BASE}/x")).json()["outcome"] == "archived"
    found = (await client.get(f"{BASE}/x")).json()
    assert (found["status"], found["draft"], found["revision"]) == ("archived", None, 3)
    assert found["archived_at"] is not None
    assert (await client.get(BASE)).json()["items"] == []
    archived = (await client.get(BASE, params={"status": "archived"})).json()["items"]
    assert [one["slug"] for one in archived] == ["x"]
    error(await client.patch(f"{BASE}/x", json={"name": "y"}), 409, "AgentArchived")
    error(await client.post(f"{BASE}/x/activate"), 409, "AgentArchived")
    error(await client.post(f"{BASE}/x/publish"), 409, "AgentArchived")

    member, members = await colleague(database, owner[0], "member")
    own = await make_agent(database, member)
    async with members:
        answer = await members.delete(f"{BASE}/{own.id}", params={"purge": True})
        error(answer, 403, "InsufficientPermissions")
    answer = await client.delete(f"{BASE}/x", params={"purge": True})
    assert answer.json()["outcome"] == "removed"
    error(await client.get(f"{BASE}/x"), 404, "AgentNotFound")
    async with database.hot(owner[0].organization_id) as connection:
        assert await connection.fetchval("select count(*) from executions") == 1


async def test_activation_is_idempotent(client: httpx2.AsyncClient, database: Database) -> None:
    await created(client, slug="x")
    for _ in range(2):
        answer = await client.post(f"{BASE}/x/deactivate")
        assert (answer.json()["active"], answer.headers["ETag"]) == (False, '"2"')
    answer = await client.post(f"{BASE}/x/activate")
    assert (answer.json()["active"], answer.headers["ETag"]) == (True, '"3"')
    assert await events(database) == [
        ("AgentCreated", 1),
        ("AgentDeactivated", 2),
        ("AgentActivated", 3),
    ]


async def test_what_is_not_shared_within_an_organization(
    client: httpx2.AsyncClient, owner: tuple[Caller, str], database: Database
) -> None:
    await created(client, slug="mine")
    await created(client, slug="ours", visibility="organization", publish=True)
    member, members = await colleague(database, owner[0], "member")
    _, viewers = await colleague(database, owner[0], "viewer")
    async with members, viewers:
        for stranger in (members, viewers):
            error(await stranger.get(f"{BASE}/mine"), 403, "VisibilityViolation")
            error(await stranger.get(f"{BASE}/mine/versions"), 403, "VisibilityViolation")
            assert (await stranger.get(f"{BASE}/ours")).status_code == 200
            listed = (await stranger.get(BASE)).json()["items"]
            assert [agent["slug"] for agent in listed] == ["ours"]
        answer = await members.patch(f"{BASE}/ours", json={"name": "stolen"})
        error(answer, 403, "AgentAccessDenied")
        error(await members.delete(f"{BASE}/ours"), 403, "AgentAccessDenied")
        error(await viewers.post(BASE, json=agent_document()), 403, "InsufficientPermissions")
        answer = await members.get(f"{BASE}/our")
        assert error(answer, 404, "AgentNotFound")["details"]["nearest"] == ["ours"]
        answer = await members.get(f"{BASE}/min")
        assert error(answer, 404, "AgentNotFound")["details"]["nearest"] == []
        theirs = await make_agent(database, member, slug="theirs")
        assert (await members.patch(f"{BASE}/theirs", json={"name": "T"})).status_code == 200
    assert (await client.get(f"{BASE}/{theirs.id}")).status_code == 200


async def test_a_key_needs_the_scope(owner: tuple[Caller, str], database: Database) -> None:
    _, readers = await colleague(database, owner[0], "owner", "agents:read")
    await make_agent(database, owner[0], slug="x")
    async with readers:
        assert (await readers.get(f"{BASE}/x")).status_code == 200
        error(await readers.patch(f"{BASE}/x", json={"name": "y"}), 403, "AgentAccessDenied")
        error(await readers.post(BASE, json=agent_document()), 403, "AgentAccessDenied")


async def test_other_organizations_see_only_what_is_public(
    client: httpx2.AsyncClient, database: Database
) -> None:
    hidden = [
        await created(client, slug=visibility, visibility=visibility, publish=True)
        for visibility in ("private", "organization")
    ]
    public = await created(client, slug="public", visibility="public", publish=True)
    await client.patch(f"{BASE}/public", json={"config": config_document(instructions="secret")})
    unready = await created(client, slug="unready", visibility="public")
    _, key = await make_caller(database)
    async with client_of(make_agents_app(database), key) as other:
        for agent in (*hidden, unready):
            for path in ("", "/versions", "/versions/1.0.0"):
                error(await other.get(f"{BASE}/{agent['id']}{path}"), 404, "AgentNotFound")
            change = {"name": "stolen"}
            error(await other.patch(f"{BASE}/{agent['id']}", json=change), 404, "AgentNotFound")
            error(await other.delete(f"{BASE}/{agent['id']}"), 404, "AgentNotFound")
        answer = await other.get(f"{BASE}/organizatio")
        assert error(answer, 404, "AgentNotFound")["details"]["nearest"] == []

        found = (await other.get(f"{BASE}/{public['id']}")).json()
        assert (found["version"], found["draft"]) == ("1.0.0", None)
        versions = (await other.get(f"{BASE}/{public['id']}/versions")).json()["items"]
        assert [version["version"] for version in versions] == ["1.0.0"]
        error(await other.get(f"{BASE}/public"), 404, "AgentNotFound")
        error(await other.get(f"{BASE}/{public['id']}/versions/1.0.1"), 404, "VersionNotFound")
        for answer in (
            await other.patch(f"{BASE}/{public['id']}", json={"name": "stolen"}),
            await other.post(f"{BASE}/{public['id']}/publish"),
            await other.delete(f"{BASE}/{public['id']}", params={"purge": True}),
        ):
            error(answer, 403, "AgentAccessDenied")
        assert (await other.get(BASE)).json()["items"] == []
        shared = (await other.get(BASE, params={"shared": True})).json()["items"]
        assert [agent["slug"] for agent in shared] == ["public"]
    assert (await client.get(f"{BASE}/public")).json()["name"] == public["name"]


@pytest.mark.parametrize("ref", ["nope", "UPPER", "a%00b", "%FF", "x" * 300, str(UUID(int=7))])
async def test_what_names_no_agent_is_not_found(client: httpx2.AsyncClient, ref: str) -> None:
    error(await client.get(f"{BASE}/{ref}"), 404, "AgentNotFound")


async def test_the_description_shows_the_bodies(database: Database) -> None:
    described = make_agents_app(database).openapi()
    create = described["paths"][BASE]["post"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    assert {"name", "config"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert create["requestBody"]["required"]
    patch = described["paths"][f"{BASE}/{{agent}}"]["patch"]
    fields = patch["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert fields["name"]["type"] == "string"
    assert "pattern" in fields["name"]
    assert not any("default" in field for field in fields.values())
    for path in described["paths"].values():
        for operation in path.values():
            assert operation["operationId"]
            assert operation["summary"]


async def test_a_provider_without_a_key_is_refused_with_the_remedy(
    database: Database, owner: tuple[Caller, str], client: httpx2.AsyncClient
) -> None:
    model = {"provider": "anthropic", "name": "claude-sonnet-4-6", "temperature": 1.5}
    document = agent_document({"model": model}, publish=True)
    found = error(await client.post(BASE, json=document), 400, "InvalidAgentConfig")
    told = {one["pointer"]: one["message"] for one in found["details"]["violations"]}
    assert set(told) == {"/config/model/provider", "/config/model/temperature"}
    assert "'anthropic' is not connected: set ANTHROPIC_API_KEY" in told["/config/model/provider"]
    assert "at most 1, not 1.5" in told["/config/model/temperature"]

    here = make_agents_app(database, Installed(AVAILABLE, frozenset({"anthropic"})))
    async with client_of(here, owner[1]) as connected:
        found = error(await connected.post(BASE, json=document), 400, "InvalidAgentConfig")
        assert [one["pointer"] for one in found["details"]["violations"]] == [
            "/config/model/temperature"
        ]
        document["config"]["model"]["temperature"] = 1.0
        answer = await connected.post(BASE, json=document)
    assert answer.status_code == 201, answer.text
    assert answer.json()["warnings"] == []
