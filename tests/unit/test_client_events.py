"""The client's events and errors, without a connection."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand_client import Event, LogWritten, NotFound, StatusChanged, StepCompleted
from chargehand_client.errors import error_of
from chargehand_client.events import Position, read_event


def test_an_event_is_read_into_its_type() -> None:
    data = {"step_number": 3, "step_type": "model", "tool_names": ["bash"], "tokens_used": 12}
    event = read_event("2.17", "step.completed", json.dumps(data), "run")
    assert isinstance(event, StepCompleted)
    assert (event.step_number, event.tool_names, event.tokens_used) == (3, ["bash"], 12)
    assert (event.position, event.execution_id) == (Position(2, 17), "run")
    assert event.data == data


def test_fields_of_a_newer_service_are_kept_in_data() -> None:
    data = {"status": "running", "epoch": 4, "mood": "good", "id": "not an event's"}
    event = read_event("4.1", "status.changed", json.dumps(data), "run")
    assert isinstance(event, StatusChanged)
    assert (event.id, event.epoch, event.data["mood"]) == ("4.1", 4, "good")


@pytest.mark.parametrize(
    ("event_type", "data"), [("moon.rose", {"phase": "full"}), ("output.delta", {"texts": []})]
)
def test_what_is_not_understood_stays_an_event(event_type: str, data: dict[str, object]) -> None:
    event = read_event("1.1", event_type, json.dumps(data), "run")
    assert type(event) is Event
    assert (event.type, event.data) == (event_type, data)


def test_a_line_of_a_log_is_read_as_the_route_answers_it() -> None:
    data = {"id": 3, "level": "warning", "event_type": "step.tool", "message": "Step 2 called x."}
    data |= {"context": {"step": 2}, "at": "2026-11-24T10:00:00.000001Z"}
    event = read_event("1.7", "log", json.dumps(data), "run")
    assert isinstance(event, LogWritten)
    assert (event.id, event.level, event.context) == ("1.7", "warning", {"step": 2})
    assert (event.event_type, event.message, event.at) == (
        data["event_type"],
        data["message"],
        data["at"],
    )


def test_an_event_of_a_users_topic_says_which_run_it_is_of() -> None:
    data = {"status": "running", "execution_id": "this one"}
    event = read_event("a-b-c", "status.changed", json.dumps(data), None)
    assert (type(event), event.execution_id) == (StatusChanged, "this one")
    with pytest.raises(ValueError, match="invalid literal"):
        _ = event.position


@pytest.mark.parametrize("data", ["[]", "{", "", "{}", '{"execution_id": 1}'])
def test_a_broken_event_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_event("1.1", "log", data, None)


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_later_claim_comes_after_all_of_an_earlier_one(a: int, b: int, x: int, y: int) -> None:
    first, second = Position.parse(f"{a}.{x}"), Position.parse(f"{b}.{y}")
    assert (first < second) == ((a, x) < (b, y))


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b'{"error": "no"}'])
def test_an_answer_that_is_not_ours_says_where_it_came_from(body: bytes) -> None:
    error = error_of(404, body, "GET http://example/api/v1/me")
    assert type(error) is NotFound
    assert error.code == "HTTP404"
    assert "GET http://example/api/v1/me" in error.message
    assert "CHARGEHAND_URL" in error.message
