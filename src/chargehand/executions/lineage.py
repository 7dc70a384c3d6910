"""New runs that go on from old ones: retry and fork (SPEC EXE-6). The old one stays as it was."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chargehand.agents.configuration import AgentConfig, stored_config
from chargehand.agents.installed import Installed
from chargehand.agents.runnable import RunnableVersion, resolve_for_run
from chargehand.agents.validation import parse
from chargehand.executions.inputs import InvalidInput, check_input, require_storable
from chargehand.executions.operations import Origin, Started, insert, media_of, remember
from chargehand.executions.schemas import ExecuteRequest, ForkRequest
from chargehand.executions.states import InvalidTransition
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import Violation
from chargehand.kernel.identifiers import ExecutionId, new_id
from chargehand.tenancy.caller import Caller

OLD = """
select e.status, e.agent_id, e.agent_version_id, e.agent_version, e.end_user, e.metadata,
       e.is_test, coalesce(l.last_step, e.steps) as steps, p.config::text as config, p.input,
       p.variables, p.workspace, p.tools
  from executions e
  join execution_payloads p on p.execution_id = e.id
  left join live_executions l on l.execution_id = e.id
 where e.id = $1
"""

STATE_AT = """
select state from steps where execution_id = $1 and seq <= $2 and state is not null
 order by seq desc limit 1
"""

# What a run began with is of step 0: it may be forked again.
COPY_MESSAGES = """
insert into run_messages (execution_id, seq, organization_id, step, message)
select $2, seq, organization_id, 0, message from run_messages
 where execution_id = $1 and step <= $3
"""

# The calls that began and have no result, with their keys: whoever gets one a second time knows.
COPY_EFFECTS = """
insert into effects (execution_id, message_seq, call_id, organization_id, idempotency_key,
    tool_name, arguments, policy, state, epoch, started_at)
select $2, message_seq, call_id, organization_id, idempotency_key, tool_name, arguments, policy,
       state, 0, started_at
  from effects where execution_id = $1 and state = 'started'
"""

COPY_WAITS = """
insert into waits (execution_id, seq, organization_id, kind, message_seq, call_id, request,
    outcome, answer, opened_at, closed_at)
select $2, seq, organization_id, kind, message_seq, call_id, request, outcome, answer, opened_at,
       closed_at
  from waits where execution_id = $1 and outcome <> 'withdrawn'
