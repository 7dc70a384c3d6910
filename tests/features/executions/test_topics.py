"""Following all runs of a user, and who may follow what (EXE-10, TEN-5)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.streams import Told, events_of, serving
from tests.factories.tenancy import client_of, make_caller

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import new_id
from chargehand.tenancy import operations
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.tables import Organization

UNTOLD = {"output.delta", "output.reset", "log"}


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(
        database, clone.urls.system, tmp_path, longest_stream_s=60
    ) as running:
        yield running


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with serving(service.app) as address:
        yield address


def key_of(service: Service) -> dict[str, str]:
    return {"Authorization": service.client.headers["Authorization"]}


async def colleague(service: Service, role: Any = "member") -> tuple[Caller, str]:
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get_one(Organization, service.caller.organization_id)
    return await make_caller(service.database, role, ("admin",), organization)


async def stored(service: Service, user: Any) -> list[tuple[str, int, str]]:
    """The rows that the user's topic is made of, in its order."""
    async with service.database.hot(service.caller.organization_id) as connection:
        rows = await connection.fetch(
            "select execution_id::text, seq, type from events where user_id = $1 "
            "order by tx, execution_id, seq",
            user,
        )
    return [tuple(row) for row in rows if row["type"] not in UNTOLD]


async def told_of(stream: AsyncIterator[Told], runs: int) -> list[Told]:
    """What is told until so many runs are done, without positions."""
    found = list[Told]()
    async with asyncio.timeout(20):
        async for event in stream:
            if event.type is not None:
                found.append(event)
            if sum(one.type == "done" for one in found) == runs:
                break
    return found


def as_rows(told: list[Told]) -> list[tuple[str, str | None]]:
    return [(event.data["execution_id"], event.type) for event in told]


async def test_a_users_topic_tells_all_runs_but_not_their_text(service: Service, url: str) -> None:
    agent = await service.agent(capabilities={"todo": {}})
    async with aclosing(events_of(url, "/api/v1/me/events", **key_of(service))) as stream:
        first = await anext(stream)
        assert (first.type, first.data) == (None, None)
        scripts = ["@say one", '@call todo_write {"todos": []}\n@then\n@say two']
        await asyncio.gather(*(service.run(agent, script) for script in scripts))
        told = await told_of(stream, 2)
    rows = await stored(service, service.caller.user_id)
    assert as_rows(told) == [(run, kind) for run, _, kind in rows]
    assert [event.id for event in told] == sorted({event.id for event in told})
    assert {"tool.started", "usage"} < {event.type for event in told}


async def test_a_users_topic_goes_on_behind_any_event(service: Service, url: str) -> None:
    agent = await service.agent()
    async with aclosing(events_of(url, "/api/v1/me/events", **key_of(service))) as stream:
        start = (await anext(stream)).id
        for number in range(3):
            await service.run(agent, f"@say {number}")
        whole = await told_of(stream, 3)
    for cut in range(len(whole)):
        behind = whole[cut - 1].id if cut else start
        left = sum(event.type == "done" for event in whole[cut:])
        async with aclosing(
            events_of(url, "/api/v1/me/events", behind, **key_of(service))
        ) as stream:
            assert await told_of(stream, left) == whole[cut:]


async def test_a_users_topic_does_not_begin_with_what_is_long_over(
    service: Service, url: str
) -> None:
    agent = await service.agent()
    over = await service.run(agent, "@say Over.")
    await all_settled(service)
    async with aclosing(events_of(url, "/api/v1/me/events", **key_of(service))) as stream:
        await anext(stream)
        await service.run(agent, "@say New.")
        told = await told_of(stream, 1)
    assert over["id"] not in {event.data["execution_id"] for event in told}


async def all_settled(service: Service) -> None:
    """Wait until no transaction is older than those that are committed by now."""
    pool = service.database.system
    last = await pool.fetchval("select pg_snapshot_xmax(pg_current_snapshot())::text")
    async with asyncio.timeout(20):
        while not await pool.fetchval(
            "select pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8", last
        ):
            await asyncio.sleep(0.05)


