"""Both clients against a real service: every noun once, and a run that loses everything once."""

import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.restartable import RestartableService, owner_key, restartable_service

from chargehand_client import (
    DuplicateAgentSlug,
    ExecutionNotFound,
    InvalidAgentConfig,
    InvalidInput,
    OutputDelta,
    OutputReset,
    PreconditionFailed,
    StatusChanged,
    UploadNotFound,
    VersionNotFound,
)

CONFIG = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}


@pytest.fixture
def service(clone: TestDatabase, tmp_path: Path) -> Iterator[RestartableService]:
    with restartable_service(clone, tmp_path) as running:
        yield running


@pytest.fixture
def client(connect: Any, lasting_service: RestartableService) -> Iterator[Any]:
    with connect(lasting_service.url, owner_key(lasting_service.database)) as opened:
        yield opened


def test_every_noun_from_making_to_deleting(client: Any, tmp_path: Path) -> None:
    the_life_of_an_agent(client)
    runs_and_what_they_leave(client)
    uploads_and_downloads(client, tmp_path)
    who_calls(client)


def the_life_of_an_agent(client: Any) -> None:
    draft = client.create_agent("Helper", CONFIG, publish=False, slug="helper", tags=["a"])
    assert (draft["status"], draft["version"], draft["tags"]) == ("draft", "1.0.0", ["a"])
    assert client.validate_agent("Other", CONFIG)["valid"]
    assert not client.validate_agent("Other", {})["valid"]
    with pytest.raises(InvalidAgentConfig):
        client.create_agent("Other", {})
    with pytest.raises(DuplicateAgentSlug):
        client.create_agent("Other", CONFIG, slug="helper")
    published = client.publish_agent("helper", revision=draft["revision"])
    changed = client.update_agent(
        "helper", description="Helps.", config=changed_config("Help."), bump="minor"
    )
    assert (published["status"], changed["draft"]["version"]) == ("published", "1.1.0")
    with pytest.raises(PreconditionFailed):
        client.update_agent("helper", name="Other", revision=published["revision"])
    client.publish_agent("helper", version="1.1.0", changelog="Better.")
    assert [each["version"] for each in client.agent_versions("helper")] == ["1.1.0", "1.0.0"]
    assert client.agent_version("helper", "1.1.0")["changelog"] == "Better."
    with pytest.raises(VersionNotFound):
        client.agent_version("helper", "9.9.9")
    assert not client.deactivate_agent("helper")["active"]
    assert [each["slug"] for each in client.agents(active=False)] == ["helper"]
    assert client.activate_agent("helper")["active"]
    assert client.agent("helper")["description"] == "Helps."
    client.create_agent("Spare", CONFIG, slug="spare")
    assert [each["slug"] for each in client.agents()] == ["spare", "helper"]
    assert client.delete_agent("spare")["outcome"] == "removed"


def changed_config(instructions: str) -> dict[str, Any]:
    return CONFIG | {"instructions": instructions}


def runs_and_what_they_leave(client: Any) -> None:
    assert client.run("helper", "@say Hello.").raise_for_failure().output == "Hello."
    client.update_agent("helper", config=changed_config("Help more."))
    assert client.run("helper", "@say Draft.", draft=True).document["is_test"]
    started = client.start("helper", "@delay 30s\n@say Never.")
    assert client.cancel(started.id).status in ("cancelled", "running")
    with client.follow(started.id) as run:
        last = list(run)[-1]
    assert (last.status, client.execution(started.id).status) == ("cancelled", "cancelled")
    with client.follow(started.id, after=last.id) as run:
        assert list(run) == []
    assert [one.id for one in client.executions(status="cancelled", is_test=False)] == [started.id]
    done = next(iter(client.executions(status="completed", agent="helper", is_test=False)))
    assert [step["kind"] for step in client.steps(done.id)] == ["model"]
    assert all(log["message"] for log in client.logs(done.id))
    with pytest.raises(ExecutionNotFound):
        client.execution("01890000-0000-7000-8000-000000000000")


def uploads_and_downloads(client: Any, folder: Path) -> None:
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "a.py").write_text("print()")
    (project / "page.html").write_text("<b>grün</b>")
    whole = client.upload_folder(project)
    single = client.upload_file(project / "page.html")
    assert (whole["file_count"], single["media_type"]) == (2, "text/html")
    assert [each["name"] for each in client.uploads()] == ["page.html", "project"]
    assert client.upload(whole["id"])["files"][0]["path"] == "page.html"
    saved = client.download(single["id"], folder / "saved.html")
    assert saved.read_text() == "<b>grün</b>"
    archive = client.download(whole["id"], str(folder / "saved.tar.gz"))
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == ["page.html", "src/a.py"]
    assert client.delete_upload(single["id"]) is None
    with pytest.raises(UploadNotFound):
        client.download(single["id"], folder / "gone.html")
    left = {path.name for path in folder.iterdir()}
    assert {name for name in left if "gone" in name or name.endswith(".part")} == set()


def who_calls(client: Any) -> None:
    me = client.me()
    made = client.create_key("for a test", ["agents:read"], user_id=me["user"]["id"])
    assert made["key"].startswith("chk_")
    keys = client.keys()
    assert made["id"] in [key["id"] for key in keys]
    assert client.revoke_key(made["id"])["revoked_at"]
    with pytest.raises(InvalidInput):
        client.create_key("for a test", ["agents:reed"])
    assert me["user"]["id"] in [member["user_id"] for member in client.members()]
    assert {model["provider"] for model in client.models(text="standard")} == {"simulated"}
    assert "simulated" in [provider["name"] for provider in client.providers()]


def test_a_list_is_as_long_as_it_is(client: Any) -> None:
    for number in range(120):
        client.create_agent(f"Agent {number}", CONFIG, slug=f"agent-{number}", publish=False)
    assert [one["slug"] for one in client.agents()] == [f"agent-{n}" for n in range(119, -1, -1)]


def test_a_stream_survives_the_api_and_the_worker(
    connect: Any, service: RestartableService
) -> None:
    with connect(service.url, owner_key(service.database)) as client:
        a_stream_survives(client, service)


def a_stream_survives(client: Any, service: RestartableService) -> None:
    client.create_agent("Writer", CONFIG, slug="writer")
    text = " ".join(f"word{number}" for number in range(60))
    events = list[Any]()
    with client.stream("writer", f"@pace 60ms\n@say {text}") as run:
        for event in run:
            events.append(event)
            deltas = sum(isinstance(each, OutputDelta) for each in events)
            if deltas == 3 and isinstance(event, OutputDelta):
                service.stop_api()
                service.kill_worker()
                service.start_api()
                service.start_worker()
        ended = run.result()
    assert ended.output == text
    told = ""
    for event in events:
        if isinstance(event, OutputReset):
            told = ""
        elif isinstance(event, OutputDelta):
            told += event.text
    assert told == text
    assert any(isinstance(each, StatusChanged) and each.taken_over for each in events)
    assert all(one.position < another.position for one, another in pairwise(events))
    with client.follow(run.id) as again:
        assert [event.id for event in again] == [event.id for event in events]
