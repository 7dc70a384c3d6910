"""What both clients decide without a connection: what to send again, where to go on."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand_client import ApiError, Unreachable
from chargehand_client.requests import Request, pages, positions
from chargehand_client.resuming import Resumption, RunResumption, UserResumption
from chargehand_client.retries import Attempts, delay_s

URL = "http://host"
READ = Request(method="GET", path="/me")
CHANGE = Request(method="POST", path="/agents", repeatable=False)


def attempts(request: Request, *, was_answered: bool = False, tries: int = 5) -> Attempts:
    return Attempts(request, URL, tries, was_answered=was_answered)


def made(trying: Any, limit: int = 20) -> int:
    """How often ``trying`` allows another attempt."""
    for count in range(limit):
        try:
            assert trying() >= 0
        except (Unreachable, ApiError):
            return count
    return limit


@pytest.mark.parametrize(
    ("request_", "was_answered", "arrived", "again"),
    [
        (READ, False, False, 2),
        (READ, True, False, 4),
        (READ, False, True, 4),
        (CHANGE, True, False, 4),
        (CHANGE, True, True, 0),
    ],
)
def test_what_is_sent_again(
    request_: Request, was_answered: bool, arrived: bool, again: int
) -> None:
    tried = attempts(request_, was_answered=was_answered)
    assert made(lambda: tried.lost(OSError("gone"), arrived=arrived)) == again


@pytest.mark.parametrize(
    ("request_", "status", "again"),
    [
        *((READ, status, 4) for status in (502, 503, 504)),
        *((READ, status, 0) for status in (404, 429, 500)),
        (CHANGE, 503, 0),
    ],
)
def test_which_answers_are_asked_for_again(request_: Request, status: int, again: int) -> None:
    tried = attempts(request_)
    assert made(lambda: tried.refused(status, b"")) == again


def envelope(retry_after_s: float) -> bytes:
    details = {"retry_after_s": retry_after_s}
    return json.dumps({"error": {"code": "Unavailable", "details": details}}).encode()


def test_a_wish_of_the_service_is_granted_within_reason() -> None:
    assert attempts(READ).refused(503, envelope(7)) == 7
    with pytest.raises(ApiError):
        attempts(READ).refused(503, envelope(3600))


@given(st.integers(0, 60))
def test_waiting_grows_and_is_bounded(failures: int) -> None:
    assert 0 < delay_s(failures) <= min(5.0, 0.1 * 2**failures)


EVENTS = [f"{1 + n // 7}.{n}" for n in range(1, 30)]
USER_EVENTS = [f"{n // 3:016x}-{7 - n % 3:032x}-{n % 5:08x}" for n in range(30)]
USER_EVENTS.sort()


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), min_size=1, max_size=12))
def test_whatever_connections_carry_each_event_is_seen_once_and_in_order(
    connections: list[tuple[int, int]],
) -> None:
    """A connection begins behind what was asked for, or some events before, and breaks anywhere."""
    assert heard(RunResumption(URL, "run", tries=99), EVENTS, connections) == EVENTS


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), min_size=1, max_size=12))
def test_a_users_events_are_seen_once_and_in_order_too(
    connections: list[tuple[int, int]],
) -> None:
    assert (
        heard(UserResumption(99, None, USER_EVENTS[0]), USER_EVENTS, connections)
        == (USER_EVENTS[1:])
    )


def heard(
    resumption: Resumption, events: list[str], connections: list[tuple[int, int]]
) -> list[str]:
    seen = list[str]()
    for overlap, length in [*connections, (0, len(events))]:
        last = resumption.request().headers.get("Last-Event-ID")
        begin = max(0, (events.index(last) + 1 if last else 0) - overlap)
        resumption.opened(200, now_s=0)
        for event_id in events[begin : begin + length]:
            kind = "done" if event_id == events[-1] else "log"
            data = '{"status": "completed", "execution_id": "run"}'
            if event := resumption.seen(event_id, kind, data):
                seen.append(event.id)
        if resumption.ended:
            break
        resumption.broken(None, now_s=0)
    return seen


def test_a_users_topic_goes_on_from_where_it_began_before_the_first_event() -> None:
    resumption = UserResumption(3, None, None)
    assert resumption.begins_now
    assert "Last-Event-ID" not in resumption.request().headers
    resumption.opened(200, now_s=0)
    assert resumption.seen(USER_EVENTS[0], "message", "") is None
    resumption.broken(None, now_s=0)
    assert resumption.request().headers["Last-Event-ID"] == USER_EVENTS[0]
    # It has no end: neither one run's, nor one that an empty answer could say.
    done = '{"status": "completed", "execution_id": "run"}'
    assert resumption.seen(USER_EVENTS[1], "done", done)
    assert (resumption.ended, resumption.last) == (False, USER_EVENTS[1])


@pytest.mark.parametrize(
    ("resumption", "event_id"),
    [
        (RunResumption(URL, "run", tries=3), ""),
        (RunResumption(URL, "run", tries=3), "x.y"),
        (UserResumption(3, None, None), ""),
        (UserResumption(3, None, None), "1.1"),
    ],
)
def test_an_id_of_another_form_is_refused(resumption: Resumption, event_id: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        resumption.seen(event_id, "log", '{"execution_id": "run"}')
    assert resumption.last is None


def test_a_stream_without_progress_is_given_up_and_one_with_progress_is_not() -> None:
    resumption = RunResumption(URL, "run", tries=3)
    resumption.opened(200, now_s=0)
    assert made(lambda: resumption.broken(OSError("cut"), now_s=1)) == 2
    resumption = RunResumption(URL, "run", tries=3)
    resumption.opened(200, now_s=0)
    # Connections that last are good, though nothing happens in the run.
    assert made(lambda: resumption.broken(OSError("cut"), now_s=20)) == 20


def test_nothing_behind_the_last_event_is_the_end() -> None:
    resumption = RunResumption(URL, "run", tries=3, after="1.9")
    assert resumption.request().headers["Last-Event-ID"] == "1.9"
    resumption.opened(204, now_s=0)
    assert resumption.ended


def test_lists_ask_for_the_next_page_until_there_is_none() -> None:
    cursors = pages("keys")
    assert cursors.first.parameters == {"limit": 100}
    following = cursors.next({"items": [1], "next_cursor": "abc"})
    assert following
    assert following.parameters == {"limit": 100, "cursor": "abc"}
    assert cursors.next({"items": [], "next_cursor": None}) is None
    steps = positions("executions", "x", "steps", after="after_seq", last="seq")
    following = steps.next([{"seq": 3}, {"seq": 7}])
    assert following
    assert following.parameters == {"limit": 100, "after_seq": 7}
    assert steps.next([]) is None
