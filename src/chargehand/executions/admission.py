"""Who may run: a counter of active runs per user, and the line behind it (SPEC TEN-6).

Only admitted runs have a job, so that no tenant's backlog sits in the shared queue. Whoever gives
a slot back admits the next of that user's line in the same transaction; the sweep finds what was
in neither's sight.
"""

from typing import Any

from chargehand.kernel import jobs
from chargehand.kernel.database import Connection

GIVEN_BACK = """
    update slots set active = active - 1 from fence
     where slots.organization_id = fence.organization_id and slots.user_id = fence.user_id
       and fence.held_slot
"""
"""SQL: give the slot of the run in ``fence`` back."""

LINE = """
    fence.held_slot and exists (select from live_executions as line
        where line.organization_id = fence.organization_id and line.user_id = fence.user_id
          and line.status = 'pending' and not line.slot) as line
"""
"""SQL: whether somebody may be waiting for the slot that the run in ``fence`` gives back."""

_ADMIT = f"""
with counter as (
    select * from slots where active < allowed and {{whose}} for update {{locking}}
), next as (
    select line.* from counter cross join lateral (
        select execution_id, organization_id, user_id, queue, priority from live_executions as l
         where l.organization_id = counter.organization_id and l.user_id = counter.user_id
           and l.status = 'pending' and not l.slot and l.ready_at <= clock_timestamp()
         order by l.priority desc, l.ready_at limit {{most}}
           for update skip locked) as line
), job as (
    {jobs.INSERT}
    select priority, queue, uuid_send(organization_id) || uuid_send(execution_id), 'queued'
      from next
    returning {{made}}
), admitted as (
    update live_executions as l
       set slot = true, enqueued_at = clock_timestamp(), job_id = job.id
      from next join job on {{which}}
     where l.execution_id = next.execution_id
    returning l.organization_id, l.user_id
), counted as (
    update slots as s set active = s.active + n.number
      from (select organization_id, user_id, count(*) as number from admitted group by 1, 2) as n
     where s.organization_id = n.organization_id and s.user_id = n.user_id
)
select count(*) from admitted
"""  # noqa: S608 - the only parts put in are constants

# The application's role may read no job but its id: so here it is one.
_ADMIT_NEXT = _ADMIT.format(
    whose="organization_id = $1 and user_id = $2", locking="", most="1", made="id", which="true"
)

_ADMIT_ALL = _ADMIT.format(
    whose="""exists (select from live_executions as l
        where l.organization_id = slots.organization_id and l.user_id = slots.user_id
          and l.status = 'pending' and not l.slot and l.ready_at <= clock_timestamp())
     limit 100""",
    locking="skip locked",
    most="counter.allowed - counter.active",
    made="id, payload",
    which="job.payload = uuid_send(next.organization_id) || uuid_send(next.execution_id)",
)


async def admit_next(connection: Connection, row: Any) -> int:
    """Admit the next of a user's line, if there is a slot; ``row`` names organization and user.

    The counter's row is locked, so that two who give slots back do not miss each other. Returns
    how many were admitted.
    """
    return await connection.fetchval(_ADMIT_NEXT, row["organization_id"], row["user_id"])


async def admit_all(connection: Connection) -> int:
    """Admit, of every user, whom the slots let: what has become due, and what nobody saw.

    For the system role. Returns how many.
    """
    return await connection.fetchval(_ADMIT_ALL)
