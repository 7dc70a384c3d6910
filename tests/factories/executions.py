"""A whole service in the test's own process: the API's app, and a worker on the same loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import orjson
from tests.factories.conformance import Conformance, watching
from tests.factories.tenancy import client_of, make_caller

from chargehand.adapters import simulated
from chargehand.agents.installed import AVAILABLE, Capability, Installed
from chargehand.catalog.availability import Availabilities, NothingConnected
from chargehand.entrypoints.api import ApiParts, create_app
from chargehand.entrypoints.worker import Worker, serve
from chargehand.executions.live import Bells, Feed
from chargehand.kernel.bells import PostgresWire
from chargehand.kernel.database import Database
from chargehand.kernel.jobs import QUEUES, Doorbell
from chargehand.runtime.ports import ModelProvider
from chargehand.runtime.toolset import TOOLS_OF, CapabilityTools
from chargehand.runtime.workspaces import Workspaces
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.tiers import Tier, Tiers


@dataclass
class Service:
    """An API with a worker, and one organization's owner who calls it."""

    database: Database
    client: httpx2.AsyncClient
    caller: Caller
    worker: Worker
    app: Any = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @cached_property
    def conformance(self) -> Conformance:
        """What every answer to ``client`` is held against."""
        return Conformance.of(self.app)

    async def agent(self, **config: Any) -> str:
        """A published agent with this configuration on the simulated model; returns its slug."""
        document = {"model": {"provider": "simulated", "name": "standard"}, **config}
        name = f"agent {len((await self.client.get('/api/v1/agents')).json()['items'])}"
        answer = await self.client.post(
            "/api/v1/agents",
            json={
                "name": name,
                "visibility": "organization",
                "config": document,
                "publish": True,
            },
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["slug"]

    async def run(self, agent: str, document: Any, **body: Any) -> dict[str, Any]:
        """Run and wait; the execution as the API shows it."""
        answer = await self.client.post(
            f"/api/v1/agents/{agent}/execute", json={"input": document, **body}, timeout=90
        )
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self.client.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def events(self, execution: str, last_event_id: str | None = None) -> list[Any]:
        """The whole stream of an ended run, as (id, type, data)."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        answer = await self.client.get(f"/api/v1/executions/{execution}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.text)

    async def until(self, execution: str, *statuses: str) -> dict[str, Any]:
        """Wait, at most 20 s, until the run is in one of these states."""
        async with asyncio.timeout(20):
            while (found := await self.get(f"/executions/{execution}"))["status"] not in statuses:
                await asyncio.sleep(0.02)
        return found


def parse_events(text: str) -> list[tuple[str, str, Any]]:
    found = list[tuple[str, str, Any]]()
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in lines:
            found.append((lines["id"], lines["event"], orjson.loads(lines["data"])))
    return found


@contextlib.asynccontextmanager
async def running_service(
    database: Database,
    system_url: str,
    folder: Path,
    *,
    work: bool = True,
    lease_s: float = 2,
    capabilities: Mapping[str, Capability] | None = None,
    tools: Mapping[str, CapabilityTools] | None = None,
    providers: Mapping[str, ModelProvider] | None = None,
    tier: str = "enterprise",
    connected: Collection[str] = (),
    availabilities: Availabilities | None = None,
    longest_stream_s: float = 0.2,
) -> AsyncGenerator[Service]:
    """``work=False`` leaves the worker out: runs stay pending until ``work_on`` is used.

    Streams without an end do end: the client reads each answer whole before it has it.
    ``connected`` are vendors that agents may name beside those of ``providers``.
    """
    from tests.factories.tenancy import make_organization

    organization = await make_organization(database, tier=tier)
    caller, key = await make_caller(database, organization=organization)
    wire = PostgresWire(database.system, system_url)
    bells, doorbell = Bells(wire), Doorbell(database.system)
    tiers = Tiers({"wide": Tier("wide", 200, 100, 1_000_000_000)})
    parts = ApiParts(
        database=database,
        tiers=tiers,
        key_cache=KeyCache(database, tiers),
        installed=Installed(
            {**AVAILABLE, **(capabilities or {})}, frozenset([*(providers or {}), *connected])
        ),
        max_upload_bytes=1_000_000,
        feed=Feed(wire, database),
        bells=bells,
        doorbell=doorbell,
        availabilities=availabilities or NothingConnected(),
        longest_stream_s=longest_stream_s,
    )
    worker = Worker(
        database=database,
        bells=bells,
        doorbell=doorbell,
        providers={"simulated": simulated.provider(), **(providers or {})},
        tools={**TOOLS_OF, **(tools or {})},
        workspaces=Workspaces(folder),
        lease_s=lease_s,
    )
    app = create_app(parts)
    async with client_of(app, key) as client, app.router.lifespan_context(app):
        service = Service(database, client, caller, worker, app)
        client.event_hooks["response"].append(watching(service.conformance))
        if not work:
            yield service
            return
        async with work_on(service, system_url):
            yield service


@contextlib.asynccontextmanager
async def work_on(service: Service, system_url: str) -> AsyncGenerator[None]:
    """Let the service's worker work for as long as the context lasts."""
    ready = asyncio.Event()
    serving = asyncio.create_task(
        serve(
            service.worker,
            url=system_url,
            queues=QUEUES,
            concurrency=20,
            stop=service.stop,
            on_ready=lambda _name: ready.set(),
        )
    )
    await ready.wait()
    try:
        yield
    finally:
        service.stop.set()
        await serving
