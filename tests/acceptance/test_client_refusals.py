"""What the client refuses to send, and answers that are not Chargehand's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.factories.client_peer import RUN, running_peer

from chargehand_client import ArgumentRefused, FolderRefused, Unreachable

KEY = "chk_test"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("text")
    return tmp_path


def test_nothing_is_uploaded_for_a_run_that_cannot_be_sent(connect: Any, workspace: Path) -> None:
    wrong: list[tuple[str, Any, dict[str, Any]]] = [
        ("helper", float("nan"), {}),
        ("helper", "Hello", {"variables": {"a": {1}}}),
        ("helper", "Hello", {"end_user": "\ud800"}),
        ("helper", "Hello", {"idempotency_key": "a b"}),
        ("../keys", "Hello", {}),
    ]
    with running_peer() as peer, connect(peer.url, KEY) as client:
        for agent, given, options in wrong:
            with pytest.raises(ArgumentRefused):
                client.run(agent, given, workspace=workspace, **options)
        assert peer.seen() == []
        client.run("helper", "Hello", workspace=workspace)
        assert len(peer.seen()) == 2


def nested_deeper_than_a_path_can_say(folder: Path) -> None:
    """So that not even root can list it by its path."""
    opened = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=opened)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = inner
    os.close(opened)


def test_a_folder_that_cannot_be_read_whole_is_refused(connect: Any, workspace: Path) -> None:
    nested_deeper_than_a_path_can_say(workspace)
    with (
        running_peer() as peer,
        connect(peer.url, KEY) as client,
    ):
        with pytest.raises(FolderRefused, match=r"cannot be read: .* Give a folder"):
            client.upload_folder(workspace)
        with pytest.raises(FolderRefused, match="is not a folder"):
            client.run("helper", "Hello", workspace=workspace / "a.txt")
        assert peer.seen() == []


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("grün & co", "gr%C3%BCn+%26+co"),
        ("back\\slash", "folder"),
        ("line\nbreak", "folder"),
        ("turned\u202ename", "folder"),
        ("\udcff", "folder"),
    ],
)
def test_a_folder_may_be_given_by_its_name_which_the_server_takes(
    connect: Any, tmp_path: Path, name: str, sent: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.txt").write_text("text")
    with running_peer() as peer, connect(peer.url, KEY) as client:
        client.upload_folder(str(tmp_path / name))
        (request,) = peer.seen()
    assert request["query"] == f"kind=folder&name={sent}"


def streamed(client: Any) -> None:
    with client.stream("helper", "Hello"):
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.me(),
        lambda client: client.run("helper", "Hello"),
        lambda client: client.execution(RUN),
        streamed,
    ],
    ids=["me", "run", "execution", "stream"],
)
def test_an_answer_of_another_service_is_told_with_the_variable_to_look_at(
    connect: Any, call: Callable[[Any], object]
) -> None:
    with running_peer(stranger=True) as peer, connect(peer.url, KEY) as client:
        with pytest.raises(Unreachable, match=r"status 200, text/html.*CHARGEHAND_URL") as told:
            call(client)
        assert peer.url in told.value.message
        assert len(peer.seen()) == 1
