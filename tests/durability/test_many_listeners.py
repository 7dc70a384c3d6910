"""A thousand listeners on one API process (EXE-10); ``bench/listeners.py`` measures them longer."""

import asyncio

from tests.conftest import TestDatabase
from tests.factories.api_process import api_process
from tests.factories.listeners import measure

from chargehand.kernel.database import Database


async def test_a_thousand_listeners_all_get_all_events(
    database: Database, clone: TestDatabase
) -> None:
    with api_process(clone) as (url, pid):
        async with asyncio.timeout(60):
            costs = await measure(database, url, pid, listeners=1000, deltas=10, idle_s=1)
    print(costs.table())
    assert costs.counts == {18}
    assert costs.ended_mb - costs.idle_mb < 150
    assert costs.idle_cpu < 0.5, "they must not poll one by one"
