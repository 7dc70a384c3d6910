"""Work distribution: the one module that knows PgQueuer.

A job says only "advance execution X of organization Y"; the truth is our own rows, so a lost or a
doubled job is harmless. PgQueuer's tables live in the schema ``queue`` without its trigger, and its
channel is rung by ``Doorbell`` after the commit.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import orjson
import structlog

from chargehand.kernel.bells import Bell, PostgresWire
from chargehand.kernel.clock import now
from chargehand.kernel.database import TROUBLES
from chargehand.kernel.identifiers import ExecutionId, OrganizationId

CHANNEL = "chargehand_jobs"

# PgQueuer reads these when it is first used.
os.environ["PGQUEUER_SCHEMA"] = "queue"
os.environ["PGQUEUER_CHANNEL"] = CHANNEL

QUEUES = ("agents", "agents_priority", "agents_long", "async")

INSERT = "insert into queue.pgqueuer (priority, entrypoint, payload, status)"
"""Begins an enqueue inside a caller's statement: a job exists only if that transaction commits."""

log = structlog.get_logger()
Handler = Callable[[OrganizationId, ExecutionId], Awaitable[None]]


def payload_of(organization: OrganizationId, execution: ExecutionId) -> bytes:
    return organization.bytes + execution.bytes


def parse_payload(payload: bytes) -> tuple[OrganizationId, ExecutionId]:
    return OrganizationId(UUID(bytes=payload[:16])), ExecutionId(UUID(bytes=payload[16:32]))


class Doorbell:
    """Tells idle workers that there is a job, soon after the commit that made it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._bell = Bell(PostgresWire(pool), CHANNEL)
        # One constant payload, so that rings which wait together are sent as one.
        self._payload = orjson.dumps(
            {
                "channel": CHANNEL,
                "operation": "insert",
                "sent_at": now(),
                "table": "pgqueuer",
                "type": "table_changed_event",
            }
        ).decode()

    def ring(self) -> None:
        self._bell.ring(self._payload)

    async def close(self) -> None:
        await self._bell.close()


async def consume(
    url: str,
    queues: Sequence[str],
    handler: Handler,
    *,
    concurrency: int,
    stop: asyncio.Event,
) -> None:
    """Hand each job of ``queues`` to ``handler``, ``concurrency`` at a time, until ``stop``.

    ``url`` must reach PostgreSQL directly, for LISTEN. PgQueuer ends when its connection dies, but
    only after the jobs in hand, so its successor is started at once and does not wait for them.
    Returns when all jobs in hand are done.
    """
    generations = set[asyncio.Task[None]]()
    while not stop.is_set():
        broken = asyncio.Event()
        generation = asyncio.create_task(
            _consume_once(url, queues, handler, concurrency, stop, broken)
        )
        generations.add(generation)
        generation.add_done_callback(generations.discard)
        await _first_of(generation, broken, stop)
        if not stop.is_set():
            log.warning("queue_connection_lost")
            await asyncio.sleep(0.5)
    await asyncio.gather(*generations)


async def _first_of(task: asyncio.Task[None], *events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _consume_once(
    url: str,
    queues: Sequence[str],
    handler: Handler,
    concurrency: int,
    stop: asyncio.Event,
    broken: asyncio.Event,
) -> None:
    from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
    from pgqueuer.core.qm import QueueManager
    from pgqueuer.domain.errors import PgqException
    from pgqueuer.domain.models import Job
    from pgqueuer.queries import Queries

    async def take(job: Job) -> None:
        if job.payload is not None:
            await handler(*parse_payload(job.payload))

    def ended(_connection: object) -> None:
        broken.set()

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as error:
        log.warning("queue_unreachable", error=str(error))
        return
    connection.add_termination_listener(ended)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    for queue in queues:
        manager.entrypoint(queue, accepts_context=False)(take)
    stopper = asyncio.create_task(_forward(stop, manager.shutdown))
    try:
        await manager.run(
            dequeue_timeout=timedelta(seconds=2),
            batch_size=max(1, min(10, concurrency // 2)),
            max_concurrent_tasks=max(2, concurrency),
            shutdown_on_listener_failure=True,
            heartbeat_timeout=timedelta(seconds=10),
            log_aggregation_interval=timedelta(0),
        )
    except (RuntimeError, PgqException, *TROUBLES) as error:
        log.warning("queue_failed", error=str(error))
    finally:
        stopper.cancel()
        connection.remove_termination_listener(ended)
        await connection.close(timeout=2)


async def _forward(source: asyncio.Event, target: asyncio.Event) -> None:
    await source.wait()
    target.set()


async def purge_log(pool: asyncpg.Pool, *, keep: timedelta) -> int:
    """Delete PgQueuer's log rows older than ``keep``: it adds three a job and trims none."""
    answer = await pool.execute(
        "delete from queue.pgqueuer_log where created < now() - $1::interval", keep
    )
    return int(answer.split()[-1])
