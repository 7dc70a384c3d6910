"""What ten thousand waiting runs cost a worker: CPU and memory of it and of PostgreSQL.

``PYTHONPATH=.:src python bench/waiting.py [RUNS] [SECONDS]`` starts a PostgreSQL and a worker, and
measures both idle; then lets RUNS runs wait, half of them at a question that the worker has asked,
half for an event, and measures again. It prints a Markdown table. Last, one event wakes one run.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop
from tests.conftest import TestDatabase
from tests.factories.agents import make_agent
from tests.factories.fleet import fleet_on
from tests.factories.listeners import cpu_s, memory_mb
from tests.factories.tenancy import make_caller, make_organization

from chargehand.adapters import embedded_postgres
from chargehand.executions.answers import deliver_event
from chargehand.executions.operations import start
from chargehand.executions.schemas import AwaitedEvent, ExecuteRequest
from chargehand.kernel import schema
from chargehand.kernel.database import Database, connect
from chargehand.kernel.jobs import Doorbell
from chargehand.tenancy.caller import Caller

ASKS = '@call ask_user {"question": "How many?"}'


async def main(folder: Path, runs: int, seconds: int) -> None:
    with embedded_postgres.start(folder / "data") as server:
        urls = schema.runtime_urls(server.dsn)
        await schema.migrate(server.dsn, urls)
        database = await connect(urls.app, urls.system, pool_size=10)
        with fleet_on(TestDatabase(server.dsn, urls), folder) as fleet:
            worker = fleet.start()
            postgres = server_pids(folder / "data")
            idle = await costs(worker, postgres, seconds)
            caller, agent = await somebody(database)
            await wait_for_answers(database, caller, agent, runs // 2)
            await wait_for_events(database, caller, agent, runs - runs // 2)
            await asyncio.sleep(5)
            waiting = await costs(worker, postgres, seconds)
            held = await database.system.fetchval(
                "select count(*) from live_executions where owner is not null or slot"
            )
            async with database.hot(caller.organization_id) as connection:
                payload = {"number": runs - 1}
                woken = await deliver_event(connection, caller, "invoice.paid", payload, None)
        await database.close()
    print(table(runs, idle, waiting))
    assert (held, len(woken)) == (0, 1), "they hold a worker or a slot, or an event woke others"


def server_pids(data: Path) -> list[int]:
    """The server and its processes, those that are there now."""
    (file,) = data.rglob("postmaster.pid")
    root = int(file.read_text().split()[0])
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *map(int, children)]


async def costs(worker: int, postgres: Sequence[int], seconds: int) -> tuple[float, float, float]:
    """CPU of the worker and of PostgreSQL, as parts of a core, and the worker's memory in MB."""
    before = cpu_s(worker), sum(map(cpu_s, filter(alive, postgres)))
    await asyncio.sleep(seconds)
    after = cpu_s(worker), sum(map(cpu_s, filter(alive, postgres)))
    used = [(b - a) / seconds for a, b in zip(before, after, strict=True)]
    return used[0], used[1], memory_mb(worker)


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def somebody(database: Database) -> tuple[Caller, str]:
    organization = await make_organization(database, tier="enterprise")
    caller, _ = await make_caller(database, organization=organization)
    config = {"capabilities": {"ask_user": {}, "await_event": {}}}
    agent = await make_agent(database, caller, config=config, publish=True)
    return caller, agent.slug


async def wait_for_answers(database: Database, caller: Caller, agent: str, runs: int) -> None:
    """Ten at a time: as many as have a slot until the worker has asked for them."""
    doorbell = Doorbell(database.system)
    for _ in range(0, runs, 10):
        for _ in range(10):
            async with database.hot(caller.organization_id) as connection:
                await start(connection, caller, agent, ExecuteRequest(input=ASKS, mode="async"))
        doorbell.ring()
        while await database.system.fetchval("select coalesce(sum(active), 0) from slots"):
            await asyncio.sleep(0.02)
    await doorbell.close()


async def wait_for_events(database: Database, caller: Caller, agent: str, runs: int) -> None:
    for number in range(runs):
        event = AwaitedEvent(event_type="invoice.paid", filter={"number": number + runs})
        request = ExecuteRequest(input="@say Paid.", mode="async", await_event=event)
        async with database.hot(caller.organization_id) as connection:
            await start(connection, caller, agent, request)


def table(runs: int, idle: tuple[float, float, float], waiting: tuple[float, float, float]) -> str:
    names = ("CPU of the worker", "CPU of PostgreSQL", "memory of the worker, MB")
    shapes = ("{:.2%}", "{:.2%}", "{:.0f}")
    lines = [f"| | nothing to do | {runs:,} runs wait |", "| --- | --- | --- |"]
    for name, shape, before, after in zip(names, shapes, idle, waiting, strict=True):
        lines.append(f"| {name} | {shape.format(before)} | {shape.format(after)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    place = Path(tempfile.mkdtemp(prefix="chargehand-bench-"))
    # As root the server runs as another user, which must be able to reach its cluster.
    place.chmod(0o711)
    uvloop.run(main(place, *given, *(10_000, 30)[len(given) :]))
    shutil.rmtree(place, ignore_errors=True)
