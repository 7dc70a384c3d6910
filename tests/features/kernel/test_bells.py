"""Bells: several rings in one notification, and listeners that outlive their connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.kernel.bells import PAYLOAD_BYTES, Bell, Listener, PostgresWire, packed
from chargehand.kernel.database import Database

CHANNEL = "test_bells"


@given(st.lists(st.text("0123456789abcdef-", min_size=1, max_size=400), max_size=100))
def test_packing_keeps_every_payload_in_order_and_stays_within_the_limit(
    payloads: list[str],
) -> None:
    batches = list(packed(payloads))
    assert [part for batch in batches for part in batch.split("\n")] == payloads
    assert all(len(batch) <= PAYLOAD_BYTES for batch in batches)


def test_packing_makes_no_more_notifications_than_it_must() -> None:
    assert len(list(packed(["x" * 36] * (PAYLOAD_BYTES // 37)))) == 1
    assert len(list(packed(["x" * 36] * (PAYLOAD_BYTES // 37 + 1)))) == 2


@pytest.fixture
async def notifications(database: Database) -> AsyncIterator[asyncio.Queue[str]]:
    """What PostgreSQL sends on the channel, one item per notification."""
    received = asyncio.Queue[str]()

    def on_notification(_connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        received.put_nowait(payload)

    async with database.app.acquire() as connection:
        await connection.add_listener(CHANNEL, on_notification)
        yield received
        await connection.remove_listener(CHANNEL, on_notification)


async def test_equal_rings_that_wait_together_are_one_notification(
    database: Database, notifications: asyncio.Queue[str]
) -> None:
    bell = Bell(PostgresWire(database.app), CHANNEL)
    for _ in range(100):
        bell.ring("same")
    await bell.close()
    bell.ring("end")
    await bell.close()
    async with asyncio.timeout(10):
        assert [await notifications.get(), await notifications.get()] == ["same", "end"]


async def test_many_rings_travel_in_few_notifications(
    database: Database, notifications: asyncio.Queue[str]
) -> None:
    sent = [f"{number:036}" for number in range(500)]
    bell = Bell(PostgresWire(database.app), CHANNEL)
    for payload in sent:
        bell.ring(payload)
    await bell.close()
    async with asyncio.timeout(10):
        received = [await notifications.get() for _ in range(3)]
    assert [part for batch in received for part in batch.split("\n")] == sent


async def test_a_ring_during_a_send_goes_out_too(
    database: Database, notifications: asyncio.Queue[str]
) -> None:
    bell = Bell(PostgresWire(database.app), CHANNEL, pause_s=0)
    for number in range(50):
        bell.ring(str(number))
        await asyncio.sleep(0)
    await bell.close()
    received = list[str]()
    async with asyncio.timeout(10):
        while len(received) < 50:
            received += (await notifications.get()).split("\n")
    assert received == [str(number) for number in range(50)]


async def test_a_bell_whose_database_is_gone_does_not_disturb_who_rings(
    clone: Any, database: Database
) -> None:
    pool = await asyncpg.create_pool(clone.urls.app, min_size=1, max_size=1)
    await pool.close()
    bell = Bell(PostgresWire(pool), CHANNEL)
    bell.ring("lost")
    async with asyncio.timeout(10):
        await bell.close()


async def test_a_listener_hears_each_payload_and_connects_again_when_cut_off(
    clone: Any, database: Database
) -> None:
    heard, connected = asyncio.Queue[tuple[str, str]](), asyncio.Queue[None]()
    listener = Listener(
        PostgresWire(database.app, clone.urls.app),
        [CHANNEL],
        lambda channel, payload: heard.put_nowait((channel, payload)),
        lambda: connected.put_nowait(None),
    )
    bell = Bell(PostgresWire(database.app), CHANNEL)
    listener.start()
    try:
        async with asyncio.timeout(20):
            await connected.get()
            bell.ring("one")
            bell.ring("two")
            assert [await heard.get(), await heard.get()] == [(CHANNEL, "one"), (CHANNEL, "two")]
            await cut_off_listeners(clone.owner_url)
            await connected.get()
            bell.ring("three")
            assert await heard.get() == (CHANNEL, "three")
    finally:
        await listener.stop()
        await bell.close()


async def cut_off_listeners(owner_url: str) -> None:
    connection = await asyncpg.connect(owner_url)
    try:
        cut = await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and query ilike 'listen%'"
        )
        assert len(cut) == 1
    finally:
        await connection.close()


async def test_a_stopped_listener_leaves_no_connection(clone: Any, database: Database) -> None:
    connected = asyncio.Event()
    listener = Listener(
        PostgresWire(database.app, clone.urls.app), [CHANNEL], lambda *_: None, connected.set
    )
    listener.start()
    async with asyncio.timeout(10):
        await connected.wait()
        await listener.stop()
        while await database.app.fetchval(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and query ilike 'listen%'"
        ):
            await asyncio.sleep(0.01)