"""


async def retry(
    connection: Connection,
    caller: Caller,
    old: ExecutionId,
    *,
    idempotency_key: str | None = None,
) -> Started:
    """Go on, as a new run, from the last checkpoint of one that failed or was cancelled.

    What was answered or approved stays so; a call that was cut short keeps its idempotency key.
    Raises InvalidTransition, and what a start raises.
    """
    row = await connection.fetchrow(OLD, old)
    if row["status"] not in ("failed", "cancelled"):
        raise InvalidTransition(
            f"An execution that is {row['status']} is not retried: only one that failed or was "
            "cancelled is. Fork it to go on from one of its steps.",
            **{"from": row["status"], "to": "pending"},
        )
    request = _request(row, {})
    new = ExecutionId(new_id())
    if idempotency_key is not None:
        asked = ["retry", str(old)]
        if earlier := await remember(connection, caller, idempotency_key, asked, new):
            return Started(earlier, True, ())
    origin = await _origin(connection, old, row["steps"], retry_of=old)
    version = await _version(connection, caller, row, stored_config(row["config"]))
    await _insert(connection, caller, request, version, new, row["workspace"], row, origin)
    await _copy(connection, old, new, row["steps"])
    await connection.execute(COPY_EFFECTS, old, new)
    await connection.execute(COPY_WAITS, old, new)
    return Started(new, False, version.warnings)


async def fork(
    connection: Connection,
    caller: Caller,
    old: ExecutionId,
    asked: ForkRequest,
    *,
    idempotency_key: str | None = None,
    installed: Installed,
) -> Started:
    """A new run from any step of an old one, with another input, model or instructions.

    Raises InvalidInput for a step that the old one has not finished or an input that does not
    fit, InvalidAgentConfig for a model or instructions that do not, and what a start raises.
    """
    row = await connection.fetchrow(OLD, old)
    step = row["steps"] if asked.step is None else asked.step
    if step > row["steps"]:
        wrong = Violation("/step", f"is {step}, and the execution has {row['steps']} steps so far")
        raise InvalidInput(f"The step {wrong.message}.", violations=[wrong.as_json()])
    new = ExecutionId(new_id())
    if idempotency_key is not None:
        body = ["fork", str(old), asked.model_dump(mode="json")]
        if earlier := await remember(connection, caller, idempotency_key, body, new):
            return Started(earlier, True, ())
    config = _changed(stored_config(row["config"]), asked, installed)
    request = _request(row, {} if asked.input is None else {"input": asked.input})
    files = row["workspace"]
    if asked.input is not None:
        require_storable(request.model_dump())
        blocks = check_input(request.input, config)
        kept = {name: part for name, part in (files or {}).items() if name != "media"}
        files = {**kept, **await media_of(connection, caller, blocks)} or None
    origin = await _origin(connection, old, step, forked_from=old, forked_at_step=step)
    version = await _version(connection, caller, row, config)
    await _insert(connection, caller, request, version, new, files, row, origin)
    await _copy(connection, old, new, step)
    return Started(new, False, version.warnings)


def _changed(config: AgentConfig, asked: ForkRequest, installed: Installed) -> AgentConfig:
    changes: dict[str, Any] = {}
    if asked.instructions is not None:
        changes["instructions"] = asked.instructions
    if asked.model is not None:
        changes["model"] = asked.model
    if not changes:
        return config
    document = {**config.model_dump(mode="json"), **changes}
    changed, _ = parse(AgentConfig, document, installed=installed)
    return changed


def _request(row: Any, changes: Mapping[str, Any]) -> ExecuteRequest:
    """The old run's request, to be made again."""
    return ExecuteRequest.model_validate(
        {
            "input": row["input"],
            "variables": row["variables"],
            "metadata": row["metadata"],
            "end_user": row["end_user"],
            "tools": row["tools"] or (),
            "mode": "async",
            **changes,
        }
    )


async def _version(
    connection: Connection, caller: Caller, row: Any, config: AgentConfig
) -> RunnableVersion:
    """The version that the old run ran, if its agent still runs for this caller."""
    agent, number = str(row["agent_id"]), row["agent_version"]
    found = await resolve_for_run(
        connection,
        caller,
        agent,
        version=None if row["is_test"] else number,
        draft=row["is_test"],
    )
    return replace(found, version_id=row["agent_version_id"], number=number, config=config)


async def _origin(
    connection: Connection,
    old: ExecutionId,
    step: int,
    *,
    retry_of: ExecutionId | None = None,
    forked_from: ExecutionId | None = None,
    forked_at_step: int | None = None,
) -> Origin:
    last = await connection.fetchval(
        "select max(seq) from run_messages where execution_id = $1 and step <= $2", old, step
    )
    state = await connection.fetchval(STATE_AT, old, step)
    waits = 0
    if retry_of is not None:
        waits = await connection.fetchval(
            "select coalesce(max(seq), 0) from waits where execution_id = $1", old
        )
    return Origin(
        retry_of=retry_of,
        forked_from=forked_from,
        forked_at_step=forked_at_step,
        last_message=last or 0,
        last_wait=waits,
        state=state or {},
    )


async def _insert(
    connection: Connection,
    caller: Caller,
    request: ExecuteRequest,
    version: RunnableVersion,
    new: ExecutionId,
    files: Mapping[str, Any] | None,
    row: Any,
    origin: Origin,
) -> None:
    await insert(
        connection,
        caller,
        request,
        version,
        new,
        files,
        draft=row["is_test"],
        origin=origin,
        config=version.config.model_dump(mode="json"),
    )


async def _copy(connection: Connection, old: ExecutionId, new: ExecutionId, step: int) -> None:
    await connection.execute(COPY_MESSAGES, old, new, step)
