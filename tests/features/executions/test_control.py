"""Pause, resume, cancel, kill, retry, fork (EXE-6, EXE-8): every state, every action."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service, work_on
from tests.factories.steered import (
    ASKS,
    BARE,
    CAPABILITIES,
    STATES,
    asking_agent,
    begin,
    colleague_key,
    run_in,
    tell,
    told,
)
from tests.factories.tenancy import client_of

from chargehand.executions.parking import Seen, park_to_wait
from chargehand.executions.waits import Wait
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime import setting_aside
from chargehand.runtime.claiming import take
from chargehand.runtime.interruption import CancelRequested
from chargehand.runtime.ports import CallPolicy
from chargehand.runtime.runs import Outside, Run


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, tier="wide") as running:
        yield running


@pytest.fixture
async def idle(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def rows(service: Service, query: str, *values: Any) -> list[Any]:
    async with service.database.hot(service.caller.organization_id) as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


ENDS = ("completed", "failed", "cancelled")
ACTIONS: dict[str, dict[str, Any]] = {
    "pause": {},
    "resume": {},
    "cancel": {},
    "kill": {},
    "input": {"input": 3},
    "approve": {"wait": 1},
    "deny": {"wait": 1},
    "retry": {},
    "fork": {},
}

# (state, action) → the state after it; what is not here is refused.
LEGAL = {
    ("pending", "pause"): "paused",
    ("running", "pause"): "running",
    ("awaiting_input", "pause"): "paused",
    ("awaiting_event", "pause"): "paused",
    ("paused", "resume"): "awaiting_input",
    **{(state, "cancel"): "cancelled" for state in ("pending", "awaiting_input", "awaiting_event")},
    ("paused", "cancel"): "cancelled",
    ("running", "cancel"): "running",
    ("cancelled", "cancel"): "cancelled",
    **{(state, "kill"): "cancelled" for state in STATES if state not in ENDS},
    ("pending", "kill"): "cancelled",
    ("awaiting_input", "input"): "pending",
    ("failed", "retry"): "pending",
    ("cancelled", "retry"): "pending",
    **{(state, "fork"): "pending" for state in STATES},
    ("pending", "fork"): "pending",
}
TARGET = {
    "pause": "paused",
    "resume": "pending",
    "cancel": "cancelled",
    "kill": "cancelled",
    "input": "pending",
    "approve": "pending",
    "deny": "pending",
    "retry": "pending",
}


async def hold(service: Service, execution: str, state: str, action: str, body: Any) -> None:
    answer = await tell(service, execution, action, **body)
    found, after = answer.json(), LEGAL.get((state, action))
    if after is not None:
        assert answer.status_code in (200, 202), (state, action, answer.text)
        # A worker may be faster than the answer.
        assert found["status"] == after or after in ("pending", "running"), (state, action)
        return
    assert answer.status_code == 409, (state, action, answer.text)
    if found["error"]["code"] == "WaitClosed":
        assert (state, action) in WRONG_WAIT
        return
    assert found["error"]["code"] == "InvalidTransition"
    details = found["error"]["details"]
    assert (details["from"], details["to"]) == (state, TARGET[action])
    assert state in found["error"]["message"]
    assert (await service.get(f"/executions/{execution}"))["status"] == state


WRONG_WAIT = {
    ("awaiting_input", "approve"),
    ("awaiting_input", "deny"),
    ("awaiting_event", "input"),
    ("awaiting_event", "approve"),
    ("awaiting_event", "deny"),
}


@pytest.mark.parametrize("state", list(STATES))
async def test_every_action_in_every_state(service: Service, state: str) -> None:
    agent = await asking_agent(service)
    for action, body in ACTIONS.items():
        execution = await run_in(service, agent, state)
        await hold(service, execution, state, action, body)


async def test_every_action_on_a_run_that_has_not_begun(idle: Service) -> None:
    agent = await asking_agent(idle)
    for action, body in ACTIONS.items():
        execution = await begin(idle, agent, "@say Hi.")
        await hold(idle, execution, "pending", action, body)
        await tell(idle, execution, "kill")


async def test_a_running_run_pauses_after_the_step_in_hand_and_goes_on(service: Service) -> None:
    agent = await asking_agent(service)
    script = '@delay 500ms\n@call todo_write {"todos": []}\n@then\n@say End.'
    execution = await begin(service, agent, script)
    await service.until(execution, "running")
    assert (await told(service, execution, "pause", reason="lunch"))["status"] == "running"
    paused = await service.until(execution, "paused")
    assert (paused["steps"], paused["pause_reason"]) == (1, "lunch")
    assert paused["paused_at"] is not None
    assert await rows(service, "select active from slots") == [(0,)]
    await told(service, execution, "resume")
    done = await service.until(execution, "completed")
    assert (done["output"], done["steps"], done["pause_reason"]) == ("End.", 3, None)
    signals = await rows(service, "select kind, handled_at is null from signals order by seq")
    assert signals == [("pause", False), ("resume", False)]
    story = [
        data["status"]
        for _, kind, data in await service.events(execution)
        if kind == "status.changed"
    ]
    assert story == ["pending", "running", "paused", "pending", "running", "completed"]


async def test_a_pause_is_withdrawn_in_time(service: Service) -> None:
    execution = await begin(service, await asking_agent(service), "@delay 700ms\n@say End.")
    await service.until(execution, "running")
    await told(service, execution, "pause")
    await told(service, execution, "resume")
    again = await tell(service, execution, "resume")
    assert again.json()["error"]["code"] == "InvalidTransition"
    done = await service.until(execution, "completed", "paused")
    assert (done["status"], done["output"]) == ("completed", "End.")


async def test_a_pause_that_comes_while_the_run_parks_is_not_lost(
    idle: Service, clone: TestDatabase
) -> None:
    """Both signals are there before the worker is: the wait must not swallow the pause."""
    execution = await begin(idle, await asking_agent(idle), f"@delay 300ms\n{ASKS}")
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "running")
        await told(idle, execution, "pause")
        paused = await idle.until(execution, "paused", "awaiting_input")
        assert paused["status"] == "paused"
        await told(idle, execution, "resume")
        await idle.until(execution, "awaiting_input")


async def test_who_gives_a_slot_back_lets_the_next_of_the_line_in(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    """One slot: a resumed run waits in line until the other has ended, and no longer."""
    async with running_service(database, clone.urls.system, tmp_path, tier="free") as service:
        agent = await asking_agent(service)
        first = await begin(service, agent, f"{ASKS}\n@then\n@say First.")
        await service.until(first, "awaiting_input")
        second = await begin(service, agent, "@delay 1s\n@say Second.")
        assert (await told(service, first, "input", input=3))["status"] == "pending"
        live = "select execution_id::text, slot, job_id is null from live_executions where not slot"
        assert await rows(service, live) == [(first, False, True)]
        await service.until(second, "completed")
        done = await service.until(first, "completed")
        assert done["output"] == "First."
        assert await rows(service, "select active, allowed from slots") == [(0, 1)]


@pytest.mark.parametrize("verb", ["cancel", "kill", "pause", "park"])
async def test_a_slot_goes_to_the_next_in_the_same_transaction(
    database: Database, clone: TestDatabase, tmp_path: Path, verb: str
) -> None:
    """No worker is there to sweep."""
    async with running_service(
        database, clone.urls.system, tmp_path, tier="free", work=False
    ) as service:
        agent = await asking_agent(service)
        first = await begin(service, agent, "@say First.")
        await told(service, first, "pause")
        second = await begin(service, agent, "@say Second.")
        await told(service, first, "resume")
        line = "select slot, job_id is not null from live_executions where execution_id = $1"
        assert await rows(service, line, UUID(first)) == [(False, False)]
        if verb == "park":
            run = await taken(service, second)
            async with database.hot(run.lease.organization_id) as connection:
                assert await park_to_wait(connection, run.lease, QUESTION, Seen(0, 0, 0, 0))
        else:
            await told(service, second, verb)
        assert await rows(service, line, UUID(first)) == [(True, True)]
        assert await rows(service, "select active from slots") == [(1,)]


QUESTION = Wait(
    kind="input", message_seq=1, call_id="c", request={"question": "Well?"}, deadline_s=None
)


async def taken(service: Service, execution: str) -> Run:
    run = await take(
        service.database,
        service.caller.organization_id,
        ExecutionId(UUID(execution)),
        worker="here",
        lease_s=60,
    )
    assert run is not None
    return run


async def test_a_run_does_not_park_behind_a_signal_that_it_has_not_seen(idle: Service) -> None:
    """Else the signal would find nobody, and the run would rest for ever."""
    run = await taken(idle, await begin(idle, await asking_agent(idle), "@say Hi."))
    outside = Outside(
        idle.database, idle.worker.bells, idle.worker.doorbell, {}, lambda: False, 3, CallPolicy()
    )
    await told(idle, str(run.lease.execution_id), "pause")
    assert not await setting_aside.wait(run, outside, QUESTION)
    assert run.pausing
    assert await rows(idle, "select status, wait_seq from live_executions") == [("running", 0)]
    await told(idle, str(run.lease.execution_id), "resume")
    assert not await setting_aside.pause(run, outside)
    assert await rows(idle, "select wake_seq, handled_seq from live_executions") == [(2, 2)]
    await told(idle, str(run.lease.execution_id), "cancel")
    with pytest.raises(CancelRequested):
        await setting_aside.wait(run, outside, QUESTION)


async def test_the_sweep_admits_whom_nobody_saw(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    async with running_service(
        database, clone.urls.system, tmp_path, tier="free", work=False
    ) as service:
        execution = await begin(service, await asking_agent(service), "@say Hi.")
        async with database.hot(service.caller.organization_id) as connection:
            await connection.execute("update live_executions set slot = false, job_id = null")
            await connection.execute("update slots set active = 0")
        async with database.across() as connection:
            await connection.execute("delete from queue.pgqueuer")
        async with work_on(service, clone.urls.system):
            await service.until(execution, "completed")
        assert await rows(service, "select active from slots") == [(0,)]


async def test_a_kill_ends_a_run_at_once_and_its_worker_lets_go(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    """Long before the worker would renew its lease."""
    async with running_service(database, clone.urls.system, tmp_path, lease_s=60) as service:
        execution = await begin(service, await asking_agent(service), "@delay 30s")
        await service.until(execution, "running")
        assert service.worker.held
        killed = await told(service, execution, "kill")
        assert (killed["status"], killed["force_killed"]) == ("cancelled", True)
        async with asyncio.timeout(1):
            while service.worker.held:
                await asyncio.sleep(0.01)
        assert await rows(service, "select active from slots") == [(0,)]
        signals = await rows(service, "select kind, handled_at is null from signals")
        assert signals == [("kill", False)]


async def test_deleting_kills(idle: Service) -> None:
    execution = await begin(idle, await asking_agent(idle), "@say Hi.")
    answer = await idle.client.delete(f"/api/v1/executions/{execution}")
    assert (answer.status_code, answer.json()["force_killed"]) == (200, True)


async def test_only_the_starter_and_admins_kill(service: Service) -> None:
    """The agent's owner may steer a run of it that another started, but not kill it."""
    document = {
        "model": {"provider": "simulated", "name": "standard"},
        "capabilities": CAPABILITIES,
    }
    body = {"name": "Hers", "visibility": "organization", "config": document, "publish": True}
    async with client_of(service.app, await colleague_key(service, "member")) as her:
        agent = (await her.post("/api/v1/agents", json=body)).json()["slug"]
        execution = await begin(service, agent, ASKS)
        await service.until(execution, "awaiting_input")
        for answer in (
            await her.post(f"/api/v1/executions/{execution}/kill"),
            await her.delete(f"/api/v1/executions/{execution}"),
        ):
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "InsufficientPermissions"
        assert (await her.post(f"/api/v1/executions/{execution}/cancel")).status_code == 200


