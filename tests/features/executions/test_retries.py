"""A retry knows what its origin had asked for and begun (EXE-4, EXE-6)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service, work_on
from tests.factories.steered import ASKS, asking_agent, begin, told

from chargehand.agents.installed import NO_OPTIONS, Capability
from chargehand.executions.journal import record_intent
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take
from chargehand.runtime.decide import CallTool, next_move
from chargehand.runtime.toolset import Tool, ToolContext

POST = Capability("post", "Sends things.", NO_OPTIONS, ("send", "write"))


class Calls:
    """The idempotency keys of the calls that were made, by tool."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def tools(self, _options: Mapping[str, Any]) -> Sequence[Tool]:
        return [
            Tool(name, "Sends.", {"type": "object"}, effect, self._run(name))
            for name, effect in (("send", "unknown"), ("write", "idempotent"))
        ]

    def _run(self, name: str) -> Any:
        async def run(context: ToolContext, _arguments: dict[str, Any]) -> str:
            self.made.append((name, str(context.idempotency_key)))
            return "sent"

        return run


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def idle(
    database: Database, clone: TestDatabase, tmp_path: Path, calls: Calls
) -> AsyncIterator[Service]:
    async with running_service(
        database,
        clone.urls.system,
        tmp_path,
        work=False,
        capabilities={"post": POST},
        tools={"post": calls.tools},
    ) as running:
        yield running


async def test_what_was_answered_is_not_asked_again(idle: Service, clone: TestDatabase) -> None:
    execution = await begin(idle, await asking_agent(idle), f"{ASKS}\n@then\n@quote 1")
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "awaiting_input")
    await told(idle, execution, "input", input=3)
    await told(idle, execution, "cancel")
    retried = await told(idle, execution, "retry")
    async with working_again(idle, clone):
        done = await idle.until(retried["id"], "completed", "awaiting_input")
    assert (done["status"], done["output"]) == ("completed", "ask_user:\n> 3")


async def cut_short(service: Service, execution: str) -> str:
    """Have a worker be lost behind the intent of the call that is due; returns the call's key."""
    run = await take(
        service.database,
        service.caller.organization_id,
        ExecutionId(UUID(execution)),
        worker="here",
        lease_s=60,
    )
    assert run is not None
    move = next_move(run.messages)
    assert isinstance(move, CallTool)
    key = run.idempotency_key(move.message_seq, move.part.tool_call_id)
    async with service.database.hot(run.lease.organization_id) as connection:
        await record_intent(
            connection,
            run.lease,
            message_seq=move.message_seq,
            call_id=move.part.tool_call_id,
            idempotency_key=key,
            tool_name=move.part.tool_name,
            arguments={},
            policy="unknown",
        )
    return str(key)


@pytest.mark.parametrize("tool", ["send", "write"])
async def test_a_call_that_was_cut_short_is_known_to_the_retry(
    idle: Service, clone: TestDatabase, calls: Calls, tool: str
) -> None:
    agent = await idle.agent(capabilities={"post": {}})
    execution = await begin(idle, agent, f"@delay 500ms\n@call {tool} {{}}\n@then\n@quote 1")
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "running")
        await told(idle, execution, "pause")
        await idle.until(execution, "paused")
    await told(idle, execution, "resume")
    key = await cut_short(idle, execution)
    await told(idle, execution, "kill")
    retried = await told(idle, execution, "retry")
    async with working_again(idle, clone):
        done = await idle.until(retried["id"], "completed", "failed")
    assert done["status"] == "completed"
    if tool == "write":
        assert calls.made == [("write", key)]
    else:
        assert calls.made == []
        assert "It is not known whether it had its effect" in done["output"]


async def test_an_approval_is_of_no_other_arguments(idle: Service, clone: TestDatabase) -> None:
    agent = await asking_agent(idle, approvals={"metadata_write": {}})
    script = '@call metadata_write {"key": "n", "value": 1}\n@then\n@say Done.'
    execution = await begin(idle, agent, script)
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "awaiting_input")
    await told(idle, execution, "approve", wait=1)
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute(
        "update waits set request = jsonb_set(request, '{calls,0,arguments,value}', '2')"
    )
    await owner.close()
    async with working_again(idle, clone):
        asked = await idle.until(execution, "completed", "awaiting_input")
    assert (asked["status"], asked["waiting_for"]["wait"]) == ("awaiting_input", 2)


@asynccontextmanager
async def working_again(service: Service, clone: TestDatabase) -> AsyncIterator[None]:
    service.stop.clear()
    service.worker.draining.clear()
    async with work_on(service, clone.urls.system):
        yield
