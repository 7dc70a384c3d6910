"""Housekeeping by the clock. Every worker runs it; what it does is safe to do twice."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import structlog

from chargehand.executions.operations import IDEMPOTENCY_WINDOW
from chargehand.executions.recovery import reconcile_slots
from chargehand.kernel import jobs, schema
from chargehand.kernel.database import TROUBLES, Database

OUTBOX_KEPT = timedelta(days=7)
QUEUE_LOG_KEPT = timedelta(hours=1)

log = structlog.get_logger()


async def serve_timers(database: Database) -> None:
    """Do each job at once and then at its interval, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for job, interval_s in JOBS:
            group.create_task(_repeat(job, database, interval_s))


async def _repeat(
    job: Callable[[Database], Awaitable[None]], database: Database, interval_s: float
) -> None:
    while True:
        try:
            await job(database)
        except (*TROUBLES, asyncpg.PostgresError) as error:
            log.error("timer_failed", job=job.__name__, error=str(error))
        await asyncio.sleep(interval_s)


async def make_partitions(database: Database) -> None:
    """One table at a time: making a partition locks its parent against everybody."""
    async with database.across() as connection:
        parents = await connection.fetch("select parent from partitions_ahead()")
    for (parent,) in parents:
        async with database.across() as connection:
            await connection.execute("set local lock_timeout = '2s'")
            made = await connection.fetchval("select ensure_partitions($1)", parent)
        if made:
            log.info("partitions_made", table=parent, count=made)
    async with database.across() as connection:
        lacking = await schema.lacking_partitions(connection)
    if lacking:
        log.error("partitions_lacking", tables=lacking)


async def correct_slots(database: Database) -> None:
    if corrected := await reconcile_slots(database):
        log.warning("slots_corrected", count=corrected)


async def purge(database: Database) -> None:
    """Forget used idempotency keys, outbox rows that are a week old, and the queue's log."""
    await jobs.purge_log(database.system, keep=QUEUE_LOG_KEPT)
    async with database.across() as connection:
        await connection.execute(
            "delete from idempotency_keys where created_at < now() - $1::interval",
            IDEMPOTENCY_WINDOW,
        )
        await connection.execute("delete from outbox where at < now() - $1::interval", OUTBOX_KEPT)


JOBS: tuple[tuple[Callable[[Database], Awaitable[None]], float], ...] = (
    (make_partitions, 3600),
    (correct_slots, 60),
    (purge, 600),
)
