"""What a worker puts in order by the clock, besides its runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service, work_on
from tests.factories.partitions import drop_future_partitions

from chargehand.kernel.database import Database


@pytest.fixture
async def idle(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    """Nothing has been put in order yet: its worker is not there."""
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


@pytest.fixture
async def owner(clone: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(clone.owner_url)
    yield connection
    await connection.close()


async def until(owner: asyncpg.Connection, query: str, expected: object) -> None:
    """Wait, at most 10 s, until the query gives what is expected."""
    found = await owner.fetchval(query)
    for _ in range(200):
        if found == expected:
            break
        await asyncio.sleep(0.05)
        found = await owner.fetchval(query)
    assert found == expected


async def test_a_worker_makes_the_partitions_that_lack(
    idle: Service, clone: TestDatabase, owner: asyncpg.Connection
) -> None:
    ahead = "select jsonb_object_agg(parent, ahead)::text from partitions_ahead()"
    whole = await owner.fetchval(ahead)
    await drop_future_partitions(owner, "steps")
    await drop_future_partitions(owner, "logs")
    assert await owner.fetchval(ahead) != whole
    async with work_on(idle, clone.urls.system):
        await until(owner, ahead, whole)


async def test_a_worker_corrects_a_slot_counter_that_differs_from_the_runs(
    idle: Service, clone: TestDatabase, owner: asyncpg.Connection
) -> None:
    caller = idle.caller
    await owner.execute(
        "insert into slots (organization_id, user_id, active) values ($1, $2, 3)",
        caller.organization_id,
        caller.user_id,
    )
    async with work_on(idle, clone.urls.system):
        await until(owner, "select active from slots", 0)


ROWS = {
    "idempotency_keys": "insert into idempotency_keys "
    "(organization_id, user_id, key, request_hash, execution_id, created_at) "
    "select id, id, $1::text, '', id, now() - $1::text::interval from organizations",
    "outbox": "insert into outbox (organization_id, subject_id, type, data, at) "
    "select id, id, $1::text, '{}', now() - $1::text::interval from organizations",
    "queue.pgqueuer_log": "insert into queue.pgqueuer_log "
    "(job_id, status, priority, entrypoint, created) "
    "values (1, 'successful', 0, $1::text, now() - $1::text::interval)",
}
"""A row of this age, which it has as its name too."""


@pytest.mark.parametrize(
    ("table", "name", "old", "young"),
    [
        ("idempotency_keys", "key", "25 hours", "23 hours"),
        ("outbox", "type", "8 days", "6 days"),
        ("queue.pgqueuer_log", "entrypoint", "61 minutes", "50 minutes"),
    ],
)
async def test_a_worker_forgets_what_is_too_old_and_nothing_else(
    idle: Service,
    clone: TestDatabase,
    owner: asyncpg.Connection,
    table: str,
    name: str,
    old: str,
    young: str,
) -> None:
    for age in (old, young):
        await owner.execute(ROWS[table], age)
    async with work_on(idle, clone.urls.system):
        await until(owner, f"select string_agg({name}, ', ') from {table}", young)
