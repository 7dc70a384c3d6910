"""Each line of a run's log is an event of its stream, for who may read the log (EXE-9, EXE-10)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, parse_events, running_service, work_on
from tests.factories.streams import Told, events_of, hear, live_socket, say, serving
from tests.factories.tenancy import client_of, make_caller

from chargehand.executions import journal
from chargehand.executions.journal import Event, Log, StepRecord
from chargehand.executions.schemas import LogView
from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.runtime.claiming import take
from chargehand.tenancy.tables import Organization

SCRIPT = '@call read_file {"path": "nowhere"}\n@then\n@say Hello.'
WHOLE = [
    "execution.accepted",
    "execution.claimed",
    "step.model",
    "step.tool",
    "step.model",
    "execution.completed",
]


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


@pytest.fixture
async def idle(database: Database, clone: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose runs wait until the test works on them."""
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def begin(service: Service, script: str = "@say Hello.") -> str:
    body = {"input": script, "mode": "async"}
    agent = await service.agent()
    answer = await service.client.post(f"/api/v1/agents/{agent}/execute", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def told_and_stored(service: Service, execution: str) -> tuple[list[str], list[LogView]]:
    """The log of an ended run: what its lines tell of; its stream and its route agree on it."""
    events = await service.events(execution)
    told = [LogView.model_validate(data) for _, kind, data in events if kind == "log"]
    lines = await service.get(f"/executions/{execution}/logs")
    assert told == [LogView.model_validate(line) for line in lines]
    assert [int(event[0].split(".")[1]) for event in events] == list(range(1, len(events) + 1))
    assert events[-1][1] == "done"
    return [line.event_type for line in told], told


async def test_the_lines_of_a_log_are_events_of_the_stream(service: Service) -> None:
    agent = await service.agent(capabilities={"files": {"mode": "read"}})
    done = await service.run(agent, SCRIPT)
    types, told = await told_and_stored(service, done["id"])
    assert types == WHOLE
    assert [line.level for line in told] == ["info", "info", "info", "warning", "info", "info"]
    assert told[3].context["error"]["outcome"] == "failed"


async def test_a_line_comes_before_what_its_transaction_tells(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hello.")
    events = await service.events(done["id"])
    behind = {
        data["event_type"]: events[at + 1][1]
        for at, (_, kind, data) in enumerate(events)
        if kind == "log"
    }
    assert behind == {
        "execution.accepted": "status.changed",
        "execution.claimed": "status.changed",
        "step.model": "step.completed",
        "execution.completed": "status.changed",
    }


async def test_a_line_and_its_event_are_written_in_one_transaction(
    service: Service, clone: TestDatabase
) -> None:
    done = await service.run(await service.agent(), "@say Hello.")
    async with service.database.hot(service.caller.organization_id) as connection:
        lines = await connection.fetch(
            "select seq, xmin::text::bigint as tx from logs where execution_id = $1 order by seq",
            done["id"],
        )
        told = await connection.fetch(
            "select (data->>'id')::int as seq, tx::text::bigint & 4294967295 as tx from events "
            "where execution_id = $1 and type = 'log' order by events.seq",
            done["id"],
        )
    assert [tuple(line) for line in told] == [tuple(line) for line in lines]
    assert len(lines) == 4


async def test_a_stream_goes_on_behind_a_line(service: Service) -> None:
    done = await service.run(await service.agent(), "@say Hello.")
    events = await service.events(done["id"])
    for at, (event_id, kind, _) in enumerate(events):
        if kind == "log":
            assert await service.events(done["id"], event_id) == events[at + 1 :]


async def test_a_run_that_is_taken_over_and_fails_tells_its_log(
    idle: Service, clone: TestDatabase
) -> None:
    execution = await begin(idle, "@fail 400")
    organization = idle.caller.organization_id
    lost = await take(
        idle.database, organization, ExecutionId(UUID(execution)), worker="w:1:a", lease_s=0.02
    )
    assert lost is not None
    async with work_on(idle, clone.urls.system):
        await idle.until(execution, "failed")
    types, told = await told_and_stored(idle, execution)
    assert types == [
        "execution.accepted",
        "execution.claimed",
        "execution.taken_over",
        "step.model",
        "execution.failed",
    ]
    assert [line.level for line in told[2:]] == ["warning", "warning", "error"]


async def test_a_run_that_nobody_ran_tells_its_log(idle: Service) -> None:
    execution = await begin(idle)
    await idle.client.post(f"/api/v1/executions/{execution}/cancel")
    types, _ = await told_and_stored(idle, execution)
    assert types == ["execution.accepted", "execution.cancelled"]


async def test_the_owner_knows_the_number_of_its_last_line(idle: Service) -> None:
    """Else it would not see, at its next text, that PostgreSQL has lost some."""
    execution = ExecutionId(UUID(await begin(idle)))
    organization = idle.caller.organization_id
    run = await take(idle.database, organization, execution, worker="w:1:a", lease_s=60)
    assert run is not None
    step = StepRecord(seq=1, kind="model", call_id="1.1.1", started_at=now(), completed_at=now())
    lines = [Log("info", "step.model", f"Line {number}.") for number in range(3)]
    async with idle.database.hot(organization) as connection:
        await journal.record_step(
            connection,
            run.lease,
            run.spender,
            step,
            messages=[],
            state={},
            events=[Event("step.completed", {"step_number": 1})],
            logs=lines,
        )
        last = await connection.fetchval("select last_event from live_executions")
        told = await connection.fetch(
            "select seq, coalesce(data->>'message', type) as line from events "
            "where seq > $1 - 4 order by seq",
            last,
        )
    assert run.lease.last_event == last
    assert [row["line"] for row in told] == ["Line 0.", "Line 1.", "Line 2.", "step.completed"]
    assert [row["seq"] for row in told] == list(range(last - 3, last + 1))


# For whom the route of the log has an answer


async def key_with(service: Service, *scopes: str) -> str:
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get_one(Organization, service.caller.organization_id)
    _, key = await make_caller(service.database, "member", scopes, organization)
    return key


@pytest.mark.parametrize(
    ("scopes", "reads"),
    [
        (["agents:execute"], False),
        (["agents:execute", "executions:read"], True),
        (["admin"], True),
    ],
)
async def test_who_starts_a_run_is_told_its_log_if_the_key_may_read_it(
    service: Service, scopes: list[str], reads: bool
) -> None:
    agent = await service.agent()
    async with client_of(service.app, await key_with(service, *scopes)) as client:
        body = {"input": "@say Hello.", "mode": "stream"}
        answer = await client.post(f"/api/v1/agents/{agent}/execute", json=body)
        told = parse_events(answer.text)
        route = await client.get(f"/api/v1/executions/{answer.headers['X-Execution-Id']}/logs")
    assert (route.status_code == 200) == reads
    assert ("log" in {kind for _, kind, _ in told}) == reads
    assert told[-1][1] == "done"
    whole = await service.events(answer.headers["X-Execution-Id"])
    assert told == [event for event in whole if reads or event[1] != "log"]


async def test_a_token_tells_no_log_wherever_it_is_used(service: Service) -> None:
    """The route of the log takes no tokens: strangers may hold them."""
    done = await service.run(await service.agent(), "@say Hello.")
    made = await service.client.post(f"/api/v1/executions/{done['id']}/subscription-token")
    token, topic = made.json()["token"], made.json()["topic"]
    key: dict[str, str] = {"Authorization": service.client.headers["Authorization"]}
    async with serving(service.app) as url:
        hub = f"/api/v1/hub?topic={topic}"
        by_token = [event async for event in events_of(url, f"{hub}&token={token}")]
        by_key = [event async for event in events_of(url, hub, **key)]
        socket_by_token = await heard(url, topic, query=f"?token={token}")
        socket_by_key = await heard(url, topic, headers=key)
        # Also where it goes on behind a line, as who had a key before would.
        line = next(event.id for event in by_key if event.type == "log")
        behind = [event async for event in events_of(url, f"{hub}&token={token}", line)]
    assert by_key == socket_by_key == [Told(*event) for event in await service.events(done["id"])]
    assert by_token == socket_by_token == [event for event in by_key if event.type != "log"]
    assert behind == by_token


async def heard(url: str, topic: str, **how: Any) -> list[Told]:
    """All that a live socket tells of an ended run."""
    told = list[Told]()
    async with asyncio.timeout(10), live_socket(url, **how) as connection:
        await say(connection, subscribe=topic)
        while (message := await hear(connection))["type"] != "unsubscribed":
            if message["type"] != "subscribed":
                told.append(Told(message["id"], message["type"], message["data"]))
    return told
