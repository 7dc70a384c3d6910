"""Following all runs of a user with both clients: once, in order, whatever breaks (API-4)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.client_peer import OTHER_RUN, RUN, a_topic, running_peer
from tests.factories.restartable import RestartableService, owner_key, restartable_service

from chargehand_client import Done, Event, MemberNotFound, StatusChanged, Unreachable

KEY = "chk_test"
CONFIG = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}
BEGINS_AT = f"{0:016x}-{0:032x}-{0:08x}"
EVENTS = "GET /me/events"


def as_told(events: list[Event]) -> list[list[Any]]:
    return [[event.id, event.type, event.data] for event in events]


@pytest.mark.parametrize(("cut_after", "overlap"), [(0, 0), (400, 0), (977, 0), (977, 2)])
def test_a_broken_topic_goes_on_with_nothing_lost_or_doubled(
    connect: Any, cut_after: int, overlap: int
) -> None:
    topic = a_topic(8)
    with (
        running_peer(topic, cut_after=cut_after, overlap=overlap, begins_at=BEGINS_AT) as peer,
        connect(peer.url, KEY) as client,
        client.follow_user() as stream,
    ):
        # The connection that said where it begins broke before its first event.
        assert stream.last_event_id == BEGINS_AT
        events = list(islice(stream, len(topic)))
        seen = peer.seen()
        assert stream.last_event_id == topic[-1][0]
    assert as_told(events) == topic
    assert {event.execution_id for event in events} == {RUN, OTHER_RUN}
    assert isinstance(events[0], StatusChanged)
    assert isinstance(events[-1], Done)
    assert "last-event-id" not in seen[0]["headers"]
    resumed_at = [request["headers"]["last-event-id"] for request in seen[1:]]
    assert resumed_at[0] == BEGINS_AT
    assert set(resumed_at) <= {BEGINS_AT, *(event[0] for event in topic)}
    assert (len(resumed_at) > 1) == bool(cut_after)


def test_following_a_user_may_begin_behind_an_event(connect: Any) -> None:
    topic = a_topic()
    with running_peer(topic) as peer, connect(peer.url, KEY) as client:
        with client.follow_user(user_id=RUN, after=topic[4][0]) as stream:
            assert stream.last_event_id == topic[4][0]
            assert as_told(list(islice(stream, len(topic) - 5))) == topic[5:]
        assert peer.seen()[0]["query"] == f"user={RUN}"


def test_a_topic_that_never_gets_further_is_given_up(connect: Any) -> None:
    with running_peer(a_topic(), cut_after=5) as peer, connect(peer.url, KEY, tries=2) as client:
        with (
            pytest.raises(Unreachable, match=r"break off again and again.*`after`"),
            client.follow_user(after=BEGINS_AT) as stream,
        ):
            list(stream)
        assert len(peer.seen()) == 2


def test_a_topic_that_is_refused_is_refused_before_the_block(connect: Any) -> None:
    with (
        running_peer(answers={EVENTS: [403]}) as peer,
        connect(peer.url, KEY) as client,
        pytest.raises(Exception, match="Answered 403"),
        client.follow_user(),
    ):
        raise AssertionError("the block was entered")


# Against a real service


@pytest.fixture
def service(clone: TestDatabase, tmp_path: Path) -> Iterator[RestartableService]:
    with restartable_service(clone, tmp_path) as running:
        yield running


def until_done(stream: Any, runs: int) -> list[Event]:
    events, done = list[Event](), 0
    for event in stream:
        events.append(event)
        done += isinstance(event, Done)
        if done == runs:
            break
    return events


def of_topic(client: Any, run: str) -> list[tuple[str, Any]]:
    """What the run's own stream tells, but for text and log."""
    with client.follow(run) as stream:
        return [
            (event.type, event.data)
            for event in stream
            if event.type not in ("output.delta", "output.reset", "log")
        ]


def without_run(event: Event) -> tuple[str, Any]:
    return event.type, {name: v for name, v in event.data.items() if name != "execution_id"}


def test_all_runs_of_a_user_are_told_through_kills_of_api_and_worker(
    connect: Any, service: RestartableService, clone: TestDatabase
) -> None:
    key, events = owner_key(clone), list[Event]()
    with connect(service.url, key) as client:
        client.create_agent("Writer", CONFIG, slug="writer")
        with client.follow_user() as stream:
            script = "@pace 50ms\n@say one two three four five six seven eight"
            runs = [client.start("writer", script).id for _ in range(2)]
            for event in stream:
                events.append(event)
                if isinstance(event, StatusChanged) and event.status == "running":
                    break
            service.stop_api()
            service.kill_worker()
            service.start_api()
            service.start_worker()
            events += until_done(stream, 2)
            last = stream.last_event_id
        runs.append(client.run("writer", "@say Meanwhile.").id)
    # Another process, which has the id of the last event only.
    with connect(service.url, key) as client, client.follow_user(after=last) as stream:
        events += until_done(stream, 1)
        for run in runs:
            told = [without_run(event) for event in events if event.execution_id == run]
            assert told == of_topic(client, run)
    assert {event.execution_id for event in events} == set(runs)
    assert len(events) == len({event.id for event in events})
    assert any(isinstance(event, StatusChanged) and event.taken_over for event in events)


def test_another_user_is_followed_by_admins_of_the_same_organization(
    connect: Any, service: RestartableService, clone: TestDatabase
) -> None:
    with connect(service.url, owner_key(clone)) as client:
        own = client.me()["user"]["id"]
        with client.follow_user(user_id=own) as stream:
            client.create_agent("Writer", CONFIG, slug="writer")
            run = client.run("writer", "@say Hello.")
            assert {event.execution_id for event in until_done(stream, 1)} == {run.id}
    with (
        connect(service.url, owner_key(clone)) as stranger,
        pytest.raises(MemberNotFound),
        stranger.follow_user(user_id=own),
    ):
        raise AssertionError("the block was entered")
