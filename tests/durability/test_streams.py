"""What followers are told when everything around them dies (EXE-10).

One run is followed over a key, and with a token over the hub and over the live socket. Each
follower drops its connection after every event and comes back with that event's id; meanwhile the
worker, PostgreSQL, the API and Redis are killed with -9. What each was told, put together, is the
story that is stored, for a token without the log; and its lines of the log are those of the log.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from tests.conftest import TestDatabase
from tests.factories.api_process import running_api
from tests.factories.fleet import Fleet, fleet_on, pid_of
from tests.factories.redis_server import OwnRedis, own_redis
from tests.factories.streams import Told, events_of, hear, live_socket, say
from tests.factories.tenancy import make_caller
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from chargehand.adapters import embedded_postgres
from chargehand.adapters.embedded_postgres import EmbeddedPostgres
from chargehand.executions.schemas import LogView
from chargehand.executions.stories import LOST
from chargehand.kernel import schema
from chargehand.kernel.database import Database, connect

WORDS = " ".join(f"word{number}" for number in range(120))
SCRIPT = f"""
@call todo_write {{"todos": [{{"content": "look", "status": "pending"}}]}}
@then
@pace 20ms
@say First I look around, and say so at some length, in pieces.
@call todo_write {{"todos": []}}
@then
@pace 50ms
@say {WORDS}
"""
BROKEN = (httpx2.HTTPError, ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


@dataclass
class Installation:
    """A server, an API and workers of this test's own, all of which can be killed."""

    server: EmbeddedPostgres
    database: TestDatabase
    fleet: Fleet
    key: str
    redis: OwnRedis | None
    url: str = ""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start_api(self) -> None:
        """Start it, killing the one before; clients find the address in ``url``."""
        self.held.close()
        self.url = self.held.enter_context(running_api(self.database, **rings_over(self.redis)))

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=20
        )

    def kill_postgres(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="chargehand-tests-"))
    # As root the server runs as another user, which must be able to reach its cluster.
    folder.chmod(0o711)
    # What is not waited for stays long unwritten: a crash is to lose it.
    with embedded_postgres.start(folder, settings={"wal_writer_delay": "10s"}) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


def rings_over(redis: OwnRedis | None) -> dict[str, str]:
    return {} if redis is None else {"REDIS_URL": redis.url}


@pytest.fixture(params=["postgresql", "redis"])
def redis(request: pytest.FixtureRequest) -> Iterator[OwnRedis | None]:
    if request.param == "postgresql":
        yield None
        return
    with own_redis() as started:
        yield started


@pytest.fixture
async def installation(
    server: EmbeddedPostgres, redis: OwnRedis | None, tmp_path: Path
) -> AsyncIterator[Installation]:
    urls = schema.runtime_urls(server.dsn)
    await schema.migrate(server.dsn, urls)
    opened: Database = await connect(urls.app, urls.system, pool_size=2)
    _, key = await make_caller(opened)
    await opened.close()
    database = TestDatabase(server.dsn, urls)
    settings = {"CHARGEHAND_MAX_LOSSES": "50", **rings_over(redis)}
    with fleet_on(database, tmp_path, **settings) as fleet:
        installation = Installation(server, database, fleet, key, redis)
        try:
            installation.start_api()
            fleet.start()
            yield installation
        finally:
            installation.held.close()


async def begin(installation: Installation, script: str) -> str:
    config = {
        "model": {"provider": "simulated", "name": "standard"},
        "capabilities": {"todo": {}},
    }
    async with installation.client() as client:
        made = await client.post(
            "/api/v1/agents", json={"name": "Teller", "config": config, "publish": True}
        )
        assert made.status_code == 201, made.text
        started = await client.post(
            f"/api/v1/agents/{made.json()['slug']}/execute", json={"input": script, "mode": "async"}
        )
        assert started.status_code == 202, started.text
        return started.json()["id"]


async def token_for(installation: Installation, execution: str) -> str:
    async with installation.client() as client:
        answer = await client.post(f"/api/v1/executions/{execution}/subscription-token")
        assert answer.status_code == 200, answer.text
        return answer.json()["token"]


@dataclass
class Follower:
    """Connects, hears one event, and hangs up, until it has heard the last one."""

    next_behind: Callable[[str | None], Awaitable[Told | None]]
    with_log: bool
    told: list[Told] = field(default_factory=list[Told])
    connections: int = 0

    async def follow(self) -> None:
        while not self.told or self.told[-1].type != "done":
            behind = self.told[-1].id if self.told else None
            self.connections += 1
            try:
                async with asyncio.timeout(10):
                    event = await self.next_behind(behind)
            except BROKEN:
                await asyncio.sleep(0.05)
                continue
            if event is not None:
                self.told.append(event)