async def test_an_admin_follows_a_member_and_a_member_nobody_else(
    service: Service, url: str
) -> None:
    member, key = await colleague(service)
    agent = await service.agent()
    path = f"/api/v1/me/events?user={member.user_id}"
    async with aclosing(events_of(url, path, **key_of(service))) as stream:
        await anext(stream)
        await service.run(agent, "@say mine")
        async with client_of(service.app, key) as client:
            answer = await client.post(f"/api/v1/agents/{agent}/execute", json={"input": "@say hi"})
            assert answer.status_code == 200, answer.text
            theirs = answer.json()["id"]
            told = await told_of(stream, 1)
            other = await client.get(f"/api/v1/me/events?user={service.caller.user_id}")
    assert {event.data["execution_id"] for event in told} == {theirs}
    assert (other.status_code, other.json()["error"]["code"]) == (403, "InsufficientPermissions")


async def test_a_user_of_another_organization_is_unknown(service: Service) -> None:
    stranger, _ = await make_caller(service.database)
    answer = await service.client.get(f"/api/v1/me/events?user={stranger.user_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MemberNotFound")
    wrong = await service.client.get("/api/v1/me/events", headers={"Last-Event-ID": "1.7"})
    assert wrong.status_code == 400


async def test_a_users_topic_holds_the_runs_of_one_organization(service: Service, url: str) -> None:
    """The same user elsewhere: those runs are the other organization's to tell."""
    other, key = await make_caller(service.database)
    async with service.database.transaction(other.organization_id) as session:
        await operations.add_member(
            session, other.organization_id, service.caller.user_id, "member"
        )
    agent = await service.agent()
    async with aclosing(
        events_of(
            url,
            f"/api/v1/me/events?user={service.caller.user_id}",
            Authorization=f"Bearer {key}",
        )
    ) as stream:
        await anext(stream)
        done = await service.run(agent, "@say secret")
        assert done["status"] == "completed"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await anext(stream)


EVENT = """
insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
values ($1, $2, $3, $4, 1, 'step.started', '{}', now())
"""


async def test_concurrent_writers_lose_no_event_of_a_users_topic(
    service: Service, url: str, clone: TestDatabase
) -> None:
    """Many short transactions beside long ones, whose events commit behind younger ones."""
    organization, user = service.caller.organization_id, service.caller.user_id
    pool = await asyncpg.create_pool(clone.owner_url, min_size=10, max_size=10)
    stop = asyncio.Event()
    written = 0

    async def write(pause_s: float) -> None:
        nonlocal written
        async with pool.acquire() as connection:
            while not stop.is_set():
                run, seq = new_id(), 0
                async with connection.transaction():
                    for _ in range(2):
                        seq += 1
                        await connection.execute(EVENT, run, seq, organization, user)
                        await asyncio.sleep(pause_s)
                written += seq

    async def count_naively() -> int:
        """What a cursor sees that tells each event as soon as it is committed."""
        last, found = "0", 0
        while not stop.is_set():
            rows = await pool.fetch(
                "select tx::text from events where tx > $1::text::xid8 order by tx", last
            )
            last, found = (rows[-1][0] if rows else last), found + len(rows)
        return found

    path = "/api/v1/me/events"
    heard, behind = list[Told](), None

    async def listen() -> None:
        nonlocal behind
        async with aclosing(events_of(url, path, behind, **key_of(service))) as stream:
            async for event in stream:
                behind = event.id
                if event.type is not None:
                    heard.append(event)

    await pool.execute("alter table events no force row level security")
    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(30):
            while behind is None:
                await asyncio.sleep(0.01)
            writers = [asyncio.create_task(write(pause)) for pause in [0.0] * 6 + [0.02, 0.1, 0.6]]
            counting = asyncio.create_task(count_naively())
            await asyncio.sleep(2.5)
            stop.set()
            await asyncio.gather(*writers)
            found = await counting
            while len(heard) < written:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass  # what is missing is told below
    finally:
        stop.set()
        listening.cancel()
        await asyncio.wait({listening})
        await pool.close()
    rows = await stored(service, user)
    assert [event.data["execution_id"] for event in heard] == [run for run, _, _ in rows]
    assert written > 1000
    assert found < written, "no transaction was overtaken, so nothing was tested"
