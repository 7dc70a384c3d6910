"""Cancelling, limits, idempotency, slots, losses (EXE-6, EXE-12, EXE-14, EXE-17, TEN-6)."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service, work_on
from tests.factories.tenancy import client_of, make_caller

from chargehand.executions import recovery
from chargehand.executions.signals import request_cancel
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


@pytest.fixture
async def idle(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    """No worker yet, and the tier ``pro``: five active runs."""
    async with running_service(
        database, clone.urls.system, tmp_path, work=False, tier="pro"
    ) as running:
        yield running


async def begin(service: Service, agent: str, script: str, key: str | None = None) -> str:
    headers = {"Idempotency-Key": key} if key else {}
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute",
        json={"input": script, "mode": "async"},
        headers=headers,
    )
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["id"]


async def test_a_running_model_call_is_aborted_within_two_seconds(service: Service) -> None:
    agent = await service.agent()
    execution = await begin(service, agent, "@pace 100ms\n@tokens 500")
    await service.until(execution, "running")
    asked_at = time.monotonic()
    answer = await service.client.post(f"/api/v1/executions/{execution}/cancel")
    assert answer.status_code in (200, 202)
    done = await service.until(execution, "cancelled")
    assert time.monotonic() - asked_at < 2
    assert done["finish_reason"] == "cancelled"
    events = await service.events(execution)
    assert events[-1][1] == "done"
    assert events[-1][2]["status"] == "cancelled"
    async with service.database.hot(service.caller.organization_id) as connection:
        open_signals = await connection.fetchval(
            "select count(*) from signals where handled_at is null"
        )
        active = await connection.fetchval("select active from slots")
    assert (open_signals, active) == (0, 0)


async def test_a_ring_alone_tells_the_owner_of_a_cancel(
    service: Service, clone: TestDatabase
) -> None:
    """The sweep cannot: it waits for a lock on the queue."""
    execution = await begin(service, await service.agent(), "@delay 30s")
    await service.until(execution, "running")
    owner = await asyncpg.connect(clone.owner_url)
    try:
        await owner.execute("begin; lock table queue.pgqueuer in access exclusive mode")
        asked_at = time.monotonic()
        answer = await service.client.post(f"/api/v1/executions/{execution}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        await service.until(execution, "cancelled")
        assert time.monotonic() - asked_at < 1
    finally:
        await owner.close()


async def test_the_sweep_alone_finds_a_cancel_whose_ring_was_lost(service: Service) -> None:
    execution = ExecutionId(UUID(await begin(service, await service.agent(), "@delay 30s")))
    await service.until(str(execution), "running")
    asked_at = time.monotonic()
    # What the route does, but for the ring after it.
    async with service.database.hot(service.caller.organization_id) as connection:
        assert await request_cancel(connection, service.caller, execution) == "running"
    await service.until(str(execution), "cancelled")
    assert time.monotonic() - asked_at < 3


async def test_a_pending_run_is_cancelled_at_once_and_only_once(idle: Service) -> None:
    agent = await idle.agent()
    execution = await begin(idle, agent, "@say Hi.")
    answer = await idle.client.post(f"/api/v1/executions/{execution}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    again = await idle.client.post(f"/api/v1/executions/{execution}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_a_completed_run_cannot_be_cancelled(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hi.")
    answer = await service.client.post(f"/api/v1/executions/{done['id']}/cancel")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "InvalidTransition"
    assert (error["details"]["from"], error["details"]["to"]) == ("completed", "cancelled")


async def test_a_run_out_of_time_fails_with_its_partial_output(service: Service) -> None:
    agent = await service.agent(limits={"wall_time_s": 0.7})
    done = await service.run(
        agent, "@pace 100ms\n@say one two three four five six seven eight nine"
    )
    assert done["status"] == "failed"
    assert done["error"]["code"] == "ExecutionTimeout"
    assert done["output"].startswith("one two")


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"steps": 2}, "limits.steps"),
        ({"tokens": 50}, "limits.tokens"),
        ({"cost_usd": "0.0001"}, "limits.cost_usd"),
    ],
)
async def test_a_used_up_limit_is_a_clean_failure(
    service: Service, limits: dict[str, object], field: str
) -> None:
    agent = await service.agent(capabilities={"todo": {}}, limits=limits)
    call = '@say Working.\n@call todo_write {"todos": []}\n@usage input=200 output=20'
    done = await service.run(agent, "\n@then\n".join([call] * 4))
    assert done["status"] == "failed"
    assert done["error"]["code"] == "ResourceExhausted"
    assert field in done["error"]["message"]
    assert done["output"] == "Working."


async def test_long_runs_go_in_chunks(service: Service) -> None:
    agent = await service.agent(capabilities={"todo": {}}, limits={"chunk_steps": 2, "steps": 20})
    call = '@call todo_write {"todos": []}'
    done = await service.run(agent, "\n@then\n".join([call] * 3 + ["@say Done."]))
    assert (done["status"], done["steps"], done["chunk"]) == ("completed", 7, 4)
    async with service.database.hot(service.caller.organization_id) as connection:
        released = await connection.fetchval("select count(*) from claims where event = 'released'")
    assert released == 3


async def test_the_same_key_and_body_give_the_same_execution(service: Service) -> None:
    agent = await service.agent()
    url = f"/api/v1/agents/{agent}/execute"
    both = await asyncio.gather(
        *(
            service.client.post(url, json={"input": "@say Hi."}, headers={"Idempotency-Key": "k"})
            for _ in range(2)
        )
    )
    assert len({answer.json()["id"] for answer in both}) == 1
    assert sorted(a.headers.get("idempotency-replayed", "") for a in both) == ["", "true"]
    other = await service.client.post(
        url, json={"input": "@say Ho."}, headers={"Idempotency-Key": "k"}
    )
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "IdempotencyKeyReused"


async def test_another_user_may_use_the_same_key(service: Service, database: Database) -> None:
    from chargehand.tenancy.tables import Organization

    agent = await service.agent()
    mine = await begin(service, agent, "@say Hi.", key="k")
    async with database.transaction(service.caller.organization_id) as session:
        organization = await session.get(Organization, service.caller.organization_id)
    _, key = await make_caller(database, role="member", organization=organization)
    async with client_of(service.app, key) as colleague:
        answer = await colleague.post(
            f"/api/v1/agents/{agent}/execute",
            json={"input": "@say Ho."},
            headers={"Idempotency-Key": "k"},
        )
    assert answer.json()["id"] != mine


async def test_slots_are_taken_at_the_start_and_given_back_at_the_end(
    idle: Service, clone: TestDatabase
) -> None:
    agent = await idle.agent()
    runs = [await begin(idle, agent, "@say Hi.") for _ in range(5)]
    answers = await asyncio.gather(
        *(
            idle.client.post(f"/api/v1/agents/{agent}/execute", json={"input": "x"})
            for _ in range(3)
        )
    )
    assert [answer.status_code for answer in answers] == [429, 429, 429]
    assert answers[0].json()["error"]["code"] == "RateLimitExceeded"
    assert answers[0].headers["retry-after"]
    async with work_on(idle, clone.urls.system):
        for run in runs:
            await idle.until(run, "completed")
        assert (await idle.run(agent, "@say Again."))["status"] == "completed"


async def test_concurrent_starts_never_pass_the_slots(idle: Service) -> None:
    agent = await idle.agent()
    answers = await asyncio.gather(
        *(
            idle.client.post(
                f"/api/v1/agents/{agent}/execute", json={"input": "x", "mode": "async"}
            )
            for _ in range(12)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 7


async def test_a_run_whose_worker_is_lost_three_times_fails(
    idle: Service, clone: TestDatabase
) -> None:
    execution = await begin(idle, await idle.agent(), "@say Hi.")
    for n in range(1, 4):
        run = await take(
            idle.database,
            idle.caller.organization_id,
            ExecutionId(UUID(execution)),
            worker=f"host:{n}:x",
            lease_s=0.01,
        )
        assert run is not None
        assert run.lease.epoch == n
        await asyncio.sleep(0.02)
    async with work_on(idle, clone.urls.system):
        done = await idle.until(execution, "failed", "completed")
    assert done["error"]["code"] == "WorkerLost"


async def test_a_job_that_is_lost_is_made_again(idle: Service, clone: TestDatabase) -> None:
    """The sweeper finds a pending run whose job row has gone."""
    execution = await begin(idle, await idle.agent(), "@say Hi.")
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute("delete from queue.pgqueuer")
    await owner.close()
    async with work_on(idle, clone.urls.system):
        assert (await idle.until(execution, "completed"))["output"] == "Hi."


async def test_a_doubled_job_is_harmless(idle: Service, clone: TestDatabase) -> None:
    """Also to a run that is longer than its lease: a job that claims nothing lets go of nothing."""
    execution = await begin(idle, await idle.agent(), "@delay 5s\n@say Hi.")
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute(
        "insert into queue.pgqueuer (priority, entrypoint, payload, status) "
        "select priority, entrypoint, payload, status from queue.pgqueuer, generate_series(1, 5)"
    )
    await owner.close()
    async with work_on(idle, clone.urls.system):
        assert (await idle.until(execution, "completed"))["steps"] == 1
    async with idle.database.hot(idle.caller.organization_id) as connection:
        assert await connection.fetchval("select count(*) from claims") == 2


async def lose(idle: Service, execution: str) -> None:
    """Claim the run as a worker that dies at once."""
    run = await take(
        idle.database,
        idle.caller.organization_id,
        ExecutionId(UUID(execution)),
        worker="host:1:x",
        lease_s=0.01,
    )
    assert run is not None
    await asyncio.sleep(0.02)


async def test_the_time_that_nobody_ran_it_does_not_count(
    idle: Service, clone: TestDatabase
) -> None:
    agent = await idle.agent(limits={"wall_time_s": 2})
    execution = await begin(idle, agent, "@delay 200ms\n@say Hi.")
    await lose(idle, execution)
    await asyncio.sleep(2.5)
    async with work_on(idle, clone.urls.system):
        done = await idle.until(execution, "completed", "failed")
    assert done["output"] == "Hi."
    logs = await idle.get(f"/executions/{execution}/logs")
    assert "execution.taken_over" in [line["event_type"] for line in logs]


async def test_a_run_whose_owner_is_dead_is_cancelled_at_once(idle: Service) -> None:
    execution = await begin(idle, await idle.agent(), "@say Hi.")
    await lose(idle, execution)
    answer = await idle.client.post(f"/api/v1/executions/{execution}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


async def test_sweeping_again_adds_no_second_job(idle: Service, clone: TestDatabase) -> None:
    execution = await begin(idle, await idle.agent(), "@say Hi.")
    await lose(idle, execution)
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute("update queue.pgqueuer set status = 'picked'")
    for _ in range(3):
        async with idle.database.across() as connection:
            await recovery.sweep(connection, pause=timedelta(0))
    rows = await owner.fetch("select status::text, count(*) from queue.pgqueuer group by 1")
    await owner.close()
    assert dict(rows) == {"picked": 1, "queued": 1}


async def test_a_run_in_flight_outlives_its_agent(idle: Service, clone: TestDatabase) -> None:
    agent = await idle.agent()
    execution = await begin(idle, agent, "@say Hi.")
    gone = await idle.client.delete(f"/api/v1/agents/{agent}?purge=true")
    assert gone.status_code in (200, 204)
    async with work_on(idle, clone.urls.system):
        assert (await idle.until(execution, "completed", "failed"))["output"] == "Hi."


async def test_a_state_that_cannot_be_read_is_a_clean_failure(
    idle: Service, clone: TestDatabase
) -> None:
    execution = await begin(idle, await idle.agent(), "@say Hi.")
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute("update execution_payloads set config = '{}'")
    await owner.close()
    async with work_on(idle, clone.urls.system):
        done = await idle.until(execution, "completed", "failed")
    assert done["error"]["code"] == "ExecutionFailed"
    async with idle.database.hot(idle.caller.organization_id) as connection:
        assert await connection.fetchval("select active from slots") == 0


async def test_a_worker_that_must_end_hands_over_in_the_middle_of_a_step(
    idle: Service, clone: TestDatabase
) -> None:
    execution = await begin(idle, await idle.agent(), "@pace 50ms\n@tokens 200")
    idle.worker.drain_s = 0.3
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "running")
    left = await idle.get(f"/executions/{execution}")
    assert (left["status"], left["steps"]) == ("pending", 0)


async def test_an_answer_beyond_the_tokens_is_a_failure_with_the_answer_kept(
    service: Service,
) -> None:
    agent = await service.agent(limits={"tokens": 300})
    done = await service.run(agent, "@say Much.\n@usage input=250 output=100")
    assert (done["status"], done["error"]["code"]) == ("failed", "ResourceExhausted")
    assert done["output"] == "Much."


async def test_an_answer_is_cut_to_the_tokens_that_are_left(service: Service) -> None:
    agent = await service.agent(limits={"tokens": 200})
    done = await service.run(agent, "@tokens 5000")
    assert done["finish_reason"] == "length" or done["status"] == "failed"
    assert done["usage"]["output_tokens"] <= 200
