"""Take a run: claim it and load its state, in one transaction."""

import time
from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any

import structlog
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse

from chargehand.agents.configuration import stored_config
from chargehand.executions import journal
from chargehand.executions.endings import Ending, finish
from chargehand.executions.journal import Event
from chargehand.executions.leases import Lease
from chargehand.executions.waits import START, Closed, Closings, WaitKind
from chargehand.kernel.database import Connection, Database
from chargehand.kernel.identifiers import ExecutionId, OrganizationId, UserId
from chargehand.runtime.history import input_message, load, text_of, with_event
from chargehand.runtime.limits import deadline_from
from chargehand.runtime.recording import starting
from chargehand.runtime.runs import OpenEffect, Run
from chargehand.storage.operations import fetch_blobs
from chargehand.usage.records import Spender

log = structlog.get_logger()


async def take(
    database: Database,
    organization: OrganizationId,
    execution: ExecutionId,
    *,
    worker: str,
    lease_s: float,
) -> Run | None:
    """Claim a run and load it; None where there is nothing to take (see ``journal.claim``).

    A run whose stored state cannot be read ends as failed: nobody else could read it either.
    """
    # Read before the claim: our own idea of the lease must end before the database's.
    lease_until = time.monotonic() + lease_s
    async with database.hot(organization) as connection:
        row = await journal.claim(
            connection, organization, execution, worker=worker, lease=timedelta(seconds=lease_s)
        )
        if row is None:
            return None
        try:
            run = await _load(connection, row, worker, lease_s, lease_until)
        except (ValueError, LookupError, TypeError) as error:
            log.exception("execution_unreadable")
            await finish(connection, _lease(row, worker), _unreadable(error))
            return None
        if row["deadline_at"] is None:
            await journal.set_deadline(connection, run.lease, run.deadline)
        events = await _opening_events(connection, run, again=row["epoch"] > 1)
        if events:
            await journal.append_events(connection, run.lease, events)
    return run


async def _load(
    connection: Connection, row: Any, worker: str, lease_s: float, lease_until: float
) -> Run:
    lease = _lease(row, worker)
    execution = lease.execution_id
    payload = await connection.fetchrow(
        "select input, workspace, tools, config::text from execution_payloads "
        "where execution_id = $1",
        execution,
    )
    config = stored_config(payload["config"])
    files = payload["workspace"] or {}
    first = await _input(connection, lease.organization_id, payload["input"], files.get("media"))
    closings = await _closings(connection, execution) if row["wait_seq"] else {}
    if (awaited := closings.get(("event", *START))) is not None:
        first = with_event(first, awaited.answer)
    messages = await _messages(connection, execution)
    said = [m for _, m in messages if isinstance(m, ModelResponse)]
    return Run(
        lease=lease,
        spender=_spender(lease, row),
        config=config,
        messages=[(0, first), *messages],
        state=row["state"],
        stored_state=deepcopy(row["state"]),
        closings=closings,
        client_tools=payload["tools"] or (),
        wake_seq=row["wake_seq"],
        wait_seq=row["wait_seq"],
        open_effects=await _open_effects(connection, execution),
        workspace_files=files.get("files"),
        steps=row["last_step"],
        chunk=row["chunk"],
        deadline=row["deadline_at"] or deadline_from(config.limits, row["claimed_at"]),
        lease_s=lease_s,
        lease_until=lease_until,
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=row["cost"],
        losses=row["losses_without_step"],
        partial_text=[text_of(said[-1])] if said else [],
    )


def _lease(row: Any, worker: str) -> Lease:
    return Lease(
        OrganizationId(row["organization_id"]),
        ExecutionId(row["execution_id"]),
        UserId(row["user_id"]),
        row["epoch"],
        worker,
        row["last_event"],
    )


def _unreadable(error: Exception) -> Ending:
    return Ending(
        status="failed",
        error_code="ExecutionFailed",
        error_message="The stored state of the run cannot be read by this version of Chargehand "
        f"({type(error).__name__}). Tell your operator: the worker's log has the cause.",
    )


def _spender(lease: Lease, row: Any) -> Spender:
    return Spender(
        lease.organization_id,
        lease.execution_id,
        lease.user_id,
        row["agent_id"],
        row["agent_version_id"],
        row["end_user"],
    )


async def _messages(
    connection: Connection, execution: ExecutionId
) -> list[tuple[int, ModelMessage]]:
    rows = await connection.fetch(
        "select seq, message from run_messages where execution_id = $1 order by seq", execution
    )
    messages = load([row["message"] for row in rows])
    return list(zip((row["seq"] for row in rows), messages, strict=True))


async def _open_effects(
    connection: Connection, execution: ExecutionId
) -> dict[tuple[int, str], OpenEffect]:
    rows = await connection.fetch(
        "select message_seq, call_id, idempotency_key, started_at from effects "
        "where execution_id = $1 and state = 'started'",
        execution,
    )
    return {
        (row["message_seq"], row["call_id"]): OpenEffect(row["idempotency_key"], row["started_at"])
        for row in rows
    }


async def _closings(connection: Connection, execution: ExecutionId) -> Closings:
    """How the waits ended; one for several calls counts for each of them. The last one holds."""
    rows = await connection.fetch(
        "select kind, message_seq, call_id, request, outcome, answer, closed_at from waits "
        "where execution_id = $1 order by seq",
        execution,
    )
    found = dict[tuple[WaitKind, int, str], Closed]()
    for row in rows:
        closed = Closed(row["outcome"], row["request"], row["answer"], row["closed_at"])
        for call in row["request"].get("calls") or [{"call_id": row["call_id"]}]:
            found[row["kind"], row["message_seq"], call["call_id"]] = closed
    return found


async def _input(
    connection: Connection,
    organization: OrganizationId,
    document: Any,
    media: Mapping[str, Any] | None,
) -> ModelRequest:
    """The first message; where the input is a list of blocks, with the files they name."""
    if media is None:
        return input_message(document, None)
    digests = {upload: bytes.fromhex(file["sha256"]) for upload, file in media.items()}
    blobs = await fetch_blobs(connection, organization, digests.values()) if digests else {}
    contents = {
        upload: BinaryContent(data=blobs[digest], media_type=media[upload]["media_type"])
        for upload, digest in digests.items()
    }
    return input_message(document, contents)


async def _opening_events(connection: Connection, run: Run, *, again: bool) -> list[Event]:
    """The step that begins now; before it, whether text of its last try is to be dropped."""
    events = starting(run.steps + 1, run.messages)
    if again and await _has_stale_text(connection, run.lease.execution_id):
        reset = Event("output.reset", {"reason": "another worker begins the step again"})
        return [reset, *events]
    return events


async def _has_stale_text(connection: Connection, execution: ExecutionId) -> bool:
    return await connection.fetchval(
        "select exists (select from events where execution_id = $1 and type = 'output.delta' "
        "and seq > coalesce((select max(seq) from events where execution_id = $1 "
        "and type in ('step.completed', 'output.reset')), 0))",
        execution,
    )