async def test_another_member_steers_nothing(service: Service) -> None:
    execution = await begin(service, await asking_agent(service), ASKS)
    await service.until(execution, "awaiting_input")
    async with client_of(service.app, await colleague_key(service, "member")) as stranger:
        for verb, body in ACTIONS.items():
            path = f"/api/v1/executions/{execution}/{verb}"
            sent = {} if verb in BARE else {"json": body}
            answer = await stranger.post(path, **sent)
            assert answer.status_code == 403, (verb, answer.text)
    assert (await service.get(f"/executions/{execution}"))["status"] == "awaiting_input"


async def test_a_retry_goes_on_from_the_last_checkpoint(service: Service) -> None:
    agent = await asking_agent(service)
    script = '@call metadata_write {"key": "n", "value": 1}\n@then\n@fail 400\n@then\n@say Never.'
    execution = await begin(service, agent, script)
    failed = await service.until(execution, "failed")
    assert failed["steps"] == 3
    answer = await service.client.post(
        f"/api/v1/executions/{execution}/retry", headers={"Idempotency-Key": "again"}
    )
    assert answer.status_code == 202
    retried = answer.json()
    assert retried["origin"] == {
        "kind": "retry",
        "execution_id": execution,
        "step": None,
        "cost": failed["cost"],
    }
    assert retried["trigger"] == {"kind": "retry", "id": execution}
    done = await service.until(retried["id"], "failed")
    # The first two steps are not taken again, and the state of the old run is there.
    assert done["steps"] == 1
    state = await rows(
        service, "select state from steps where execution_id = $1 and state is not null", execution
    )
    assert state == [({"metadata": {"n": 1}},)]
    again = await service.client.post(
        f"/api/v1/executions/{execution}/retry", headers={"Idempotency-Key": "again"}
    )
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (retried["id"], "true")


