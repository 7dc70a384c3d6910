"""Start runs, inside a caller's transaction; raw SQL, because this is the hot path."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from chargehand.agents.installed import AVAILABLE, Capability, tools_of
from chargehand.agents.runnable import RunnableVersion, resolve_for_run
from chargehand.executions import journal
from chargehand.executions.inputs import (
    MediaBlock,
    TextBlock,
    check_input,
    check_tools,
    require_storable,
)
from chargehand.executions.log_lines import AS_EVENT
from chargehand.executions.schemas import ExecuteRequest
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
    insert into slots as s (organization_id, user_id, active, allowed)
    values ($2, $3, $22::integer, $4)
    on conflict (organization_id, user_id)
        do update set active = s.active + $22, allowed = $4 where $22 = 0 or s.active < $4
    returning active
), job as (
    {jobs.INSERT} select 0, $5, $6, 'queued' from slot where $22 = 1 returning id
), live as (
    insert into live_executions (execution_id, organization_id, user_id, status, queue, ready_at,
        enqueued_at, job_id, slot, last_event, last_log, last_message, state_schema, state,
        wait_kind, wait, wait_deadline, wait_then, wait_seq)
    select $1, $2, $3, $23, $5, coalesce($24::timestamptz, clock_timestamp()), clock_timestamp(),
           (select id from job), $22 = 1, 2, 1, $25, $7, $26,
           case when $27::jsonb is not null then 'event' end, $27, $28, $29,
           $36 + case when $27::jsonb is null then 0 else 1 end from slot
), execution as (
    insert into executions (id, organization_id, agent_organization_id, agent_id,
        agent_version_id, agent_version, trigger_kind, trigger_id, user_id, api_key_id, end_user,
        root_id, is_test, queue, status, warnings, metadata, created_at, updated_at, scheduled_at,
        retry_of, forked_from, forked_at_step)
    select $1, $2, $8, $9, $10, $11, $30, coalesce($31::uuid, $32::uuid), $3, $12, $13, $1, $14,
           $5, $23, $15, $16, $17, $17, $24::timestamptz, $31::uuid, $32::uuid, $33 from slot
), payload as (
    insert into execution_payloads (execution_id, organization_id, config, input, variables,
        workspace, tools)
    select $1, $2, coalesce($34::jsonb, (select config from agent_versions where id = $10)), $18,
           $19, $20, $35 from slot
), log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select $1, 1, $2, 'info', 'execution.accepted', $21,
           jsonb_build_object('queue', $5::text, 'agent_version', $11::text), $17 from slot
    returning {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select $1, n, $2, $3, 0, e.type, e.data, $17
      from log, unnest(array['log', 'status.changed'], array[told, jsonb_build_object('status',
               $23::text, 'step_count', 0, 'token_usage', 0, 'completed_at', null, 'epoch', 0)])
           with ordinality as e(type, data, n)
), outbox as (
    insert into outbox (organization_id, subject_id, type, data, at)
    select $2, $1, 'AgentExecutionStarted', jsonb_build_object('execution_id', $1::text,
               'agent_id', $9::text, 'agent_version', $11::text), $17 from slot
)
select active from slot
"""  # noqa: S608 - the only parts put in are constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The run that a new one goes on from: its conversation up to a step, and what was changed."""

    retry_of: ExecutionId | None = None
    forked_from: ExecutionId | None = None
    forked_at_step: int | None = None
    last_message: int = 0
    last_wait: int = 0
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kind(self) -> str:
        return "retry" if self.retry_of else "fork" if self.forked_from else "user"


NO_ORIGIN = Origin()


async def start(
    connection: Connection,
    caller: Caller,
    agent: str,
    request: ExecuteRequest,
    *,
    idempotency_key: str | None = None,
    draft: bool = False,
    capabilities: Mapping[str, Capability] = AVAILABLE,
) -> Started:
    """Accept a run: checkpoint 0, its slot and its job, all or nothing.

    Raises AgentNotFound, AgentNotExecutable, VersionNotFound, InvalidInput, UploadNotFound,
    IdempotencyKeyReused, or SlotsTaken.
    """
    require_storable(request.model_dump())
    execution = ExecutionId(new_id())
    if idempotency_key is not None:
        earlier = await remember(
            connection, caller, idempotency_key, _asked(agent, request, draft), execution
        )
        if earlier is not None:
            return Started(earlier, True, ())
    version = await resolve_for_run(connection, caller, agent, version=request.version, draft=draft)
    blocks = check_input(request.input, version.config)
    check_tools(request.tools, tools_of(version.config.capabilities, capabilities))
    files = {
        **await _workspace_of(connection, caller, request),
        **await media_of(connection, caller, blocks),
    }
    await insert(connection, caller, request, version, execution, files or None, draft=draft)
    return Started(execution, False, tuple(version.warnings))


async def insert(
    connection: Connection,
    caller: Caller,
    request: ExecuteRequest,
    version: RunnableVersion,
    execution: ExecutionId,
    files: Mapping[str, Any] | None,
    *,
    draft: bool,
    origin: Origin = NO_ORIGIN,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write checkpoint 0 of a run; ``config`` takes the place of the version's own.

    One that is to begin later, or waits for an event, takes no slot yet. Raises SlotsTaken.
    """
    at = now()
    scheduled = request.run_at if request.run_at is not None and request.run_at > at else None
    wait, deadline = None, None
    if request.await_event is not None:
        wait, deadline = request.await_event.wait().opened(at)
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
        at,
        request.input,
        request.variables,
        files,
        f"Accepted a run of {version.agent_slug} {version.number}.",
        1 if wait is None and scheduled is None else 0,
        "pending" if wait is None else "awaiting_event",
        scheduled,
        origin.last_message,
        origin.state,
        wait,
        deadline,
        request.await_event.on_deadline if request.await_event else None,
        origin.kind,
        origin.retry_of,
        origin.forked_from,
        origin.forked_at_step,
        config,
        [tool.model_dump() for tool in request.tools] or None,
        origin.last_wait,
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


async def media_of(
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


def _asked(agent: str, request: ExecuteRequest, draft: bool) -> list[Any]:
    """What makes two requests the same; how the answer is wanted does not count."""
    return [agent, draft, request.model_dump(mode="json", exclude={"mode", "timeout_s"})]


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


async def remember(
    connection: Connection, caller: Caller, key: str, asked: Sequence[Any], execution: ExecutionId
) -> ExecutionId | None:
    """Bind the key to this run, or return the run that it is bound to; ``asked`` is JSON.

    A second request that comes while the first is being accepted waits here for its commit.
    Raises IdempotencyKeyReused where something else was asked.
    """
    digest = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
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
