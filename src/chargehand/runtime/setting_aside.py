"""The owner lets go of its run: it waits, or it is paused (SPEC EXE-6, EXE-7)."""

from chargehand.executions.parking import Seen, park_paused, park_to_wait
from chargehand.executions.waits import Wait
from chargehand.kernel.database import Connection
from chargehand.runtime.interruption import look_for_signals
from chargehand.runtime.retelling import journalled
from chargehand.runtime.runs import Outside, Run


async def wait(run: Run, out: Outside, awaited: Wait) -> bool:
    """Park the run until what it awaits has come; False where it is to be paused before that.

    Raises LeaseLost, CancelRequested or Evicted.
    """

    async def write(connection: Connection) -> bool:
        return await park_to_wait(connection, run.lease, awaited, _seen(run))

    while not await journalled(run, out.database, write):
        await look_for_signals(run, out)
        if run.pausing:
            return False
    _tell(run, out)
    return True


async def pause(run: Run, out: Outside) -> bool:
    """Park the run; False where the pause has been withdrawn meanwhile."""

    async def write(connection: Connection) -> bool:
        return await park_paused(connection, run.lease, _seen(run))

    while not await journalled(run, out.database, write):
        await look_for_signals(run, out)
        if not run.pausing:
            return False
    _tell(run, out)
    return True


def _seen(run: Run) -> Seen:
    return Seen(run.wake_seq, run.wait_seq, run.steps, run.input_tokens + run.output_tokens)


def _tell(run: Run, out: Outside) -> None:
    out.bells.new_events(run.lease.execution_id, run.lease.user_id)
    # The slot that it gave back may have let another run of the user in.
    out.doorbell.ring()
