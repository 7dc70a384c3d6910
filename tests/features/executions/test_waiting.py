"""Runs that wait: for answers, results, approvals, events (EXE-7, EXE-18, EXE-20)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.steered import asking_agent, begin, colleague_key, tell, told
from tests.factories.tenancy import client_of, make_caller

from chargehand.kernel.database import Database


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, tier="wide") as running:
        yield running


async def rows(service: Service, query: str, *values: Any) -> list[Any]:
    async with service.database.hot(service.caller.organization_id) as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


async def test_a_run_asks_and_goes_on_with_the_answer(service: Service) -> None:
    script = (
        '@call ask_user {"question": "How many?", "answer_schema": {"type": "integer"}}\n'
        "@then\n@quote 1"
    )
    execution = await begin(service, await asking_agent(service), script)
    waiting = await service.until(execution, "awaiting_input")
    asked = waiting["waiting_for"]
    assert (asked["kind"], asked["question"], asked["wait"]) == ("input", "How many?", 1)
    assert asked["answer_schema"] == {"type": "integer"}
    # It holds nothing: no lease, no owner, no slot, no job.
    held = "select owner, lease_expires_at, slot from live_executions"
    assert await rows(service, held) == [(None, None, False)]
    assert await rows(service, "select active from slots") == [(0,)]
    assert service.worker.held == {}
    wrong = await tell(service, execution, "input", input="many")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["details"]["violations"][0]["pointer"] == "/input"
    stale = await tell(service, execution, "input", input=3, wait=2)
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "WaitClosed")
    await told(service, execution, "input", input=3, wait=1)
    done = await service.until(execution, "completed")
    assert done["output"] == "ask_user:\n> 3"
    assert done["waiting_for"] is None
    late = await tell(service, execution, "input", input=4)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "InvalidTransition")
    story = [kind for _, kind, _ in await service.events(execution)]
    assert story.count("input.requested") == 1
    kinds = await rows(service, "select kind, outcome, answer from waits")
    assert kinds == [("input", "answered", 3)]


async def test_waiting_callers_are_answered_as_soon_as_the_run_waits(service: Service) -> None:
    agent = await asking_agent(service)
    began = asyncio.get_running_loop().time()
    found = await service.run(agent, '@call ask_user {"question": "Well?"}', timeout_s=30)
    assert found["status"] == "awaiting_input"
    assert asyncio.get_running_loop().time() - began < 10


LOOKUP = {
    "name": "lookup",
    "description": "Looks up a number.",
    "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
}


async def test_tools_of_the_caller_stop_the_run_with_their_calls(service: Service) -> None:
    agent = await asking_agent(service)
    script = (
        '@call lookup {"name": "a"}\n@call todo_write {"todos": []}\n@call lookup {"name": "b"}\n'
        "@then\n@quote 1"
    )
    execution = await begin(service, agent, script, tools=[LOOKUP])
    waiting = (await service.until(execution, "awaiting_input"))["waiting_for"]
    assert waiting["kind"] == "tools"
    assert [call["arguments"] for call in waiting["calls"]] == [{"name": "a"}, {"name": "b"}]
    first, second = (call["call_id"] for call in waiting["calls"])
    wrong = await tell(service, execution, "input", tool_results=[{"call_id": "x", "output": 1}])
    assert wrong.status_code == 400
    pointer = wrong.json()["error"]["details"]["violations"][0]["pointer"]
    assert pointer == "/tool_results/0/call_id"
    neither = await tell(service, execution, "input", tool_results=[{"call_id": first}])
    violations = neither.json()["error"]["details"]["violations"]
    assert [one["pointer"] for one in violations] == ["/tool_results/0"]
    none = await tell(service, execution, "input", tool_results=[])
    assert none.json()["error"]["details"]["violations"][0]["pointer"] == "/tool_results"
    half = await told(
        service, execution, "input", tool_results=[{"call_id": second, "error": "No b."}]
    )
    assert half["status"] == "awaiting_input"
    assert [call["call_id"] for call in half["waiting_for"]["calls"]] == [first]
    await told(service, execution, "input", tool_results=[{"call_id": first, "output": {"n": 1}}])
    done = await service.until(execution, "completed")
    assert '> {"n":1}' in done["output"]
    assert "No b." in done["output"]
    steps = await service.get(f"/executions/{execution}/steps")
    assert [step["tool_name"] for step in steps if step["kind"] == "tool"] == [
        "lookup",
        "todo_write",
        "lookup",
    ]


async def test_tools_of_the_caller_are_checked_before_the_run(service: Service) -> None:
    agent = await asking_agent(service)
    tools = [
        LOOKUP,
        LOOKUP,
        {"name": "todo_write"},
        {"name": "odd", "parameters": {"type": "string"}},
        {"name": "bad", "parameters": {"type": "object", "properties": 3}},
    ]
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": "x", "tools": tools}
    )
    assert answer.status_code == 400
    pointers = {v["pointer"] for v in answer.json()["error"]["details"]["violations"]}
    assert pointers == {
        "/tools/1/name",
        "/tools/2/name",
        "/tools/3/parameters/type",
        "/tools/4/parameters/properties",
    }


APPROVED = {"approvals": {"metadata_write": {"persons": 2}}}
WRITES = '@call metadata_write {"key": "n", "value": 1}\n@then\n@quote 1'


async def test_a_marked_call_waits_for_as_many_persons_as_it_needs(service: Service) -> None:
    execution = await begin(service, await asking_agent(service, **APPROVED), WRITES)
    waiting = (await service.until(execution, "awaiting_input"))["waiting_for"]
    assert (waiting["kind"], waiting["persons"]) == ("approval", 2)
    assert waiting["reason"] == "needs_approval"
    assert waiting["calls"][0]["arguments"] == {"key": "n", "value": 1}
    one = await told(service, execution, "approve", wait=1, comment="Fine.")
    assert one["status"] == "awaiting_input"
    assert len(one["waiting_for"]["approvals"]) == 1
    again = await tell(service, execution, "approve", wait=1)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "AlreadyApproved")
    assert await rows(service, "select count(*) from steps where kind = 'tool'") == [(0,)]
    async with client_of(service.app, await colleague_key(service, "admin")) as second:
        path = f"/api/v1/executions/{execution}/approve"
        assert (await second.post(path, json={"wait": 1})).status_code == 200
    done = await service.until(execution, "completed")
    assert "n written" in done["output"]
    story = [kind for _, kind, _ in await service.events(execution)]
    assert story.count("approval.requested") == 1


async def test_a_denied_call_is_not_made_and_the_model_is_told_why(service: Service) -> None:
    agent = await asking_agent(service, approvals={"metadata_write": {}})
    execution = await begin(service, agent, WRITES)
    await service.until(execution, "awaiting_input")
    await told(service, execution, "deny", wait=1, comment="Not today.")
    done = await service.until(execution, "completed")
    assert "A person denied this call: Not today. It was not made." in done["output"]
    steps = await service.get(f"/executions/{execution}/steps")
    assert [s["error"]["outcome"] for s in steps if s["kind"] == "tool"] == ["denied"]


async def test_an_approval_is_of_the_very_arguments(service: Service) -> None:
    """The second call, with other arguments, needs an approval of its own."""
    agent = await asking_agent(service, approvals={"metadata_write": {}})
    script = (
        '@call metadata_write {"key": "n", "value": 1}\n'
        '@call metadata_write {"key": "n", "value": 2}\n@then\n@say End.'
    )
    execution = await begin(service, agent, script)
    await service.until(execution, "awaiting_input")
    await told(service, execution, "approve", wait=1)
    async with asyncio.timeout(20):
        while (found := await service.get(f"/executions/{execution}"))["waiting_for"] is None:
            await asyncio.sleep(0.02)
    assert found["waiting_for"]["wait"] == 2
    assert found["waiting_for"]["calls"][0]["arguments"]["value"] == 2
    stale = await tell(service, execution, "approve", wait=1)
    assert stale.json()["error"]["code"] == "WaitClosed"
    await told(service, execution, "approve", wait=2)
    await service.until(execution, "completed")


async def test_an_approval_names_a_tool_that_there_is(service: Service) -> None:
    config = {
        "model": {"provider": "simulated", "name": "standard"},
        "capabilities": {"metadata": {}},
        "approvals": {"metadata_wrote": {}},
    }
    answer = await service.client.post("/api/v1/agents", json={"name": "x", "config": config})
    violation = answer.json()["error"]["details"]["violations"][0]
    assert violation["pointer"] == "/config/approvals/metadata_wrote"
    assert "did you mean" in violation["message"]


EVENT = {"event_type": "invoice.paid", "payload": {"number": 7, "sum": "12.50"}}


async def send(service: Service, **event: Any) -> list[str]:
    answer = await service.client.post("/api/v1/events", json={**EVENT, **event})
    assert answer.status_code == 200, answer.text
    return answer.json()["woken"]


async def test_an_event_wakes_who_waits_for_it_once(service: Service) -> None:
    agent = await asking_agent(service)
    script = (
        '@call await_event {"event_type": "invoice.paid", "filter": {"number": 7}}\n@then\n@quote 1'
    )
    execution = await begin(service, agent, script)
    await service.until(execution, "awaiting_event")
    assert await send(service, payload={"number": 8}) == []
    assert await send(service, event_type="invoice.sent") == []
    assert await send(service, user="00000000-0000-7000-8000-000000000000") == []
    _, key = await make_caller(service.database)
    async with client_of(service.app, key) as stranger:
        elsewhere = await stranger.post("/api/v1/events", json=EVENT)
        assert elsewhere.json() == {"woken": []}
    woken = await asyncio.gather(*(send(service) for _ in range(5)))
    assert sorted(map(len, woken)) == [0, 0, 0, 0, 1]
    done = await service.until(execution, "completed")
    assert '"sum":"12.50"' in done["output"]


async def test_a_run_begins_when_its_event_comes(service: Service) -> None:
    agent = await asking_agent(service)
    awaited = {"event_type": "invoice.paid", "filter": {"number": 7}}
    execution = await begin(service, agent, "@say Paid.", await_event=awaited)
    waiting = await service.get(f"/executions/{execution}")
    assert (waiting["status"], waiting["started_at"]) == ("awaiting_event", None)
    assert waiting["waiting_for"]["event_type"] == "invoice.paid"
    assert await rows(service, "select active from slots") == [(0,)]
    assert await send(service) == [execution]
    done = await service.until(execution, "completed")
    assert done["output"] == "Paid."


async def test_an_event_is_kept_for_a_paused_run(service: Service) -> None:
    agent = await asking_agent(service)
    execution = await begin(
        service, agent, "@say Paid.", await_event={"event_type": "invoice.paid"}
    )
    await told(service, execution, "pause")
    assert await send(service) == [execution]
    paused = await service.get(f"/executions/{execution}")
    assert (paused["status"], paused["waiting_for"]) == ("paused", None)
    await told(service, execution, "resume")
    await service.until(execution, "completed")


@pytest.mark.parametrize(
    ("then", "status", "code"),
    [
        ("fail", "failed", "ExecutionTimeout"),
        ("cancel", "cancelled", None),
        ("continue", "completed", None),
    ],
)
async def test_at_the_deadline_a_run_does_what_was_said(
    service: Service, then: str, status: str, code: str | None
) -> None:
    options = {"deadline_s": 0.2, "on_deadline": then}
    agent = await service.agent(capabilities={"ask_user": options})
    execution = await begin(service, agent, '@call ask_user {"question": "Well?"}\n@then\n@quote 1')
    done = await service.until(execution, status)
    assert (done["error"] or {}).get("code") == code
    if then == "continue":
        assert "Nothing came before the deadline." in done["output"]
    outcome = {"continue": "expired"}.get(then, "withdrawn")
    assert await rows(service, "select outcome from waits") == [(outcome,)]
    assert await rows(service, "select active from slots") == [(0,)]


async def test_the_time_of_waiting_and_no_more_is_added_to_the_deadline(service: Service) -> None:
    script = '@delay 600ms\n@call ask_user {"question": "Well?"}\n@then\n@delay 5s'
    execution = await begin(service, await asking_agent(service), script)
    await service.until(execution, "awaiting_input")
    ((before,),) = await rows(service, "select deadline_at from live_executions")
    await told(service, execution, "input", input="yes")
    await service.until(execution, "running")
    ((after,),) = await rows(service, "select deadline_at from live_executions")
    at = {
        (event, epoch): when
        for event, epoch, when in await rows(service, "select event, epoch, at from claims")
    }
    waited = at["claimed", 2] - at["released", 1]
    assert abs((after - before - waited).total_seconds()) < 0.3
    await told(service, execution, "kill")


async def test_a_run_begins_at_its_time_and_holds_nothing_until_then(service: Service) -> None:
    agent = await asking_agent(service)
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    execution = await begin(service, agent, "@say Now.", run_at=at.isoformat())
    waiting = await service.get(f"/executions/{execution}")
    assert waiting["status"] == "pending"
    assert datetime.fromisoformat(waiting["scheduled_at"]) == at
    assert await rows(service, "select active from slots") == [(0,)]
    done = await service.until(execution, "completed")
    assert datetime.fromisoformat(done["started_at"]) >= at


async def test_the_same_failure_warns_the_model_and_then_ends_the_run(service: Service) -> None:
    again = '@call metadata_read {"keys": 1}\n@then\n'
    agent = await asking_agent(service, limits={"steps": 50})
    execution = await begin(service, agent, again * 8)
    done = await service.until(execution, "failed", "completed")
    assert (done["error"] or {}).get("code") == "ResourceExhausted"
    assert done["tool_calls"] == 5
    steps = await service.get(f"/executions/{execution}/steps")
    told_of = [s["error"]["message"] for s in steps if s["kind"] == "tool"]
    assert ["failed in this way three times" in text for text in told_of] == [
        False,
        False,
        True,
        False,
        False,
    ]


async def test_other_failures_in_between_do_not_count(service: Service) -> None:
    one = '@call metadata_read {"keys": 1}\n@then\n'
    other = '@call metadata_read {"keys": 2}\n@then\n'
    agent = await asking_agent(service, limits={"steps": 50})
    done = await service.run(agent, (one + other) * 4 + "@say End.")
    assert (done["status"], done["output"]) == ("completed", "End.")