async def snapshot(service: Service, execution: str) -> list[Any]:
    """Every row of a run, of every table that has some."""
    found = list[Any]()
    for table in (
        "executions",
        "execution_payloads",
        "steps",
        "run_messages",
        "events",
        "logs",
        "signals",
        "waits",
        "effects",
        "claims",
        "usage_records",
    ):
        key = "id" if table == "executions" else "execution_id"
        found += await rows(
            service,
            f"select to_jsonb(t)::text from {table} t where {key} = $1 order by 1",
            execution,
        )
    return found


async def test_a_fork_leaves_its_origin_as_it_was(service: Service) -> None:
    agent = await asking_agent(service)
    script = (
        '@call metadata_write {"key": "n", "value": 1}\n@then\n'
        '@call metadata_write {"key": "n", "value": 2}\n@then\n@say Two.'
    )
    execution = await begin(service, agent, script)
    done = await service.until(execution, "completed")
    before = await snapshot(service, execution)
    forked = await told(
        service,
        execution,
        "fork",
        step=2,
        input="@then\n@call metadata_read {}\n@then\n@quote 5\n@then",
        instructions="Be short.",
        model={"provider": "simulated", "name": "unpriced"},
    )
    assert forked["origin"] == {
        "kind": "fork",
        "execution_id": execution,
        "step": 2,
        "cost": done["cost"],
    }
    ended = await service.until(forked["id"], "completed", "failed")
    assert ended["status"] == "completed", ended["error"]
    assert '"n": 1' in ended["output"]
    assert ended["unpriced"]
    steps = await service.get(f"/executions/{forked['id']}/steps")
    assert {step["model"] for step in steps if step["kind"] == "model"} == {"unpriced"}
    assert await snapshot(service, execution) == before


async def test_a_fork_at_no_step_begins_anew(service: Service) -> None:
    agent = await asking_agent(service)
    execution = await begin(service, agent, "@say One.\n@then\n@say Two.")
    await service.until(execution, "completed")
    forked = await told(service, execution, "fork", step=0)
    assert (await service.until(forked["id"], "completed"))["output"] == "One."
    missing = await tell(service, execution, "fork", step=9)
    assert missing.status_code == 400
    assert missing.json()["error"]["details"]["violations"][0]["pointer"] == "/step"
    wrong = await tell(service, execution, "fork", model={"provider": "simulated", "name": "x"})
    assert wrong.json()["error"]["code"] == "InvalidAgentConfig"
    assert wrong.json()["error"]["details"]["violations"][0]["pointer"] == "/model/name"
