"""Pause, resume, cancel and kill (SPEC EXE-6): at once where nobody runs it, else by its owner.

Callers have been found entitled. Each function locks the live row first, so that signals have an
order, and raises InvalidTransition, naming both states, for what the run's state does not allow.
"""

from typing import Any

from chargehand.executions.endings import Ending, finish_unowned
from chargehand.executions.moving import Signal, lock, move, signal_owner
from chargehand.executions.operations import ExecutionNotFound
from chargehand.executions.states import InvalidTransition, Status, require_move
from chargehand.kernel.database import Connection
from chargehand.kernel.identifiers import ExecutionId
from chargehand.tenancy.caller import Caller


async def pause(
    connection: Connection, caller: Caller, execution: ExecutionId, reason: str | None
) -> Status:
    """Pause the run: one that is running after the step in hand. Returns its state now."""
    live = await _lock_for(connection, execution, "paused")
    signal = Signal("pause", caller.user_id, {"reason": reason})
    if live["status"] == "running":
        await signal_owner(connection, live, signal)
        return "running"
    await move(
        connection,
        live,
        "paused",
        signal,
        "The run is paused.",
        paused_from=live["status"],
        reason=reason,
        wait=live["wait"],
    )
    return "paused"


async def resume(connection: Connection, caller: Caller, execution: ExecutionId) -> Status:
    """Let a paused run go on where it was paused; withdraw a pause that has not happened yet."""
    live = await _lock_for(connection, execution, "pending")
    signal = Signal("resume", caller.user_id, {})
    if live["status"] == "running" and await _pause_is_due(connection, execution):
        await signal_owner(connection, live, signal)
        return "running"
    if live["status"] != "paused":
        raise InvalidTransition(
            f"An execution that is {live['status']} cannot be resumed: it is not paused.",
            **{"from": live["status"], "to": "pending"},
        )
    target: Status = live["paused_from"]
    require_move("paused", target, paused_from=target)
    text = "The run is resumed."
    await move(connection, live, target, signal, text, wait=live["wait"])
    return target


async def _pause_is_due(connection: Connection, execution: ExecutionId) -> bool:
    kind = await connection.fetchval(
        "select kind from signals where execution_id = $1 and handled_at is null "
        "and kind in ('pause', 'resume') order by seq desc limit 1",
        execution,
    )
    return kind == "pause"


async def request_cancel(connection: Connection, caller: Caller, execution: ExecutionId) -> Status:
    """Cancel the run; its owner aborts what is in flight. A cancelled one stays as it is.

    Returns ``cancelled``, or ``running`` until its owner has ended it.
    """
    live = await lock(connection, execution)
    if live is None:
        status = await _ended(connection, execution)
        if status != "cancelled":
            require_move(status, "cancelled")
        return status
    require_move(live["status"], "cancelled")
    if live["owned"]:
        await signal_owner(connection, live, Signal("cancel", caller.user_id, {}))
        return "running"
    ending = Ending(status="cancelled", finish_reason="cancelled")
    await finish_unowned(connection, execution, ending)
    return "cancelled"


async def kill(connection: Connection, caller: Caller, execution: ExecutionId) -> Status:
    """End the run at once, whatever its owner does: it finds that its lease is gone."""
    live = await _lock_for(connection, execution, "cancelled")
    await signal_owner(connection, live, Signal("kill", caller.user_id, {}))
    ending = Ending(status="cancelled", finish_reason="killed", force_killed=True)
    await finish_unowned(connection, execution, ending)
    return "cancelled"


async def _lock_for(connection: Connection, execution: ExecutionId, target: Status) -> Any:
    live = await lock(connection, execution)
    if live is None:
        require_move(await _ended(connection, execution), target)
    elif target != "pending":  # resume asks more of the state than the table
        require_move(live["status"], target)
    return live


async def _ended(connection: Connection, execution: ExecutionId) -> Status:
    status = await connection.fetchval("select status from executions where id = $1", execution)
    if status is None:
        raise ExecutionNotFound(f"There is no execution {execution}.")
    return status