def followers(installation: Installation, execution: str, token: str) -> list[Follower]:
    topic = f"agent/{execution}"

    async def by_stream(path: str, behind: str | None, **headers: str) -> Told | None:
        async with aclosing(events_of(installation.url, path, behind, **headers)) as stream:
            return await anext(stream, None)

    async def over_key(behind: str | None) -> Told | None:
        path, key = f"/api/v1/executions/{execution}/events", f"Bearer {installation.key}"
        return await by_stream(path, behind, Authorization=key)

    async def over_hub(behind: str | None) -> Told | None:
        return await by_stream(f"/api/v1/hub?topic={topic}&token={token}", behind)

    async def over_socket(behind: str | None) -> Told | None:
        async with live_socket(installation.url, query=f"?token={token}") as connection:
            await say(connection, subscribe=topic, last_event_id=behind)
            assert (await hear(connection))["type"] == "subscribed"
            message = await hear(connection)
            return Told(message["id"], message["type"], message["data"])

    return [Follower(over_key, True), Follower(over_hub, False), Follower(over_socket, False)]


def is_lost(event: Told) -> bool:
    return event.type == "output.reset" and event.data == {"reason": LOST}


def put_together(told: list[Told]) -> list[Told]:
    """What a follower has in the end: of what was lost, only text, it drops what it was told."""
    kept = list[Told]()
    for event in told:
        if not is_lost(event):
            kept.append(event)
            continue
        while kept and kept[-1].id != event.id:
            assert kept.pop().type in ("output.delta", "output.reset")
    return kept


def text_of(story: list[Told]) -> str:
    """The text of the last step, as who shows it has it."""
    text = ""
    for event in story:
        if event.type == "output.delta":
            text += event.data["text"]
        elif event.type in ("output.reset", "step.started"):
            text = ""
    return text


async def stored(installation: Installation, execution: str) -> tuple[list[Told], list[LogView]]:
    """The run's events and the lines of its log."""
    opened = await connect(*_urls(installation), pool_size=2)
    try:
        async with opened.across() as connection:
            organization = await connection.fetchval("select id from organizations")
        async with opened.hot(organization) as connection:
            rows = await connection.fetch(
                "select epoch, seq, type, data from events where execution_id = $1 order by seq",
                execution,
            )
            lines = await connection.fetch(
                "select seq as id, level, event_type, message, context, at from logs "
                "where execution_id = $1 order by seq",
                execution,
            )
        events = [Told(f"{r['epoch']}.{r['seq']}", r["type"], r["data"]) for r in rows]
        return events, [LogView.model_validate(dict(line)) for line in lines]
    finally:
        await opened.close()


def _urls(installation: Installation) -> tuple[str, str]:
    return installation.database.urls.app, installation.database.urls.system


async def deltas(follower: Follower, count: int) -> None:
    """Wait until the follower was told so many more pieces of text."""
    seen = len(follower.told)
    async with asyncio.timeout(20):
        while sum(event.type == "output.delta" for event in follower.told[seen:]) < count:
            await asyncio.sleep(0.01)


def owner_of(follower: Follower) -> int:
    claims = [e for e in follower.told if e.type == "status.changed" and e.data.get("worker")]
    return pid_of(claims[-1].data["worker"])


async def kill_everything(installation: Installation, follower: Follower) -> None:
    """The worker, the API, Redis; and PostgreSQL, until it lost text that was told.

    Where rings go over PostgreSQL, each writes what came before it to the disk, so that there is
    hardly any text to lose.
    """
    await deltas(follower, 4)
    installation.fleet.spawn()
    installation.fleet.signal(owner_of(follower), signal.SIGKILL)
    await deltas(follower, 2)
    installation.start_api()
    await deltas(follower, 2)
    if installation.redis is None:
        installation.kill_postgres()
        await deltas(follower, 2)
        return
    # Whatever waits for the disk takes the text before it along, so that it may take several.
    for _ in range(12):
        installation.kill_postgres()
        await deltas(follower, 3)
        if any(is_lost(event) for event in follower.told):
            break
    else:
        raise AssertionError("no text was lost, so nothing was tested")
    installation.redis.kill()
    await deltas(follower, 2)
    installation.redis.start()


async def test_whatever_dies_each_follower_is_told_the_story_that_is_stored(
    installation: Installation,
) -> None:
    execution = await begin(installation, SCRIPT)
    all_of_them = followers(installation, execution, await token_for(installation, execution))
    async with asyncio.timeout(100), asyncio.TaskGroup() as following:
        for follower in all_of_them:
            following.create_task(follower.follow())
        await kill_everything(installation, all_of_them[0])

    rows, lines = await stored(installation, execution)
    whole = [
        event
        async for event in events_of(
            installation.url,
            f"/api/v1/executions/{execution}/events",
            Authorization=f"Bearer {installation.key}",
        )
    ]
    assert whole == rows
    assert {event.id.split(".")[0] for event in rows} >= {"0", "1", "2"}
    for follower in all_of_them:
        told = [event for event in rows if follower.with_log or event.type != "log"]
        assert put_together(follower.told) == told
        assert text_of(follower.told) == text_of(rows) == WORDS
        assert follower.connections >= len(follower.told)
    assert len(rows) == len({event.id for event in rows})
    logged = [event for event in put_together(all_of_them[0].told) if event.type == "log"]
    assert [LogView.model_validate(event.data) for event in logged] == lines
    assert {"execution.claimed", "execution.taken_over"} < {line.event_type for line in lines}
