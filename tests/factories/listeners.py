"""Many listeners on one run of one API process, and what they cost it."""

import asyncio
import os
import re
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.factories.agents import make_agent
from tests.factories.tenancy import make_caller

from chargehand.executions.endings import Ending, finish
from chargehand.executions.journal import Event, append_events
from chargehand.executions.live import Bells
from chargehand.executions.operations import start
from chargehand.executions.schemas import ExecuteRequest
from chargehand.kernel.bells import PostgresWire
from chargehand.kernel.database import Database
from chargehand.runtime.claiming import take
from chargehand.runtime.runs import Run

PAUSE_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")
SENT = re.compile(rb'"sent": ?([0-9.]+)')


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def listen(url: str, path: str, key: str, delays: list[float], ready: asyncio.Event) -> int:
    """Count events until the end; the delay of each from its writing."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    count, ended = 0, False
    while not ended:
        chunk = await reader.read(65536)
        assert chunk, "the connection was dropped"
        count += chunk.count(b"\nevent: ")
        delays += [time.time() - float(sent) for sent in SENT.findall(chunk)]
        if b"event: step.started" in chunk:
            ready.set()
        ended = b"event: done" in chunk
    writer.close()
    return count


@dataclass
class Costs:
    """What so many listeners on one run cost the API process ``pid``."""

    pid: int
    listeners: int
    events: int
    connected_s: float = 0
    idle_mb: float = 0
    connected_mb: float = 0
    ended_mb: float = 0
    idle_cpu: float = 0
    """Of a core, while nothing happens."""
    busy_cpu: float = 0
    events_per_s: float = 0
    event_us: float = 0
    """CPU for one event to one listener."""
    delays: list[float] = field(default_factory=list[float])
    counts: set[int] = field(default_factory=set[int])
    """How many events the listeners got; one number if all got as many."""

    def table(self) -> str:
        delays = sorted(self.delays)
        median, late = statistics.median(delays), delays[int(len(delays) * 0.99)]
        memory = f"{self.idle_mb:.0f} → {self.connected_mb:.0f} → {self.ended_mb:.0f}"
        rows = [
            (f"listeners that got all of {self.events} events", str(self.listeners)),
            ("---", "---"),
            ("seconds to connect them", f"{self.connected_s:.1f}"),
            ("memory in MB: idle → connected → at the end", memory),
            ("CPU while nothing happens", f"{self.idle_cpu:.0%}"),
            (f"CPU at {self.events_per_s:.1f} events a second", f"{self.busy_cpu:.0%}"),
            ("CPU for an event to a listener, µs", f"{self.event_us:.1f}"),
            ("delay, ms: median, 99th of 100", f"{median * 1e3:.0f}, {late * 1e3:.0f}"),
        ]
        return "\n".join(f"| {name} | {value} |" for name, value in rows)


async def measure(
    database: Database, url: str, pid: int, listeners: int, deltas: int, idle_s: float = 2
) -> Costs:
    """Have so many follow one run, whose owner we are, and write its text as a worker would."""
    # Ours alone: the API has started, and sees to its own.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    caller, key = await make_caller(database)
    agent = await make_agent(database, caller, publish=True)
    async with database.hot(caller.organization_id) as connection:
        started = await start(connection, caller, agent.slug, ExecuteRequest(input="x"))
    run = await take(
        database, caller.organization_id, started.execution_id, worker="bench:1:a", lease_s=600
    )
    assert run is not None
    # It is accepted, claimed and ended: three lines of its log, and five events more.
    costs = Costs(pid, listeners, deltas + 8, idle_mb=memory_mb(pid))
    path = f"/api/v1/executions/{started.execution_id}/events"
    following = await _connect(costs, url, path, key)
    before = cpu_s(pid)
    await asyncio.sleep(idle_s)
    costs.idle_cpu = (cpu_s(pid) - before) / idle_s
    bells = Bells(PostgresWire(database.system))
    await _tell(costs, database, run, bells, deltas)
    async with database.hot(caller.organization_id) as connection:
        await finish(connection, run.lease, Ending(status="completed"))
    bells.new_events(started.execution_id)
    costs.counts = set(await asyncio.gather(*following))
    costs.ended_mb = memory_mb(pid)
    await bells.close()
    return costs


async def _connect(costs: Costs, url: str, path: str, key: str) -> list[asyncio.Task[int]]:
    """All listeners, each of which has heard what has happened by now."""
    began, following = time.monotonic(), list[asyncio.Task[int]]()
    for first in range(0, costs.listeners, 50):
        ready = [asyncio.Event() for _ in range(min(50, costs.listeners - first))]
        following += [
            asyncio.create_task(listen(url, path, key, costs.delays, one)) for one in ready
        ]
        await asyncio.gather(*(one.wait() for one in ready))
    costs.connected_s, costs.connected_mb = time.monotonic() - began, memory_mb(costs.pid)
    return following


async def _tell(costs: Costs, database: Database, run: Run, bells: Bells, deltas: int) -> None:
    before, began = cpu_s(costs.pid), time.monotonic()
    for number in range(deltas):
        data = {"text": f"word {number} and some more of it ", "sent": time.time()}
        async with database.hot(run.lease.organization_id) as connection:
            await append_events(connection, run.lease, [Event("output.delta", data)])
        bells.new_events(run.lease.execution_id)
        await asyncio.sleep(PAUSE_S)
    used, passed = cpu_s(costs.pid) - before, time.monotonic() - began
    costs.busy_cpu, costs.events_per_s = used / passed, deltas / passed
    costs.event_us = used / deltas / costs.listeners * 1e6
