"""What listeners are told when PostgreSQL has lost the end of the story (see ``journal.Lease``)."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from chargehand.executions import journal
from chargehand.executions.journal import Event
from chargehand.executions.leases import EventsLost
from chargehand.kernel.database import Connection, Database
from chargehand.runtime.runs import Run

log = structlog.get_logger()
Written = TypeVar("Written")


async def journalled(
    run: Run, database: Database, write: Callable[[Connection], Awaitable[Written]]
) -> Written:
    """``write`` in a transaction of its own; behind the lost text, told again, where some is."""
    try:
        async with database.hot(run.lease.organization_id) as connection:
            return await write(connection)
    except EventsLost as lost:
        log.warning("events_lost", reason=str(lost))
    async with database.hot(run.lease.organization_id) as connection:
        await tell_again(connection, run)
        return await write(connection)


async def tell_again(connection: Connection, run: Run) -> None:
    """Have listeners drop the text of this step, and give them all that has left so far."""
    events = [Event("output.reset", {"reason": "the database lost text that had been stored"})]
    if run.text_left and (text := "".join(run.partial_text)):
        events.append(Event("output.delta", {"text": text}))
    await journal.append_events(connection, run.lease, events, instead_of_lost=True)
