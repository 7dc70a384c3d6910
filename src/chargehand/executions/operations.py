"""Start and cancel runs, inside a caller's transaction; raw SQL, because this is the hot path."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from chargehand.agents.runnable import RunnableVersion, resolve_for_run
from chargehand.executions import journal
from chargehand.executions.endings import Ending, finish_unowned
from chargehand.executions.inputs import MediaBlock, TextBlock, check_input, require_storable
from chargehand.executions.log_lines import AS_EVENT
from chargehand.executions.schemas import ExecuteRequest
from chargehand.executions.states import TERMINAL, Status, require_move
from chargehand.kernel import jobs
from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import Conflict, LimitReached, NotFound, Violation
from chargehand.kernel.identifiers import ExecutionId, UploadId, new_id
from chargehand.storage.operations import find_for_run
from chargehand.tenancy.caller import Caller

IDEMPOTENCY_WINDOW = timedelta(hours=24)


class ExecutionNotFound(NotFound):
    code = "ExecutionNotFound"


class SlotsTaken(LimitReached):
    """The caller's tier allows no more active runs now (SPEC TEN-6)."""

    code = "RateLimitExceeded"


class IdempotencyKeyReused(Conflict):
    """The key was used for another request (SPEC EXE-17)."""

    code = "IdempotencyKeyReused"


@dataclass(frozen=True, slots=True)
class Started:
    """An accepted run; ``replayed`` if an earlier request with the same key had started it."""

    execution_id: ExecutionId
    replayed: bool
    warnings: tuple[str, ...]


START = f"""
with slot as (
    insert into slots as s (organization_id, user_id, active) values ($2, $3, 1)
    on conflict (organization_id, user_id)
        do update set active = s.active + 1 where s.active < $4
    returning active
), job as (
    {jobs.INSERT} select 0, $5, $6, 'queued' from slot returning id
), live as (
    insert into live_executions (execution_id, organization_id, user_id, status, queue, ready_at,
        enqueued_at, job_id, slot, last_event, last_log, state_schema, state)
    select $1, $2, $3, 'pending', $5, clock_timestamp(), clock_timestamp(), job.id, true, 2, 1,
           $7, '{{}}' from job
), execution as (
    insert into executions (id, organization_id, agent_organization_id, agent_id,
        agent_version_id, agent_version, trigger_kind, trigger_id, user_id, api_key_id, end_user,
        root_id, is_test, queue, status, warnings, metadata, created_at, updated_at)
    select $1, $2, $8, $9, $10, $11, 'user', null, $3, $12, $13, $1, $14, $5, 'pending', $15,
           $16, $17, $17 from slot
), payload as (
    insert into execution_payloads (execution_id, organization_id, config, input, variables,
        workspace)
    select $1, $2, (select config from agent_versions where id = $10), $18, $19, $20 from slot
), log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select $1, 1, $2, 'info', 'execution.accepted', $21,
           jsonb_build_object('queue', $5::text, 'agent_version', $11::text), $17 from slot
    returning {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select $1, n, $2, $3, 0, e.type, e.data, $17
      from log, unnest(array['log', 'status.changed'], array[told, jsonb_build_object('status',
               'pending', 'step_count', 0, 'token_usage', 0, 'completed_at', null, 'epoch', 0)])
           with ordinality as e(type, data, n)
), outbox as (
    insert into outbox (organization_id, subject_id, type, data, at)
    select $2, $1, 'AgentExecutionStarted', jsonb_build_object('execution_id', $1::text,
               'agent_id', $9::text, 'agent_version', $11::text), $17 from slot
)
select active from slot
"""  # noqa: S608 - the only parts put in are constants


async def start(
    connection: Connection,
    caller: Caller,
    agent: str,
    request: ExecuteRequest,
    *,
    idempotency_key: str | None = None,
    draft: bool = False,
) -> Started:
    """Accept a run: checkpoint 0, its slot and its job, all or nothing.

    Raises AgentNotFound, AgentNotExecutable, VersionNotFound, InvalidInput, UploadNotFound,
    IdempotencyKeyReused, or SlotsTaken.
    """
    require_storable(request.model_dump())
    execution = ExecutionId(new_id())
    if idempotency_key is not None:
        earlier = await _remember(
            connection, caller, idempotency_key, _digest(agent, request, draft), execution
        )
        if earlier is not None:
            return Started(earlier, True, ())
    version = await resolve_for_run(connection, caller, agent, version=request.version, draft=draft)
    blocks = check_input(request.input, version.config)
    files = {
        **await _workspace_of(connection, caller, request),
        **await _media_of(connection, caller, blocks),
    }
    await _insert(connection, caller, request, version, execution, files or None, draft)
    return Started(execution, False, tuple(version.warnings))


async def _insert(
    connection: Connection,
    caller: Caller,
    request: ExecuteRequest,
    version: RunnableVersion,
    execution: ExecutionId,
    files: dict[str, Any] | None,
    draft: bool,
) -> None:
    active = await connection.fetchval(
        START,
        execution,
        caller.organization_id,
        caller.user_id,
        caller.tier.active_runs,
        version.config.queue,
        jobs.payload_of(caller.organization_id, execution),
        journal.STATE_SCHEMA,
        version.organization_id,
        version.agent_id,
        version.version_id,
        version.number,
        caller.key_id,
        request.end_user,
        draft,
        list(version.warnings),
        request.metadata,
        now(),
        request.input,
        request.variables,
        files,
        f"Accepted a run of {version.agent_slug} {version.number}.",
    )
    if active is None:
        raise SlotsTaken(
            f"You have {caller.tier.active_runs} active runs, the limit of tier "
            f"{caller.tier.name}. Wait until one ends, or cancel one.",
            limit=caller.tier.active_runs,
            retry_after_s=1,
        )


