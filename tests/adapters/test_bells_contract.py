"""One contract for what carries rings: PostgreSQL's NOTIFY, and Redis."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis
from tests.conftest import TestDatabase
from tests.factories.redis_server import own_redis, redis_url

from chargehand.adapters.redis_bells import RedisWire
from chargehand.kernel.bells import Bell, Listener, PostgresWire, Wire, WireBroken
from chargehand.kernel.database import Database
from chargehand.kernel.errors import Invalid

Cut = Callable[[], Awaitable[None]]


@dataclass
class Carried:
    """A wire, a way to cut off who listens on it, and a wire whose server is away."""

    wire: Wire
    cut: Cut
    broken: Wire


@pytest.fixture(params=["postgresql", "redis"])
async def carried(
    request: pytest.FixtureRequest, clone: TestDatabase, database: Database
) -> AsyncIterator[Carried]:
    if request.param == "redis":
        with redis_url() as url:
            wire, broken = RedisWire(url), RedisWire("unix:///nowhere/socket")
            yield Carried(wire, lambda: cut_redis(url), broken)
            await wire.close()
            await broken.close()
        return
    pool = await asyncpg.create_pool(clone.urls.app, min_size=1, max_size=1)
    await pool.close()
    wire = PostgresWire(database.app, clone.urls.app)
    broken = PostgresWire(pool, "postgresql:///nowhere?host=/nowhere")
    yield Carried(wire, lambda: cut_postgresql(clone.owner_url), broken)
    await wire.close()


async def cut_postgresql(owner_url: str) -> None:
    connection = await asyncpg.connect(owner_url)
    await connection.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and query ilike 'listen%'"
    )
    await connection.close()


async def cut_redis(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.client_kill_filter(_type="pubsub")


@dataclass
class Ears:
    heard: asyncio.Queue[tuple[str, str]]
    connected: asyncio.Queue[None]

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(10):
            return await self.heard.get()


@pytest.fixture
def channel() -> str:
    """A name that no test beside this one uses: a Redis server may be shared."""
    return f"test_{uuid4().hex}"


@pytest.fixture
async def ears(carried: Carried, channel: str) -> AsyncIterator[Ears]:
    """Hears the channel and one beside it, from when it has connected."""
    ears = Ears(asyncio.Queue(), asyncio.Queue())
    listener = Listener(
        carried.wire,
        [channel, f"{channel}_2"],
        lambda name, payload: ears.heard.put_nowait((name, payload)),
        lambda: ears.connected.put_nowait(None),
    )
    listener.start()
    async with asyncio.timeout(10):
        await ears.connected.get()
    yield ears
    await listener.stop()


async def test_each_payload_is_heard_on_its_channel(
    carried: Carried, ears: Ears, channel: str
) -> None:
    await carried.wire.send(channel, ["one", "two"])
    await carried.wire.send(f"{channel}_2", ["three"])
    await carried.wire.send(f"{channel}_3", ["unheard"])
    await carried.wire.send(channel, ["four"])
    heard = {await ears.next() for _ in range(4)}
    assert heard == {
        (channel, "one"),
        (channel, "two"),
        (f"{channel}_2", "three"),
        (channel, "four"),
    }


async def test_many_payloads_travel_together(carried: Carried, ears: Ears, channel: str) -> None:
    sent = [f"{number:064}" for number in range(1000)]
    bell = Bell(carried.wire, channel)
    for payload in sent:
        bell.ring(payload)
        bell.ring(payload)
    await bell.close()
    assert [(await ears.next())[1] for _ in sent] == sent
    assert ears.heard.empty()


async def test_two_listeners_both_hear(carried: Carried, ears: Ears, channel: str) -> None:
    second, connected = asyncio.Queue[str](), asyncio.Event()
    listener = Listener(
        carried.wire, [channel], lambda _, payload: second.put_nowait(payload), connected.set
    )
    listener.start()
    async with asyncio.timeout(10):
        await connected.wait()
        await carried.wire.send(channel, ["both"])
        assert (await ears.next(), await second.get()) == ((channel, "both"), "both")
    await listener.stop()


async def test_who_is_cut_off_connects_again_and_is_told(
    carried: Carried, ears: Ears, channel: str
) -> None:
    """Told, because what was rung meanwhile is lost."""
    assert ears.connected.empty()
    await carried.cut()
    async with asyncio.timeout(10):
        await ears.connected.get()
    await carried.wire.send(channel, ["again"])
    assert await ears.next() == (channel, "again")


async def test_a_ring_on_a_broken_wire_is_lost_without_a_noise(
    carried: Carried, channel: str
) -> None:
    with pytest.raises(WireBroken):
        await carried.broken.send(channel, ["x"])
    with pytest.raises(WireBroken):
        await carried.broken.listen([channel], lambda *_: None, lambda: None)
    bell = Bell(carried.broken, channel)
    bell.ring("lost")
    async with asyncio.timeout(10):
        await bell.close()


async def test_redis_may_come_back(channel: str) -> None:
    heard, connected = asyncio.Queue[str](), asyncio.Queue[None]()
    with own_redis() as server:
        wire = RedisWire(server.url)
        listener = Listener(
            wire,
            [channel],
            lambda _, payload: heard.put_nowait(payload),
            lambda: connected.put_nowait(None),
        )
        listener.start()
        async with asyncio.timeout(20):
            await connected.get()
            server.kill()
            with pytest.raises(WireBroken):
                await wire.send(channel, ["lost"])
            server.start()
            await connected.get()
            await wire.send(channel, ["heard"])
            assert await heard.get() == "heard"
        await listener.stop()
        await wire.close()


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    present: dict[str, Any] = {name: None for name in sys.modules if name.startswith("redis")}
    for name in {*present, "redis", "redis.asyncio"}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Invalid, match=r"chargehand\[redis\]"):
        RedisWire("redis://localhost")
