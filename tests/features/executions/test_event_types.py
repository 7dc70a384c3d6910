"""What runs tell has the types and fields of the table, and the table no others (SPEC EXE-10)."""

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from tests.conftest import TestDatabase
from tests.factories.documents import blocks_of
from tests.factories.executions import Service, parse_events, running_service, work_on
from tests.factories.steered import ASKS, AWAITS, CAPABILITIES, told
from tests.factories.streams import hear, live_socket, say, serving

from chargehand.executions.event_types import EVENT_TYPES, EventType
from chargehand.executions.states import Status
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take

Told = list[dict[str, Any]]

FROM_THE_BEGINNING = f"{'0' * 16}-{'0' * 32}-{'0' * 8}"
"""An id that every event of a user's topic comes behind."""

CALL = '@call todo_write {"todos": []}'
WRONG_CALL = '@call read_file {"path": "there is none"}'


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    """Without a worker until ``work_on``."""
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def begin(service: Service, script: str, *tools: Any, **config: Any) -> str:
    agent = await service.agent(**config)
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": script, "mode": "async", "tools": tools}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def lose(service: Service, execution: str) -> None:
    """A worker claims the run and is never heard of again."""
    organization, lost = service.caller.organization_id, ExecutionId(UUID(execution))
    assert await take(service.database, organization, lost, worker="lost", lease_s=0.01)


async def waiting_runs(service: Service) -> list[str]:
    """One for each thing that a run can wait for, one with the fields that are not always there."""
    agent = {"capabilities": CAPABILITIES, "approvals": {"todo_write": {}}}
    scripts = [ASKS, '@call ask_user {"question": "Well?"}', AWAITS, CALL, "@call lookup {}"]
    scripts.append('@call await_event {"event_type": "invoice.sent"}')
    return [await begin(service, script, {"name": "lookup"}, **agent) for script in scripts]


async def every_kind_of_run(service: Service, clone: TestDatabase) -> list[str]:
    """With tools and in chunks; with text that is void; taken over; failed; cancelled; waiting."""
    tools = {"todo": {}, "files": {"mode": "read"}}
    script = f"{CALL}\n@then\n{WRONG_CALL}\n@then\n@say Done."
    in_chunks = await begin(service, script, capabilities=tools, limits={"chunk_steps": 1})
    cut_off = await begin(service, "@cut 3 times=1\n@say one two three four five")
    taken_over = await begin(service, "@say Hello.")
    await lose(service, taken_over)
    failed = await begin(service, "@fail 400")
    cancelled = await begin(service, "@say Nobody hears it.")
    answer = await service.client.post(f"/api/v1/executions/{cancelled}/cancel")
    assert answer.json()["status"] == "cancelled"
    waiting = await waiting_runs(service)
    async with work_on(service, clone.urls.system):
        for one in (in_chunks, cut_off, taken_over):
            await service.until(one, "completed")
        await service.until(failed, "failed")
        for one in waiting:
            await service.until(one, "awaiting_input", "awaiting_event")
            for verb in ("pause", "resume", "cancel"):
                await told(service, one, verb)
    return [in_chunks, cut_off, taken_over, failed, cancelled, *waiting]


def by_type(events: list[tuple[str, str, Any]]) -> dict[str, Told]:
    found: defaultdict[str, Told] = defaultdict(list)
    for _, kind, data in events:
        found[kind].append(data)
    return found


def check(one: EventType, told: Told) -> None:
    """Raise AssertionError unless these events of the type have the fields of the table."""
    names = {field.name for field in one.fields}
    always = {field.name for field in one.fields if not field.when}
    for data in told:
        assert always <= data.keys() <= names, (one.name, data)
    for field in one.fields:
        with_it = [data for data in told if field.name in data]
        assert with_it, f"no {one.name} has {field.name}"
        assert not field.when or len(with_it) < len(told), f"each {one.name} has {field.name}"
        for data in with_it:
            value = data[field.name]
            assert is_of(field.kind, value), f"{one.name} has {field.name}={value!r}"


def is_of(kind: str, value: Any) -> bool:
    """Whether a value is of a kind, in the words of the table."""
    match kind.removesuffix(" or null"):
        case "string":
            fits = isinstance(value, str)
        case "integer":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "boolean":
            fits = isinstance(value, bool)
        case "object":
            fits = isinstance(value, dict)
        case "list of strings":
            fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
        case "list of objects":
            fits = isinstance(value, list) and all(isinstance(one, dict) for one in value)
        case other:
            assert other == "any", other
            fits = True
    return fits or (value is None and kind.endswith(" or null"))


async def test_runs_tell_what_the_table_says_and_nothing_else(
    service: Service, clone: TestDatabase
) -> None:
    runs = await every_kind_of_run(service, clone)
    told = by_type([event for run in runs for event in await service.events(run)])
    assert told.keys() == {one.name for one in EVENT_TYPES}
    for one in EVENT_TYPES:
        check(one, told[one.name])
    assert {data["error"] is None for data in told["done"]} == {True, False}
    assert {data["error"] is None for data in told["tool.completed"]} == {True, False}
    assert {data["status"] for data in told["status.changed"]} == set(get_args(Status))


async def test_a_users_topic_tells_its_types_with_the_runs_id(
    service: Service, clone: TestDatabase
) -> None:
    runs = await every_kind_of_run(service, clone)
    async with service.client.stream(
        "GET", "/api/v1/me/events", headers={"Last-Event-ID": FROM_THE_BEGINNING}
    ) as answer:
        await answer.aread()
    told = by_type(parse_events(answer.text))
    assert told.keys() == {one.name for one in EVENT_TYPES if one.in_user_topic}
    for one in EVENT_TYPES:
        for data in told.get(one.name, ()):
            assert data.pop("execution_id") in runs
        if one.in_user_topic:
            check(one, told[one.name])


@pytest.mark.parametrize(
    "told",
    [
        [{"text": "a", "more": 1}],
        [{}],
        [{"text": 1}],
        [],
    ],
    ids=["a field too many", "a field too few", "a field of another kind", "no event"],
)
def test_the_check_finds_what_differs(told: Told) -> None:
    delta = next(one for one in EVENT_TYPES if one.name == "output.delta")
    check(delta, [{"text": "a"}])
    with pytest.raises(AssertionError):
        check(delta, told)


async def test_the_pages_examples_are_what_is_sent(service: Service, clone: TestDatabase) -> None:
    """The two blocks of docs/reference/events.md: an event as it comes, and what a socket takes."""
    event, subscribing = [block.text for block in blocks_of("docs/reference/events.md")]
    run = await begin(service, "@say The entry points are")
    async with work_on(service, clone.urls.system):
        answer = await service.client.get(f"/api/v1/executions/{run}/events")
    ((at, kind, data),) = parse_events(event)
    spoken = [told for told in parse_events(answer.text) if told[1] == kind]
    assert {(told.partition(".")[0], *found) for told, _, found in spoken} == {
        (at.partition(".")[0], *data)
    }
    assert "".join(found["text"] for _, _, found in spoken) == data["text"]

    asked = json.loads(subscribing)
    asked["subscribe"] = re.sub("(?<=agent/).+", run, asked["subscribe"])
    key = {"Authorization": service.client.headers["Authorization"]}
    async with serving(service.app) as url, live_socket(url, key) as connection:
        await say(connection, **asked)
        heard = await hear(connection)
    assert (heard["type"], heard["topic"]) == ("subscribed", asked["subscribe"])
    assert heard["id"] == asked["last_event_id"]
