"""Following without a key: tokens, the hub, and the live socket (EXE-10, TEN-0, TEN-3)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import jwt
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.streams import Told, events_of, hear, live_socket, say, serving
from tests.factories.tenancy import client_of, make_caller
from websockets.exceptions import InvalidStatus

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.tenancy.tables import Organization

PAGE = "https://app.example.com"
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database, clone.urls.system, tmp_path, longest_stream_s=60
    ) as running:
        running.app.state.cors_origins = frozenset({PAGE})
        yield running


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with serving(service.app) as address:
        yield address


@pytest.fixture
async def agent(service: Service) -> str:
    return await service.agent()


async def begin(client: httpx2.AsyncClient, agent: str, script: str = "@delay 60s") -> str:
    body = {"input": script, "mode": "async"}
    answer = await client.post(f"/api/v1/agents/{agent}/execute", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def token_for(client: httpx2.AsyncClient, execution: str | None = None) -> dict[str, Any]:
    of = f"/executions/{execution}" if execution else ""
    answer = await client.post(f"/api/v1{of}/subscription-token")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def hub(made: dict[str, Any], topic: str | None = None) -> str:
    return f"/api/v1/hub?topic={topic or made['topic']}&token={made['token']}"


async def whole(stream: AsyncIterator[Told]) -> list[Told]:
    async with asyncio.timeout(10):
        return [event async for event in stream]


async def refusal(url: str, path: str, **headers: str) -> tuple[int, str]:
    """The status and the code with which a stream is refused."""
    async with httpx2.AsyncClient(base_url=url) as client:
        async with asyncio.timeout(5):
            answer = await client.get(path, headers=headers)
        return answer.status_code, answer.json()["error"]["code"]


async def test_a_runs_token_opens_the_run_at_the_hub_as_a_key_does_but_for_its_log(
    service: Service, url: str, agent: str
) -> None:
    done = await service.run(agent, "@say Hello.")
    made = await token_for(service.client, done["id"])
    assert made["topic"] == f"agent/{done['id']}"
    assert made["hub_url"] == "http://chargehand.test/api/v1/hub"
    by_key = [Told(*event) for event in await service.events(done["id"])]
    by_token = [event for event in by_key if event.type != "log"]
    assert await whole(events_of(url, hub(made))) == by_token
    header = {"Authorization": f"Bearer {made['token']}"}
    by_header = events_of(url, f"/api/v1/hub?topic={made['topic']}", by_token[2].id, **header)
    assert await whole(by_header) == by_token[3:]
    assert await whole(events_of(url, hub(made), by_token[-1].id)) == []


async def test_a_users_token_opens_the_users_topic(service: Service, url: str, agent: str) -> None:
    made = await token_for(service.client)
    assert made["topic"] == f"user/{service.caller.user_id}/agents"
    async with aclosing(events_of(url, hub(made))) as stream:
        await anext(stream)
        done = await service.run(agent, "@say Hello.")
        async with asyncio.timeout(5):
            while (await anext(stream)).data["execution_id"] != done["id"]:
                pass


async def test_a_token_opens_no_other_topic(service: Service, url: str, agent: str) -> None:
    first, second = [await service.run(agent, f"@say {n}") for n in range(2)]
    made = await token_for(service.client, first["id"])
    for topic in (f"agent/{second['id']}", f"user/{service.caller.user_id}/agents"):
        assert await refusal(url, hub(made, topic)) == (403, "InsufficientPermissions")
    assert await refusal(url, hub(made, "agent/7")) == (400, "InvalidInput")
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert await refusal(url, "/api/v1/executions", **headers) == (401, "Unauthenticated")


async def test_a_member_gets_no_token_for_what_is_not_the_members(
    service: Service, agent: str
) -> None:
    run = await service.run(agent, "@say Hello.")
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get_one(Organization, service.caller.organization_id)
    _, key = await make_caller(service.database, "member", ("executions:read",), organization)
    async with client_of(service.app, key) as member:
        for path in (
            f"/executions/{run['id']}/subscription-token",
            f"/subscription-token?user={service.caller.user_id}",
        ):
            answer = await member.post(f"/api/v1{path}")
            assert answer.status_code == 403, (path, answer.text)
        assert (await member.post("/api/v1/subscription-token")).status_code == 200
    _, key = await make_caller(service.database)
    async with client_of(service.app, key) as stranger:
        answer = await stranger.post(f"/api/v1/executions/{run['id']}/subscription-token")
        assert answer.status_code == 404
    _, key = await make_caller(service.database, "owner", ("agents:read",), organization)
    async with client_of(service.app, key) as narrow:
        answer = await narrow.post("/api/v1/subscription-token")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AgentAccessDenied")


async def signing_key(service: Service) -> bytes:
    return await service.database.system.fetchval("select secret from installation_secrets")


@pytest.mark.parametrize("wrong", ["signature", "expired", "algorithm", "audience", "no key"])
async def test_a_token_that_is_not_whole_is_refused(
    service: Service, url: str, agent: str, wrong: str
) -> None:
    made = await token_for(service.client)
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    secret, algorithm = await signing_key(service), "HS256"
    assert claims["exp"] - claims["iat"] == 3600
    if wrong == "signature":
        secret = bytes(32)
    elif wrong == "expired":
        claims["exp"] = now() - timedelta(seconds=1)
    elif wrong == "algorithm":
        secret, algorithm = "", "none"
    elif wrong == "audience":
        claims["aud"] = "another"
    else:
        del claims["key"]
    forged = jwt.encode(claims, secret, algorithm=algorithm)
    assert await refusal(url, hub({**made, "token": forged})) == (401, "Unauthenticated")


async def test_nobody_but_the_system_role_reads_the_signing_key(service: Service) -> None:
    assert len(await signing_key(service)) == 32
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.database.app.fetchval("select secret from installation_secrets")


async def test_a_revoked_keys_streams_and_tokens_stop_within_five_seconds(
    service: Service, url: str, agent: str
) -> None:
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get_one(Organization, service.caller.organization_id)
    doomed, key = await make_caller(service.database, "owner", ("admin",), organization)
    run = await begin(service.client, agent)
    async with client_of(service.app, key) as client:
        made = await token_for(client, run)
    streams = [
        events_of(url, hub(made)),
        events_of(url, f"/api/v1/executions/{run}/events", Authorization=f"Bearer {key}"),
        events_of(url, "/api/v1/me/events", Authorization=f"Bearer {key}"),
    ]
    kept = events_of(
        url,
        f"/api/v1/executions/{run}/events",
        Authorization=service.client.headers["Authorization"],
    )
    async with live_socket(url, query=f"?token={made['token']}") as connection, aclosing(kept):
        for stream in (*streams, kept):
            await anext(stream)
        await say(connection, subscribe=made["topic"])
        # As another process would do it: nothing here is told.
        async with service.database.hot(service.caller.organization_id) as raw:
            await raw.execute("update api_keys set revoked_at = now() where id = $1", doomed.key_id)
        async with asyncio.timeout(5):
            for stream in streams:
                async for _ in stream:
                    pass
            await connection.wait_closed()
        assert connection.close_code == 4401
        assert await refusal(url, hub(made)) == (401, "Unauthenticated")
        await service.client.post(f"/api/v1/executions/{run}/cancel")
        assert [event.type async for event in kept][-1] == "done"


async def test_a_member_who_becomes_a_viewer_is_judged_anew(
    service: Service, url: str, agent: str
) -> None:
    """Whoever followed others' runs as an admin does so no longer."""
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get_one(Organization, service.caller.organization_id)
    admin, key = await make_caller(service.database, "admin", ("admin",), organization)
    path = f"/api/v1/me/events?user={service.caller.user_id}"
    async with aclosing(events_of(url, path, Authorization=f"Bearer {key}")) as stream:
        await anext(stream)
        async with service.database.hot(service.caller.organization_id) as raw:
            await raw.execute(
                "update memberships set role = 'member' where user_id = $1", admin.user_id
            )
        async with asyncio.timeout(5):
            assert [event async for event in stream] == []


