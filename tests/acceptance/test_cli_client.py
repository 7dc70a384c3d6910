"""The client against a service that breaks off, hangs up and refuses."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.factories.client_peer import RUN, a_story, running_peer

from chargehand_client import (
    Chargehand,
    FolderRefused,
    LimitReached,
    NotConfigured,
    NotFound,
    Unavailable,
    Unreachable,
)
from chargehand_client.errors import ApiError

KEY = "chk_test"
EXECUTE = "POST /agents/helper/execute"


@pytest.mark.parametrize("cut_after", [0, 233, 400, 977])
def test_a_broken_stream_goes_on_with_nothing_lost_or_doubled(connect: Any, cut_after: int) -> None:
    story = a_story(8)
    with running_peer(story, cut_after=cut_after) as peer, connect(peer.url, KEY) as client:
        with client.stream("helper", "Hello") as run:
            events = list(run)
        seen = peer.seen()
    assert [[event.id, event.type, event.data] for event in events] == story
    assert {event.execution_id for event in events} == {RUN}
    assert [request["method"] for request in seen].count("POST") == 1
    assert (len(seen) > 1) == bool(cut_after)
    resumed_at = [request["headers"].get("last-event-id") for request in seen[1:]]
    known = [event[0] for event in story]
    # Where nothing whole had come yet, there is nothing to resume behind.
    assert all(at is None or at in known for at in resumed_at)


def test_events_that_come_again_are_not_told_again(connect: Any) -> None:
    story = a_story(8)
    with (
        running_peer(story, cut_after=977, overlap=3) as peer,
        connect(peer.url, KEY) as client,
        client.stream("helper", "Hello") as run,
    ):
        ids = [event.id for event in run]
    assert ids == [event[0] for event in story]


def test_a_second_loop_goes_on_where_the_first_was_left(connect: Any) -> None:
    story = a_story(8)
    with (
        running_peer(story, cut_after=977) as peer,
        connect(peer.url, KEY) as client,
        client.stream("helper", "Hello") as run,
    ):
        first = [event.id for event, _ in zip(run, range(3), strict=False)][:3]
        rest = [event.id for event in run]
    assert first == [event[0] for event in story[:3]]
    # The loop that was left had taken one more.
    assert rest == [event[0] for event in story[4:]]


def test_a_stream_that_never_gets_further_is_given_up(connect: Any) -> None:
    with (
        running_peer(a_story(), cut_after=5) as peer,
        connect(peer.url, KEY, tries=2) as client,
        client.stream("helper", "") as run,
    ):
        with pytest.raises(Unreachable, match=f"{RUN} break off .* goes on"):
            list(run)
        assert len(peer.seen()) == 2


def test_a_start_whose_answer_was_lost_is_repeated_with_the_same_key(connect: Any) -> None:
    with running_peer(answers={EXECUTE: [0, 503]}) as peer, connect(peer.url, KEY) as client:
        execution = client.run("helper", "Hello", idempotency_key="mine")
        keys = [request["headers"]["idempotency-key"] for request in peer.seen()]
    assert (execution.status, execution.output) == ("completed", "All is well.")
    assert keys == ["mine"] * 3


def test_each_start_has_an_idempotency_key_of_its_own(connect: Any) -> None:
    with running_peer(answers={EXECUTE: [0]}) as peer, connect(peer.url, KEY) as client:
        client.run("helper", "Hello")
        client.start("helper", "Hello")
        first, repeated, second = (r["headers"]["idempotency-key"] for r in peer.seen())
    assert first == repeated != second


def test_what_cannot_be_repeated_safely_is_not(connect: Any) -> None:
    with running_peer(answers={"POST /agents": [0]}) as peer, connect(peer.url, KEY) as client:
        with pytest.raises(Unreachable):
            client.create_agent("Helper", {})
        assert len(peer.seen()) == 1


def test_a_refusal_is_not_repeated(connect: Any) -> None:
    with running_peer(answers={EXECUTE: [429], "GET /me": [404]}) as peer:
        with connect(peer.url, KEY) as client:
            with pytest.raises(LimitReached) as limited:
                client.run("helper", "Hello")
            with pytest.raises(NotFound):
                client.me()
        assert len(peer.seen()) == 2
    assert limited.value.retry_after_s == 1
    assert limited.value.request_id == "req-1"


def test_a_refused_stream_is_an_error_with_its_code(connect: Any) -> None:
    with (
        running_peer(answers={EXECUTE: [404]}) as peer,
        connect(peer.url, KEY) as client,
        pytest.raises(NotFound) as refused,
        client.stream("helper", "Hello"),
    ):
        pass
    assert refused.value.code == "AgentNotFound"


def test_a_service_that_stays_unavailable_is_told_as_such(connect: Any) -> None:
    with running_peer(answers={"GET /me": [503] * 9}) as peer:
        with connect(peer.url, KEY, tries=3) as client, pytest.raises(Unavailable):
            client.me()
        assert len(peer.seen()) == 3


def test_nobody_there_is_unreachable_and_named(connect: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with connect(url, KEY, tries=2) as client, pytest.raises(Unreachable) as error:
            client.me()
    assert url in error.value.message
    assert not isinstance(error.value, ApiError)


@pytest.mark.parametrize(
    ("environment", "missing"),
    [({}, "CHARGEHAND_URL"), ({"CHARGEHAND_URL": "http://127.0.0.1:1"}, "CHARGEHAND_KEY")],
)
def test_what_is_not_set_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], missing: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    for name in ("CHARGEHAND_URL", "CHARGEHAND_KEY", "CHARGEHAND_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotConfigured, match=f"{missing} is not set.*export {missing}="):
        Chargehand()


def test_a_workspace_is_uploaded_before_the_start(connect: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with running_peer() as peer, connect(peer.url, KEY) as client:
        client.run("helper", "Hello", workspace=tmp_path)
        seen = peer.seen()
    assert [request["path"] for request in seen] == ["/uploads", "/agents/helper/execute"]
    assert seen[0]["size"] > 0


def test_an_empty_folder_is_refused(connect: Any, tmp_path: Path) -> None:
    with connect("http://127.0.0.1:1", KEY) as client, pytest.raises(FolderRefused):
        client.upload_folder(tmp_path)


def test_a_page_is_given_a_token_of_a_run_or_of_ones_own_runs(connect: Any) -> None:
    with running_peer() as peer, connect(peer.url, KEY) as client:
        of_run, own = client.subscription_token(RUN), client.subscription_token()
        paths = [request["path"] for request in peer.seen()]
    assert of_run == {"token": "jwt", "hub_url": "/api/v1/hub", "topic": f"agent/{RUN}"}
    assert own["topic"].startswith("user/")
    assert paths == [f"/executions/{RUN}/subscription-token", "/subscription-token"]