async def _workspace_of(
    connection: Connection, caller: Caller, request: ExecuteRequest
) -> dict[str, Any]:
    """The manifest of the folder that the run works in, as it is now: uploads can be deleted."""
    if request.workspace is None:
        return {}
    upload_id = UploadId(request.workspace.upload_id)
    upload = await find_for_run(connection, caller, upload_id, kind="folder")
    if upload is None:
        raise _no_upload(upload_id, "folder", "/workspace/upload_id")
    return {"upload_id": str(upload_id), "files": upload.files}


async def _media_of(
    connection: Connection, caller: Caller, blocks: Sequence[TextBlock | MediaBlock] | None
) -> dict[str, Any]:
    """Digest and media type of each file that a block names; also marks an input as blocks."""
    if blocks is None:
        return {}
    media = dict[str, Any]()
    for index, block in enumerate(blocks):
        if isinstance(block, MediaBlock):
            upload = await find_for_run(connection, caller, UploadId(block.upload_id), kind="file")
            if upload is None:
                raise _no_upload(block.upload_id, "file", f"/input/{index}/upload_id")
            media[str(block.upload_id)] = {
                "sha256": upload.files[0]["sha256"],
                "media_type": upload.media_type,
            }
    return {"media": media}


def _no_upload(upload: UUID, kind: str, where: str) -> NotFound:
    missing = Violation(where, f"there is no uploaded {kind} with this id")
    return NotFound(
        f"There is no uploaded {kind} {upload} (at {where}). Upload it with "
        f"POST /api/v1/uploads?kind={kind} and use the id of the answer.",
        code="UploadNotFound",
        violations=[missing.as_json()],
    )


def _digest(agent: str, request: ExecuteRequest, draft: bool) -> bytes:
    """What makes two requests the same; how the answer is wanted does not count."""
    body = request.model_dump(mode="json", exclude={"mode", "timeout_s"})
    document = [agent, draft, body]
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest()


REMEMBER = """
insert into idempotency_keys as k
    (organization_id, user_id, key, request_hash, execution_id, created_at)
values ($1, $2, $3, $4, $5, $6)
on conflict (organization_id, user_id, key) do update
    set request_hash = excluded.request_hash, execution_id = excluded.execution_id,
        created_at = excluded.created_at
    where k.created_at < $6 - $7::interval
returning execution_id
"""


async def _remember(
    connection: Connection, caller: Caller, key: str, digest: bytes, execution: ExecutionId
) -> ExecutionId | None:
    """Bind the key to this run, or return the run that it is bound to.

    A second request that comes while the first is being accepted waits here for its commit.
    """
    owner = (caller.organization_id, caller.user_id, key)
    if await connection.fetchval(REMEMBER, *owner, digest, execution, now(), IDEMPOTENCY_WINDOW):
        return None
    row = await connection.fetchrow(
        "select request_hash, execution_id from idempotency_keys "
        "where organization_id = $1 and user_id = $2 and key = $3",
        *owner,
    )
    if row["request_hash"] != digest:
        raise IdempotencyKeyReused(
            f"The Idempotency-Key {key!r} was used for another request in the last 24 hours. "
            "Send a new key with a new request.",
            execution_id=str(row["execution_id"]),
        )
    return ExecutionId(row["execution_id"])


async def request_cancel(connection: Connection, caller: Caller, execution: ExecutionId) -> Status:
    """Cancel a run: at once where nobody runs it, else by a signal to its owner (SPEC EXE-6).

    The caller has been found entitled to control it. Returns the state it is in now: ``cancelled``,
    or ``running`` until its owner has aborted what is in flight. Raises InvalidTransition if it
    has ended otherwise, ExecutionNotFound.
    """
    live = await connection.fetchrow(
        "select status, wake_seq, lease_expires_at > clock_timestamp() as owned "
        "from live_executions where execution_id = $1 for update",
        execution,
    )
    if live is None:
        return await _already_ended(connection, execution)
    require_move(live["status"], "cancelled")
    if live["owned"]:
        await _signal_cancel(connection, caller, execution, live["wake_seq"] + 1)
        return "running"
    ending = Ending(status="cancelled", finish_reason="cancelled")
    await finish_unowned(connection, execution, ending)
    return "cancelled"


async def _already_ended(connection: Connection, execution: ExecutionId) -> Status:
    status = await connection.fetchval("select status from executions where id = $1", execution)
    if status is None:
        raise ExecutionNotFound(f"There is no execution {execution}.")
    if status in TERMINAL and status != "cancelled":
        require_move(status, "cancelled")
    return status


async def _signal_cancel(
    connection: Connection, caller: Caller, execution: ExecutionId, seq: int
) -> None:
    await connection.execute(
        "with live as (update live_executions set wake_seq = $2 where execution_id = $1 "
        "returning organization_id) "
        "insert into signals (execution_id, seq, organization_id, kind, created_by, created_at) "
        "select $1, $2, organization_id, 'cancel', $3, $4 from live",
        execution,
        seq,
        caller.user_id,
        now(),
    )