async def test_a_stream_ends_when_its_token_expires(service: Service, url: str, agent: str) -> None:
    made = await token_for(service.client)
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    claims["exp"] = now() + timedelta(seconds=2)
    short = jwt.encode(claims, await signing_key(service), algorithm="HS256")
    async with asyncio.timeout(6):
        told = [event async for event in events_of(url, hub({**made, "token": short}))]
    assert [event.type for event in told] == [None]


async def test_a_key_in_an_address_is_refused(service: Service, url: str) -> None:
    key = service.client.headers["Authorization"].removeprefix("Bearer ")
    topic = f"user/{service.caller.user_id}/agents"
    async with httpx2.AsyncClient(base_url=url) as client:
        answer = await client.get(f"/api/v1/hub?topic={topic}&token={key}")
    assert answer.status_code == 401
    assert "revoke this key" in answer.json()["error"]["message"]
    with pytest.raises(InvalidStatus) as refused:
        async with live_socket(url, query=f"?token={key}"):
            pass
    assert refused.value.response.status_code == 401


async def test_a_page_needs_a_token_and_an_allowed_origin(
    service: Service, url: str, agent: str
) -> None:
    made = await token_for(service.client)
    key = {"Authorization": service.client.headers["Authorization"]}
    with_token = {"query": f"?token={made['token']}"}
    for headers, options, status in (
        ({**key, "Origin": PAGE}, {}, 401),
        ({"Origin": "https://evil.example"}, with_token, 403),
        ({}, {}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with live_socket(url, headers, **options):
                pass
        assert refused.value.response.status_code == status
        assert b'"request_id":"req_' in refused.value.response.body
    for headers in ({"Origin": PAGE}, {"Origin": url}, {}):
        async with live_socket(url, headers, **with_token) as connection:
            await say(connection, subscribe=made["topic"])
            assert (await hear(connection))["type"] == "subscribed"
    assert await refusal(url, f"/api/v1/hub?topic={made['topic']}", Origin=PAGE, **key) == (
        401,
        "Unauthenticated",
    )


async def test_only_an_allowed_origin_may_read_the_hub(
    service: Service, url: str, agent: str
) -> None:
    done = await service.run(agent, "@say Hello.")
    made = await token_for(service.client, done["id"])
    async with httpx2.AsyncClient(base_url=url) as client:
        allowed = await client.get(hub(made), headers={"Origin": PAGE})
        other = await client.get(hub(made), headers={"Origin": "https://evil.example"})
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert allowed.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in other.headers


async def test_a_page_may_come_back_with_its_last_event_and_read_why_it_is_refused(
    service: Service, url: str, agent: str
) -> None:
    """A browser asks before it sends that header, and hides an answer that allows no origin."""
    asked = {"Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "last-event-id"
    async with httpx2.AsyncClient(base_url=url) as client:
        allowed = await client.options("/api/v1/hub", headers={**asked, "Origin": PAGE})
        other = await client.options("/api/v1/hub", headers={**asked, "Origin": "https://evil.net"})
        elsewhere = await client.options("/api/v1/agents", headers={**asked, "Origin": PAGE})
        refused = await client.get("/api/v1/hub?topic=x&token=x", headers={"Origin": PAGE})
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "Last-Event-ID" in allowed.headers["access-control-allow-headers"].split(", ")
    assert allowed.headers["x-request-id"].startswith("req_")
    for answer in (other, elsewhere):
        assert answer.status_code == 405
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


async def test_a_socket_follows_many_topics_and_leaves_them(
    service: Service, url: str, agent: str
) -> None:
    key = {"Authorization": service.client.headers["Authorization"]}
    ended = await service.run(agent, "@say Hello.")
    story = [list(event) for event in await service.events(ended["id"])]
    user = f"user/{service.caller.user_id}/agents"
    async with live_socket(url, key) as connection:
        await say(connection, subscribe=f"agent/{ended['id']}", last_event_id=story[1][0])
        heard = [await hear(connection) for _ in range(len(story))]
        assert {message["topic"] for message in heard} == {f"agent/{ended['id']}"}
        assert (heard[0]["id"], heard[0]["type"]) == (story[1][0], "subscribed")
        assert [[m["id"], m["type"], m["data"]] for m in heard[1:-1]] == story[2:]
        assert heard[-1]["type"] == "unsubscribed"

        await say(connection, subscribe=user)
        assert (await hear(connection))["type"] == "subscribed"
        running = await begin(service.client, agent)
        # What an older transaction held up may still come first.
        while (await hear(connection))["data"]["execution_id"] != running:
            pass
        await say(connection, unsubscribe=user)
        while (message := await hear(connection))["type"] != "unsubscribed":
            assert message["topic"] == user
        await service.client.post(f"/api/v1/executions/{running}/cancel")
        await say(connection, subscribe=f"agent/{running}")
        told = [(await hear(connection))["type"]]
        while told[-1] != "unsubscribed":
            told.append((await hear(connection))["type"])
        assert (told[0], told[-2]) == ("subscribed", "done")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not json", "InvalidInput"),
        ("[]", "InvalidInput"),
        ('{"subscribe": 7}', "InvalidInput"),
        ('{"subscribe": "a", "unsubscribe": "a"}', "InvalidInput"),
        ('{"subscribe": "agent/nobody"}', "InvalidInput"),
        (f'{{"subscribe": "agent/{NOBODY}"}}', "ExecutionNotFound"),
        (f'{{"subscribe": "user/{NOBODY}/agents"}}', "MemberNotFound"),
        ('{"subscribe": "{mine}", "last_event_id": "1.1"}', "InvalidInput"),
        (b"\xff\xfe", "InvalidInput"),
    ],
)
async def test_a_socket_says_what_is_wrong_and_stays_open(
    service: Service, url: str, message: Any, code: str
) -> None:
    mine = f"user/{service.caller.user_id}/agents"
    key = {"Authorization": service.client.headers["Authorization"]}
    async with live_socket(url, key) as connection:
        if isinstance(message, str):
            message = message.replace("{mine}", mine)
        await connection.send(message)
        answer = await hear(connection)
        assert (answer["type"], answer["id"], answer["data"]["code"]) == ("error", None, code)
        await say(connection, subscribe=mine)
        assert (await hear(connection))["type"] == "subscribed"


async def test_a_sockets_token_opens_its_topic_only(service: Service, url: str, agent: str) -> None:
    first, second = [await service.run(agent, f"@say {n}") for n in range(2)]
    made = await token_for(service.client, first["id"])
    async with live_socket(url, {"Authorization": f"Bearer {made['token']}"}) as connection:
        await say(connection, subscribe=f"agent/{second['id']}")
        refused = await hear(connection)
        assert refused["data"]["code"] == "InsufficientPermissions"
        await say(connection, subscribe=made["topic"])
        assert (await hear(connection))["type"] == "subscribed"
