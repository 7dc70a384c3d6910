"""Both clients steer runs, answer what they wait for, and begin anew from them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.factories.restartable import RestartableService, owner_key

from chargehand_client import (
    AlreadyApproved,
    ApprovalRequested,
    EventAwaited,
    IdempotencyKeyReused,
    InputRequested,
    InvalidInput,
    InvalidTransition,
    WaitClosed,
)

CONFIG = {
    "model": {"provider": "simulated", "name": "standard"},
    "capabilities": {"ask_user": {}, "await_event": {}, "metadata": {}, "todo": {}},
    "approvals": {"metadata_write": {}, "todo_write": {"persons": 2}},
}
ASKS = '@call ask_user {"question": "How many?", "answer_schema": {"type": "integer"}}'
LOOKUP = {"name": "lookup", "description": "Looks up.", "parameters": {"type": "object"}}
END = "\n@then\n@quote 1"


@pytest.fixture
def client(connect: Any, lasting_service: RestartableService) -> Iterator[Any]:
    with connect(lasting_service.url, owner_key(lasting_service.database)) as opened:
        opened.create_agent("Helper", CONFIG, slug="helper")
        yield opened


def ended(client: Any, execution_id: str, *kinds: type) -> tuple[Any, list[Any]]:
    """The run once it has ended, and its events of these kinds."""
    with client.follow(execution_id) as run:
        events = list(run)
    return client.execution(execution_id), [one for one in events if isinstance(one, kinds)]


def test_a_question_is_answered(client: Any) -> None:
    waiting = client.run("helper", ASKS + END)
    assert (waiting.status, waiting.settled, waiting.ended) == ("awaiting_input", True, False)
    asked = waiting.waiting_for
    assert (asked["kind"], asked["question"], asked["wait"]) == ("input", "How many?", 1)
    with pytest.raises(InvalidInput):
        client.send_input(waiting.id, "many")
    with pytest.raises(WaitClosed) as closed:
        client.send_input(waiting.id, 3, wait=2)
    assert closed.value.details["wait"] == 1
    assert client.send_input(waiting.id, 3, wait=1).id == waiting.id
    done, (told,) = ended(client, waiting.id, InputRequested)
    assert (done.output, done.waiting_for) == ("ask_user:\n> 3", None)
    assert (told.kind, told.question, told.wait) == ("input", "How many?", 1)
    assert told.answer_schema == {"type": "integer"}
    with pytest.raises(InvalidTransition):
        client.send_input(waiting.id, 3)


def test_null_is_an_answer(client: Any) -> None:
    waiting = client.run("helper", '@call ask_user {"question": "Well?"}' + END)
    client.send_input(waiting.id, None)
    assert ended(client, waiting.id)[0].output == "ask_user:\n> null"


def test_tools_of_the_caller_are_answered_for(client: Any) -> None:
    script = '@call lookup {"n": 1}\n@call lookup {"n": 2}' + END
    waiting = client.run("helper", script, tools=[LOOKUP])
    calls = waiting.waiting_for["calls"]
    assert [call["arguments"] for call in calls] == [{"n": 1}, {"n": 2}]
    first, second = (call["call_id"] for call in calls)
    half = client.send_tool_results(waiting.id, [{"call_id": second, "error": "There is none."}])
    assert [call["call_id"] for call in half.waiting_for["calls"]] == [first]
    client.send_tool_results(waiting.id, [{"call_id": first, "output": {"a": 1}}], wait=1)
    done, (told,) = ended(client, waiting.id, InputRequested)
    assert ('{"a":1}' in done.output, "There is none." in done.output) == (True, True)
    assert (told.kind, told.calls) == ("tools", calls)


def test_calls_are_approved_and_denied(client: Any) -> None:
    writes = '@call metadata_write {"key": "n", "value": 1}' + END
    approved, denied = client.run("helper", writes), client.run("helper", writes)
    assert approved.waiting_for["kind"] == "approval"
    client.approve(approved.id, 1, "Fine.")
    client.deny(denied.id, 1, "Not today.")
    done, (told,) = ended(client, approved.id, ApprovalRequested)
    assert "n written" in done.output
    assert (told.wait, told.persons, told.reason) == (1, 1, "needs_approval")
    assert told.calls[0]["tool_name"] == "metadata_write"
    assert "A person denied this call: Not today." in ended(client, denied.id)[0].output


def test_one_person_approves_once(client: Any) -> None:
    waiting = client.run("helper", '@call todo_write {"todos": []}')
    assert len(client.approve(waiting.id, 1).waiting_for["approvals"]) == 1
    with pytest.raises(AlreadyApproved):
        client.approve(waiting.id, 1)
    client.cancel(waiting.id)


def test_events_wake_who_waits_for_them(client: Any) -> None:
    awaits = '@call await_event {"event_type": "paid", "filter": {"number": 7}}' + END
    by_tool = client.start("helper", awaits)
    with client.follow(by_tool.id) as run:
        told = next(one for one in run if isinstance(one, EventAwaited))
    assert (told.event_type, told.filter) == ("paid", {"number": 7})
    awaited = {"event_type": "paid", "filter": {"number": 7}}
    by_start = client.start("helper", "@say Paid.", await_event=awaited)
    assert (by_start.status, by_start.waiting_for["filter"]) == ("awaiting_event", {"number": 7})
    assert client.send_event("paid") == {"woken": []}
    nobody = "01890000-0000-7000-8000-000000000000"
    assert client.send_event("paid", {"number": 7}, user=nobody) == {"woken": []}
    woken = client.send_event("paid", {"number": 7})["woken"]
    assert sorted(woken) == sorted([by_tool.id, by_start.id])
    assert '"number":7' in ended(client, by_tool.id)[0].output
    assert ended(client, by_start.id)[0].output == "Paid."


def test_a_run_is_paused_resumed_and_killed(client: Any) -> None:
    waiting = client.run("helper", ASKS)
    paused = client.pause(waiting.id, "lunch")
    assert (paused.status, paused.pause_reason, paused.settled) == ("paused", "lunch", True)
    assert paused.paused_at is not None
    with pytest.raises(InvalidTransition):
        client.pause(waiting.id)
    assert client.resume(waiting.id).status == "awaiting_input"
    killed = client.kill(waiting.id)
    assert (killed.status, killed.force_killed) == ("cancelled", True)


def test_a_run_is_retried_and_forked(client: Any) -> None:
    failed = client.run("helper", "@fail 400")
    retried = client.retry(failed.id, idempotency_key="again")
    assert client.retry(failed.id, idempotency_key="again").id == retried.id != failed.id
    assert (retried.origin["kind"], retried.origin["execution_id"]) == ("retry", failed.id)
    # Each without a key of one's own is another run.
    assert client.retry(failed.id).id not in (failed.id, retried.id)
    done = client.run("helper", "@say One.\n@then\n@say Two.")
    forked = client.fork(
        done.id,
        step=0,
        input="@say Other.",
        instructions="Be brief.",
        model={"provider": "simulated", "name": "unpriced"},
        idempotency_key="fork",
    )
    assert (forked.origin["kind"], forked.origin["step"]) == ("fork", 0)
    with pytest.raises(IdempotencyKeyReused):
        client.fork(done.id, step=0, idempotency_key="fork")
    ended_fork, _ = ended(client, forked.id)
    assert (ended_fork.output, ended_fork.unpriced) == ("Other.", True)
    with pytest.raises(InvalidInput):
        client.fork(done.id, step=9)
    with pytest.raises(InvalidTransition):
        client.retry(done.id)


def test_a_run_begins_at_its_time(client: Any) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1)
    begun = client.start("helper", "@say Now.", run_at=at)
    assert (begun.status, begun.scheduled_at) == ("pending", at)
    done, _ = ended(client, begun.id)
    assert done.started_at >= at
