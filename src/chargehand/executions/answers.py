"""What a waiting run waits for has come: an answer, results, approvals, an event, the deadline.

SPEC EXE-7, EXE-18. Each is taken under the lock of the live row, kept as a closed wait, and the
run goes back to its queue, or into its user's line where no slot is free.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chargehand.agents.jsonschema import compile_schema, violations_against
from chargehand.executions.endings import Ending, finish_unowned
from chargehand.executions.inputs import InvalidInput, require_storable_answer
from chargehand.executions.moving import Signal, close_wait, lock, move
from chargehand.executions.operations import ExecutionNotFound
from chargehand.executions.states import InvalidTransition, Status
from chargehand.executions.waits import Outcome, WaitKind, matches, open_calls
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import Conflict, Violation
from chargehand.kernel.identifiers import ExecutionId, UserId
from chargehand.tenancy.caller import Caller


class WaitClosed(Conflict):
    """The run waits for something else by now, or never waited for this."""

    code = "WaitClosed"


async def give_input(
    connection: Connection,
    caller: Caller,
    execution: ExecutionId,
    answer: Any,
    *,
    wait: int | None,
) -> None:
    """Answer the question that the run has asked.

    ``wait`` is the number of the wait that is meant, None the open one. Raises InvalidTransition,
    WaitClosed, or InvalidInput where the answer does not fit the question's schema.
    """
    live = await _lock_waiting(connection, execution, wait, "input")
    require_storable_answer({"input": answer})
    schema: Mapping[str, Any] | None = live["wait"].get("answer_schema")
    if schema is not None:
        found = violations_against(compile_schema(schema), answer)
        if found:
            _refuse([Violation("/input" + v.pointer, v.message) for v in found])
    signal = Signal("input", caller.user_id, {"wait": live["wait_seq"], "input": answer})
    await _close(connection, live, signal, "answered", answer, "The question is answered.")


async def give_results(
    connection: Connection,
    caller: Caller,
    execution: ExecutionId,
    results: Sequence[Mapping[str, Any]],
    *,
    wait: int | None,
) -> None:
    """Give results of the caller's own tools; the run goes on when every call has one.

    A result is ``{"call_id", "output" or "error"}``. Raises InvalidTransition, WaitClosed, or
    InvalidInput where a result is for no open call.
    """
    live = await _lock_waiting(connection, execution, wait, "tools")
    require_storable_answer({"tool_results": list(results)})
    asked = {call["call_id"] for call in open_calls(live["wait"])}
    given = dict[str, Any]()
    wrong = list[Violation]()
    for index, result in enumerate(results):
        call_id = result["call_id"]
        if call_id in given or call_id not in asked:
            wrong.append(
                Violation(
                    f"/tool_results/{index}/call_id",
                    f"is no call that waits for its result; there are {', '.join(sorted(asked))}",
                )
            )
        given[call_id] = {key: result[key] for key in ("output", "error") if key in result}
    if wrong:
        _refuse(wrong)
    held: dict[str, Any] = {**live["wait"], "results": {**live["wait"].get("results", {}), **given}}
    signal = Signal("input", caller.user_id, {"wait": live["wait_seq"], "tool_results": given})
    if open_calls(held):
        await move(connection, live, live["status"], signal, "A tool has answered.", wait=held)
        return
    answer = held["results"]
    await _close(connection, live, signal, "answered", answer, "The tools have answered.")


async def approve(
    connection: Connection,
    caller: Caller,
    execution: ExecutionId,
    *,
    wait: int,
    comment: str | None,
) -> None:
    """Approve the tool call of this wait; it is made once enough persons have.

    Raises InvalidTransition, WaitClosed, or AlreadyApproved.
    """
    live = await _lock_waiting(connection, execution, wait, "approval")
    who = str(caller.user_id)
    given: list[dict[str, Any]] = live["wait"].get("approvals", [])
    if any(one["user_id"] == who for one in given):
        raise AlreadyApproved(
            "You have approved this call already; it needs "
            f"{live['wait']['persons']} different persons. Have somebody else approve it.",
            wait=wait,
        )
    given = [*given, {"user_id": who, "at": now().isoformat(), "comment": comment}]
    held: dict[str, Any] = {**live["wait"], "approvals": given}
    signal = Signal("approve", caller.user_id, {"wait": wait, "comment": comment})
    persons: int = held["persons"]
    if len(given) < persons:
        await move(connection, live, live["status"], signal, "The call has an approval.", wait=held)
        return
    answer = {"approvals": given}
    await _close(connection, live, signal, "approved", answer, "The call is approved.")


async def deny(
    connection: Connection,
    caller: Caller,
    execution: ExecutionId,
    *,
    wait: int,
    comment: str | None,
) -> None:
    """Deny the tool call of this wait: the model is told so. Raises as ``approve``."""
    live = await _lock_waiting(connection, execution, wait, "approval")
    signal = Signal("deny", caller.user_id, {"wait": wait, "comment": comment})
    answer = {"user_id": str(caller.user_id), "comment": comment}
    await _close(connection, live, signal, "denied", answer, "The call is denied.")


class AlreadyApproved(Conflict):
    """One person counts once."""

    code = "AlreadyApproved"


WAITING_FOR = """
select * from live_executions
 where wait_kind = 'event' and wait ->> 'event_type' = $1 and organization_id = $2
   and ($3::uuid is null or user_id = $3)
 order by execution_id for update
