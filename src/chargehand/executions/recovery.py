"""What keeps runs going when processes do not: leases renewed, due runs swept into the queue.

These are the only statements about runs that look across organizations, under the system role.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from chargehand.executions import admission
from chargehand.kernel import jobs
from chargehand.kernel.database import Connection, Database
from chargehand.kernel.identifiers import ExecutionId

RENEW = """
update live_executions as l set lease_expires_at = clock_timestamp() + $3::interval
  from unnest($1::uuid[], $2::integer[]) as held(execution_id, epoch)
 where l.execution_id = held.execution_id and l.epoch = held.epoch and l.status = 'running'
returning l.execution_id
"""


async def renew(
    connection: Connection, held: Sequence[tuple[ExecutionId, int]], lease: timedelta
) -> set[ExecutionId]:
    """Prolong the leases of (execution, epoch) pairs; returns the runs that are still held."""
    ids = [execution for execution, _ in held]
    rows = await connection.fetch(RENEW, ids, [epoch for _, epoch in held], lease)
    return {row["execution_id"] for row in rows}


async def woken(connection: Connection, executions: Sequence[ExecutionId]) -> set[ExecutionId]:
    """Those of ``executions`` that have a signal which their owner has not handled."""
    rows = await connection.fetch(
        "select execution_id from live_executions "
        "where execution_id = any($1::uuid[]) and wake_seq > handled_seq",
        list(executions),
    )
    return {row["execution_id"] for row in rows}


SWEEP = f"""
with due as (
    select execution_id, organization_id, queue, priority from live_executions as l
     where (status = 'running' and lease_expires_at < clock_timestamp()
               and not exists (select from queue.pgqueuer where id = l.job_id
                               and status = 'queued')
            or status = 'pending' and slot and ready_at <= clock_timestamp()
               and not exists (select from queue.pgqueuer where id = l.job_id))
       and enqueued_at < clock_timestamp() - $1::interval
     order by ready_at limit $2 for update skip locked
), job as (
    {jobs.INSERT}
    select priority, queue, uuid_send(organization_id) || uuid_send(execution_id), 'queued' from due
    returning id, payload
)
update live_executions as l set enqueued_at = clock_timestamp(), job_id = job.id
  from due join job on job.payload = uuid_send(due.organization_id) || uuid_send(due.execution_id)
 where l.execution_id = due.execution_id
returning l.execution_id
"""  # noqa: S608 - the only part put in is a constant of kernel.jobs


async def sweep(connection: Connection, *, pause: timedelta, limit: int = 100) -> int:
    """Give every run that is due and has no job a new one; returns how many.

    Before that, whoever waits in line is admitted where a slot is free.

    It is essential, not a nicety: a job can be taken while the lease of a dead owner is live, and
    a late finisher deletes the job of the live owner. A doubled job is harmless. ``pause`` keeps a
    run from being swept again before its job could be taken.
    """
    admitted = await admission.admit_all(connection)
    return admitted + len(await connection.fetch(SWEEP, pause, limit))


async def reconcile_slots(database: Database) -> int:
    """Set slot counters that differ from the runs that hold one; returns how many differed.

    Under the lock of the counter's row: whoever takes or gives back a slot touches it, so the
    count made after the lock is exact.
    """
    corrected = 0
    async with database.across() as connection:
        for row in await connection.fetch(MISMATCHED):
            corrected += await _reconcile(connection, row)
    return corrected


MISMATCHED = """
select s.organization_id, s.user_id from slots as s
 where s.active <> (select count(*) from live_executions as l
     where l.organization_id = s.organization_id and l.user_id = s.user_id and l.slot)
"""


async def _reconcile(connection: Connection, row: Any) -> int:
    owner = (row["organization_id"], row["user_id"])
    await connection.execute(
        "select from slots where organization_id = $1 and user_id = $2 for update", *owner
    )
    answer = await connection.execute(
        "update slots set active = held.count from (select count(*) from live_executions "
        "where organization_id = $1 and user_id = $2 and slot) as held "
        "where organization_id = $1 and user_id = $2 and active <> held.count",
        *owner,
    )
    return int(answer.split()[-1])


async def run_out(connection: Connection, *, limit: int = 100) -> Sequence[Any]:
    """Organization, execution and user of waits past their deadline; a paused run's rests."""
    return await connection.fetch(
        "select organization_id, execution_id, user_id from live_executions "
        "where wait_deadline < clock_timestamp() and status in ('awaiting_input', "
        "'awaiting_event') order by wait_deadline limit $1",
        limit,
    )
