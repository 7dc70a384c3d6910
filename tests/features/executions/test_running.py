"""A run from the request to the answer: states, steps, costs, events, logs (EXE-1 to EXE-3)."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.executions.live import Feed
from chargehand.executions.stories import BEGINNING, Stories
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


async def test_a_run_completes_with_output_steps_and_cost(service: Service) -> None:
    agent = await service.agent()
    done = await service.run(
        agent, "@say Hello there.\n@usage input=1000 output=100", metadata={"ticket": 7}
    )
    assert done["status"] == "completed"
    assert done["output"] == "Hello there."
    assert done["steps"] == 1
    assert done["usage"]["total_tokens"] == 1100
    assert Decimal(done["cost"]) == Decimal("0.0014")
    assert done["currency"] == "USD"
    assert done["metadata"] == {"ticket": 7}
    assert done["started_at"] <= done["completed_at"]
    assert done["error"] is None


async def test_totals_of_steps_records_and_execution_agree_to_the_last_digit(
    service: Service,
) -> None:
    agent = await service.agent(capabilities={"todo": {}})
    script = "\n".join(
        [
            '@call todo_write {"todos": [{"content": "look", "status": "pending"}]}',
            "@usage input=333 cache_read=7 output=77",
            "@then",
            "@say Done.",
            "@usage input=1001 output=13",
        ]
    )
    done = await service.run(agent, script)
    steps = await service.get(f"/executions/{done['id']}/steps")
    async with service.database.hot(service.caller.organization_id) as connection:
        records = await connection.fetch("select * from usage_records order by call_id")
        told = await connection.fetchval("select data->>'cost' from events where type = 'done'")
    async with service.database.across() as connection:
        sent = await connection.fetchval(
            "select data->>'cost' from outbox where type = 'AgentExecutionCompleted'"
        )
    booked = sum((r["input_cost"] + r["output_cost"] for r in records), Decimal(0))
    assert [step["kind"] for step in steps] == ["model", "tool", "model"]
    # By hand, a million tokens at 1 (input), 0.10 (from the cache) and 4 (output):
    first = Decimal("0.0006347")  # 326 at 1, 7 at 0.10, 77 at 4
    last = Decimal("0.001053")  # 1001 at 1, 13 at 4
    assert [Decimal(step["cost"]) for step in steps] == [first, 0, last]
    assert [Decimal(cost) for cost in (done["cost"], told, sent, booked)] == [first + last] * 4
    assert done["usage"]["input_tokens"] == 1334
    assert done["usage"]["cache_read_tokens"] == 7
    assert {r["price_source"] for r in records} == {"simulated"}


async def test_the_events_tell_the_whole_story_in_order(service: Service) -> None:
    agent = await service.agent(capabilities={"todo": {}})
    script = '@call todo_write {"todos": []}\n@then\n@say All clear.'
    done = await service.run(agent, script)
    events = await service.events(done["id"])
    assert [kind for kind, _ in groupby(event[1] for event in events)] == [
        "log",
        "status.changed",
        "log",
        "status.changed",
        "step.started",
        "log",
        "step.completed",
        "usage",
        "step.started",
        "tool.started",
        "log",
        "tool.completed",
        "step.completed",
        "step.started",
        "output.delta",
        "log",
        "step.completed",
        "usage",
        "log",
        "status.changed",
        "done",
    ]
    assert [int(event[0].split(".")[1]) for event in events] == list(range(1, len(events) + 1))
    text = "".join(e[2]["text"] for e in events if e[1] == "output.delta")
    assert text == "All clear."
    assert events[-1][2]["status"] == "completed"
    assert [e[2]["status"] for e in events if e[1] == "status.changed"] == [
        "pending",
        "running",
        "completed",
    ]
    assert events[6][2]["tool_names"] == ["todo_write"]


async def test_a_stream_goes_on_behind_the_last_event(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hello.")
    events = await service.events(done["id"])
    assert await service.events(done["id"], events[2][0]) == events[3:]
    behind = await service.client.get(
        f"/api/v1/executions/{done['id']}/events", headers={"Last-Event-ID": events[-1][0]}
    )
    assert behind.status_code == 204
    wrong = await service.client.get(
        f"/api/v1/executions/{done['id']}/events", headers={"Last-Event-ID": "seven"}
    )
    assert wrong.status_code == 400


async def test_execute_can_answer_with_the_stream(service: Service) -> None:
    agent = await service.agent()
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "@say Hi.", "mode": "stream"}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: done" in answer.text
    assert (await service.get(f"/executions/{answer.headers['x-execution-id']}"))["output"] == "Hi."


async def test_async_answers_at_once_and_wait_gives_up_with_202(service: Service) -> None:
    agent = await service.agent()
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "@delay 1s\n@say Hi.", "mode": "async"}
    )
    assert answer.status_code == 202
    assert answer.json()["status"] in ("pending", "running")
    waited = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "@delay 2s\n@say Hi.", "timeout_s": 0.2}
    )
    assert waited.status_code == 202
    assert (await service.until(answer.json()["id"], "completed"))["output"] == "Hi."
    assert (await service.until(waited.json()["id"], "completed"))["output"] == "Hi."


async def test_logs_are_listed_behind_an_id(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hi.")
    logs = await service.get(f"/executions/{done['id']}/logs")
    assert [line["event_type"] for line in logs] == [
        "execution.accepted",
        "execution.claimed",
        "step.model",
        "execution.completed",
    ]
    rest = await service.get(f"/executions/{done['id']}/logs?after_id={logs[0]['id']}")
    assert rest == logs[1:]


async def test_a_failed_run_answers_200_with_the_error(service: Service) -> None:
    done = await service.run(await service.agent(), "@fail 400")
    assert done["status"] == "failed"
    assert done["error"]["code"] == "ModelProviderFailed"
    assert done["error"]["details"]["attempts"][0]["status"] == 400
    assert done["model_attempts"] == 1


async def test_a_retryable_failure_is_retried_and_each_attempt_recorded(
    service: Service,
) -> None:
    done = await service.run(
        await service.agent(), "@fail 429 retry_after=0.1 times=2\n@say At last."
    )
    assert done["output"] == "At last."
    steps = await service.get(f"/executions/{done['id']}/steps")
    assert [attempt["status"] for attempt in steps[0]["attempts"]] == [429, 429, None]
    assert done["model_attempts"] == 3


async def test_a_cut_stream_is_billed_and_its_text_reset(service: Service) -> None:
    done = await service.run(await service.agent(), "@cut 3 times=1\n@say one two three four five")
    assert done["output"] == "one two three four five"
    events = await service.events(done["id"])
    kinds = [event[1] for event in events]
    reset = kinds.index("output.reset")
    after = "".join(e[2]["text"] for e in events[reset:] if e[1] == "output.delta")
    assert after == done["output"]
    async with service.database.hot(service.caller.organization_id) as connection:
        billed = await connection.fetch("select output_tokens from usage_records order by call_id")
    assert len(billed) == 2
    assert billed[0]["output_tokens"] > 0


async def test_list_shows_runs_newest_first_by_pages(service: Service) -> None:
    agent = await service.agent()
    ids = [(await service.run(agent, f"@say {n}"))["id"] for n in range(3)]
    first = await service.get("/executions?limit=2")
    assert [item["id"] for item in first["items"]] == [ids[2], ids[1]]
    rest = await service.get(f"/executions?limit=2&cursor={first['next_cursor']}")
    assert [item["id"] for item in rest["items"]] == [ids[0]]
    assert rest["next_cursor"] is None
    failed = await service.get("/executions?status=failed")
    assert failed["items"] == []


async def test_an_unknown_field_is_an_error(service: Service) -> None:
    agent = await service.agent()
    for field in ("run_at", "await_event", "conversation"):
        answer = await service.client.post(
            f"/api/v1/agents/{agent}/execute", json={"input": "x", field: "y"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["details"]["violations"][0]["pointer"] == f"/{field}"


async def test_closing_the_feed_ends_open_streams(service: Service) -> None:
    agent = await service.agent()
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "@delay 30s", "mode": "async"}
    )
    execution = ExecutionId(UUID(answer.json()["id"]))
    feed: Feed = service.app.state.feed
    seen = list[str]()
    organization = service.caller.organization_id
    with feed.watching_run(execution) as watch:
        story = Stories(feed, service.database).follow(
            organization, execution, BEGINNING, watch, with_log=False
        )
        async with asyncio.timeout(5):
            async for event in story:
                assert event is not None
                seen.append(event.type)
                if event.type == "step.started":
                    feed.close()
    assert seen == ["status.changed", "status.changed", "step.started"]
    await service.client.post(f"/api/v1/executions/{execution}/cancel")
