"""What only the client for asyncio can do: many things at once, and being cancelled."""

import asyncio
import random
import time
from pathlib import Path

import pytest
from tests.factories.client_peer import a_story, running_peer

from chargehand_client import AsyncChargehand, Event

KEY = "chk_test"


async def collected(client: AsyncChargehand) -> list[Event]:
    async with client.stream("helper", "Hello") as run:
        return [event async for event in run]


async def test_many_streams_of_one_client_go_on_side_by_side() -> None:
    story = a_story(8)
    with running_peer(story, cut_after=977) as peer:
        async with AsyncChargehand(peer.url, KEY) as client:
            streams = await asyncio.gather(*(collected(client) for _ in range(10)))
    for events in streams:
        assert [[event.id, event.type, event.data] for event in events] == story


async def test_a_stream_that_is_cancelled_leaves_nothing_behind() -> None:
    seen, before = list[str](), asyncio.all_tasks()

    async def listen(client: AsyncChargehand) -> None:
        async with asyncio.timeout(0.5), client.stream("helper", "Hello") as run:
            async for event in run:
                seen.append(event.id)

    with running_peer(a_story()[:4], stalls=True) as peer:
        async with AsyncChargehand(peer.url, KEY) as client:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await listen(client)
            assert time.monotonic() - began < 5
            assert seen == ["1.1", "1.2", "1.3", "1.4"]
            # Nor does one that is left in the middle.
            async with client.stream("helper", "Hello") as run:
                async for event in run:
                    assert event.id == "1.1"
                    break
            assert (await client.execution(run.id)).id == run.id
    assert asyncio.all_tasks() == before


async def test_a_folder_is_packed_beside_the_loop(tmp_path: Path) -> None:
    """The loop goes on while files are read: a program that serves others does not stand still."""
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(random.Random(number).randbytes(12_000_000))
    gaps = list[float]()

    async def watch() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    with running_peer() as peer:
        async with AsyncChargehand(peer.url, KEY) as client:
            watching = asyncio.create_task(watch())
            await asyncio.sleep(0)
            await client.run("helper", "Hello", workspace=tmp_path)
            await asyncio.sleep(0.01)
            watching.cancel()
    assert max(gaps) < sum(gaps) / 2