"""


async def deliver_event(
    connection: Connection, caller: Caller, event_type: str, payload: Any, user: Any
) -> list[tuple[ExecutionId, UserId]]:
    """Wake each run of the organization that waits for this event; returns which, and whose.

    Exactly once each: a run is locked, and waits for nothing any more when it is woken. A paused
    one keeps the event for when it is resumed.
    """
    require_storable_answer({"payload": payload})
    # All live rows before any slot, and the slots in one order: nobody waits for us in a circle.
    rows = await connection.fetch(WAITING_FOR, event_type, caller.organization_id, user)
    awaited = [live for live in rows if matches(live["wait"], event_type, payload)]
    answer = {"event_type": event_type, "payload": payload}
    signal = Signal("event", caller.user_id, answer)
    for live in sorted(awaited, key=lambda live: live["user_id"]):
        await _close(connection, live, signal, "answered", answer, f"{event_type} has come.")
    return [(ExecutionId(live["execution_id"]), UserId(live["user_id"])) for live in awaited]


async def expire(connection: Connection, execution: ExecutionId) -> bool:
    """Do what the wait says of its deadline, if that has passed; False if it has not."""
    live = await connection.fetchrow(
        "select *, wait_deadline < clock_timestamp() as expired from live_executions "
        "where execution_id = $1 and status in ('awaiting_input', 'awaiting_event') for update",
        execution,
    )
    if live is None or not live["expired"]:
        return False
    kind, then = live["wait_kind"], live["wait_then"]
    if then == "continue":
        signal = Signal("deadline", None, {"wait": live["wait_seq"]})
        text = f"Nothing came for its wait ({kind}) before the deadline; the run goes on."
        await _close(connection, live, signal, "expired", live["wait"].get("results"), text)
        return True
    text = (
        f"The run waited ({kind}) until its deadline, and nothing came. Raise its `deadline_s`, or "
        "answer sooner."
    )
    cancelled = Ending(status="cancelled", finish_reason="deadline", error_message=None)
    failed = Ending(status="failed", error_code="ExecutionTimeout", error_message=text)
    await finish_unowned(connection, execution, cancelled if then == "cancel" else failed)
    return True


async def _lock_waiting(
    connection: Connection, execution: ExecutionId, wait: int | None, kind: WaitKind
) -> Any:
    live = await lock(connection, execution)
    status: Status | None = live["status"] if live else await _status(connection, execution)
    if status is None:
        raise ExecutionNotFound(f"There is no execution {execution}.")
    if live is None or status not in ("awaiting_input", "awaiting_event"):
        remedy = "Resume it first." if status == "paused" else "It waits for nothing."
        raise InvalidTransition(
            f"An execution that is {status} cannot become pending by an answer. {remedy}",
            **{"from": status, "to": "pending"},
        )
    if live["wait_kind"] != kind or wait not in (None, live["wait_seq"]):
        raise WaitClosed(
            f"The execution waits for {live['wait_kind']} (wait {live['wait_seq']}), and not for "
            f"{kind}{'' if wait is None else f' (wait {wait})'}. Look at its `waiting_for`.",
            wait=live["wait_seq"],
            kind=live["wait_kind"],
        )
    return live


async def _status(connection: Connection, execution: ExecutionId) -> Status | None:
    return await connection.fetchval("select status from executions where id = $1", execution)


async def _close(
    connection: Connection,
    live: Any,
    signal: Signal,
    outcome: Outcome,
    answer: Any,
    message: str,
) -> None:
    await close_wait(connection, live, outcome, answer)
    if live["status"] == "paused":
        await move(connection, live, "paused", signal, message, paused_from="pending")
    else:
        await move(connection, live, "pending", signal, message)


def _refuse(violations: list[Violation]) -> None:
    places = ", ".join(violation.pointer for violation in violations[:5])
    raise InvalidInput(
        f"The answer is not valid at {places}: {violations[0].message}.",
        violations=[violation.as_json() for violation in violations],
    )
