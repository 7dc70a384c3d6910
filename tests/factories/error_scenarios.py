"""One small story for each code of ``web/error_codes.py``, told over HTTP.

A scenario returns the answer that has the code; ``Scenario`` says what else must be in it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import httpx2
from tests.factories.executions import Service
from tests.factories.tenancy import client_of, make_caller, make_organization

from chargehand.tenancy.tables import Organization

NOBODY = UUID("01890000-0000-7000-8000-000000000000")


@dataclass
class World:
    """A running service, and clients of whoever a scenario needs."""

    service: Service
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def owner(self) -> httpx2.AsyncClient:
        return self.service.client

    async def client(
        self, role: Any = "owner", scopes: Sequence[str] = ("admin",), tier: str | None = None
    ) -> httpx2.AsyncClient:
        """Of a new member of the service's organization, or of a new one of this tier."""
        database, ours = self.service.database, self.service.caller.organization_id
        if tier is None:
            async with database.transaction(ours) as session:
                organization = await session.get_one(Organization, ours)
        else:
            organization = await make_organization(database, tier=tier)
        _, key = await make_caller(database, role, scopes, organization)
        return await self._stack.enter_async_context(client_of(self.service.app, key))

    async def stranger(self) -> httpx2.AsyncClient:
        return await self._stack.enter_async_context(client_of(self.service.app))

    async def close(self) -> None:
        await self._stack.aclose()


Story: TypeAlias = Callable[[World], Awaitable[httpx2.Response]]


@dataclass(frozen=True)
class Scenario:
    """``remedy`` stands in the message; ``pointers`` are those of ``details.violations``."""

    tell: Story
    remedy: str
    pointers: tuple[str, ...]
    details: Mapping[str, Any]


SCENARIOS: dict[str, Scenario] = {}


def produces(
    code: str, *, remedy: str, pointers: tuple[str, ...] = (), **details: Any
) -> Callable[[Story], Story]:
    """Register the story of a code; ``details`` are some of the answer's."""

    def register(tell: Story) -> Story:
        assert code not in SCENARIOS, code
        SCENARIOS[code] = Scenario(tell, remedy, pointers, details)
        return tell

    return register


def draft(name: str, **fields: Any) -> dict[str, Any]:
    config = {"model": {"provider": "simulated", "name": "standard"}}
    return {"name": name, "config": config, **fields}


async def create(client: httpx2.AsyncClient, name: str, **fields: Any) -> str:
    """A published agent; its slug."""
    answer = await client.post("/api/v1/agents", json=draft(name, **{"publish": True, **fields}))
    assert answer.status_code == 201, answer.text
    return answer.json()["slug"]


async def execute(client: httpx2.AsyncClient, agent: str, **body: Any) -> httpx2.Response:
    body = {"input": "@say Hi.", **body}
    headers = body.pop("headers", {})
    return await client.post(f"/api/v1/agents/{agent}/execute", json=body, headers=headers)


@produces("InvalidInput", remedy="see details.violations", pointers=("/input", "/mode", "/zz"))
async def _(world: World) -> httpx2.Response:
    agent = await create(world.owner, "Invalid input")
    path = f"/api/v1/agents/{agent}/execute"
    return await world.owner.post(path, json={"mode": "later", "zz": 1})


@produces(
    "InvalidAgentConfig",
    remedy="see details.violations",
    pointers=("/config/model/temprature", "/config/model/name", "/config/capabilities/flies"),
)
async def _(world: World) -> httpx2.Response:
    model = {"provider": "simulated", "name": "standrad", "temprature": 1}
    config = {"model": model, "capabilities": {"flies": {}}}
    return await world.owner.post("/api/v1/agents", json={"name": "Wrong", "config": config})


@produces("BadArchive", remedy="Pack regular files and folders only")
async def _(world: World) -> httpx2.Response:
    path = "/api/v1/uploads?kind=folder&name=work"
    return await world.owner.post(path, content=b"no archive at all" * 100)


@produces("Unauthenticated", remedy="Send it as the header `Authorization", reason="missing")
async def _(world: World) -> httpx2.Response:
    return await (await world.stranger()).get("/api/v1/agents")


@produces(
    "AgentAccessDenied",
    remedy="Use a key that holds it",
    missing_scopes=["agents:read"],
    held_scopes=["executions:read"],
)
async def _(world: World) -> httpx2.Response:
    client = await world.client(scopes=("executions:read",))
    return await client.get("/api/v1/agents")


@produces(
    "InsufficientPermissions",
    remedy="Ask an owner",
    needed_role="member",
    held_role="viewer",
)
async def _(world: World) -> httpx2.Response:
    return await execute(await world.client("viewer"), "any")


@produces("VisibilityViolation", remedy="Ask one of them to share it", agent="hidden")
async def _(world: World) -> httpx2.Response:
    await create(world.owner, "Hidden", visibility="private")
    return await (await world.client("member")).get("/api/v1/agents/hidden")


@produces("OrganizationLimitExceeded", remedy="Delete one that is not needed", limit=10)
async def _(world: World) -> httpx2.Response:
    client = await world.client(tier="free")
    for number in range(10):
        await create(client, f"Agent {number}")
    return await client.post("/api/v1/agents", json=draft("One too many"))


@produces("AgentNotFound", remedy="Did you mean code-review?", nearest=["code-review"])
async def _(world: World) -> httpx2.Response:
    await create(world.owner, "Code review")
    return await world.owner.get("/api/v1/agents/code-revew")


@produces("VersionNotFound", remedy="1.0.0", versions=["1.0.0"])
async def _(world: World) -> httpx2.Response:
    return await execute(world.owner, await create(world.owner, "Versions"), version="1.0.9")


@produces("ExecutionNotFound", remedy="GET /api/v1/executions lists", execution_id=str(NOBODY))
async def _(world: World) -> httpx2.Response:
    return await world.owner.get(f"/api/v1/executions/{NOBODY}")


@produces("UploadNotFound", remedy="POST /api/v1/uploads", pointers=("/workspace/upload_id",))
async def _(world: World) -> httpx2.Response:
    agent = await create(world.owner, "Workspace")
    return await execute(world.owner, agent, workspace={"upload_id": str(NOBODY)})


@produces("KeyNotFound", remedy="GET /api/v1/keys lists")
async def _(world: World) -> httpx2.Response:
    return await world.owner.delete(f"/api/v1/keys/{NOBODY}")


@produces("MemberNotFound", remedy="GET /api/v1/members lists", pointers=("/user_id",))
async def _(world: World) -> httpx2.Response:
    body = {"name": "k", "scopes": ["agents:read"], "user_id": str(NOBODY)}
    return await world.owner.post("/api/v1/keys", json=body)


@produces("RouteNotFound", remedy="GET /api/v1/openapi.json lists the routes")
async def _(world: World) -> httpx2.Response:
    return await world.owner.get("/api/v1/agnets")


@produces("MethodNotAllowed", remedy="GET /api/v1/openapi.json lists the routes")
async def _(world: World) -> httpx2.Response:
    return await world.owner.put("/api/v1/agents/code-review")


@produces("DuplicateAgentName", remedy="Choose another name", pointers=("/name",), name="Twice")
async def _(world: World) -> httpx2.Response:
    await create(world.owner, "Twice")
    return await world.owner.post("/api/v1/agents", json=draft("Twice"))


@produces("DuplicateAgentSlug", remedy="Choose another slug", pointers=("/slug",), slug="taken")
async def _(world: World) -> httpx2.Response:
    await create(world.owner, "Taken")
    return await world.owner.post("/api/v1/agents", json=draft("Other", slug="taken"))


@produces("AgentArchived", remedy="Create another one", agent="archived")
async def _(world: World) -> httpx2.Response:
    agent = await create(world.owner, "Archived")
    assert (await execute(world.owner, agent)).status_code == 200
    assert (await world.owner.delete(f"/api/v1/agents/{agent}")).json()["outcome"] == "archived"
    return await world.owner.patch(f"/api/v1/agents/{agent}", json={"description": "x"})


@produces("AgentNotExecutable", remedy="/api/v1/agents/draft/publish", status="draft")
async def _(world: World) -> httpx2.Response:
    return await execute(world.owner, await create(world.owner, "Draft", publish=False))


@produces("VersionConflict", remedy="Leave `version` out for 1.0.1", pointers=("/version",))
async def _(world: World) -> httpx2.Response:
    agent = await create(world.owner, "Conflict")
    config = {**draft("")["config"], "instructions": "Be brief."}
    body = {"config": config, "version": "0.9.0"}
    return await world.owner.patch(f"/api/v1/agents/{agent}", json=body)


@produces("InvalidTransition", remedy="Possible from here", **{"from": "completed"})
async def _(world: World) -> httpx2.Response:
    done = (await execute(world.owner, await create(world.owner, "Over"))).json()
    return await world.owner.post(f"/api/v1/executions/{done['id']}/cancel")


def waiting(question: str) -> str:
    return f'@call ask_user {{"question": "{question}"}}'


@produces("WaitClosed", remedy="Look at its `waiting_for`", wait=1, kind="input")
async def _(world: World) -> httpx2.Response:
    config = {**draft("")["config"], "capabilities": {"ask_user": {}}}
    agent = await create(world.owner, "Asks", config=config)
    run = (await execute(world.owner, agent, input=waiting("Well?"))).json()
    path = f"/api/v1/executions/{run['id']}/input"
    return await world.owner.post(path, json={"input": "Well.", "wait": 2})


@produces("AlreadyApproved", remedy="Have somebody else approve it", wait=1)
async def _(world: World) -> httpx2.Response:
    marked = {"capabilities": {"todo": {}}, "approvals": {"todo_write": {"persons": 2}}}
    config = {**draft("")["config"], **marked}
    agent = await create(world.owner, "Approves", config=config)
    run = (await execute(world.owner, agent, input='@call todo_write {"todos": []}')).json()
    path = f"/api/v1/executions/{run['id']}/approve"
    assert (await world.owner.post(path, json={"wait": 1})).status_code == 200
    return await world.owner.post(path, json={"wait": 1})


@produces("PreconditionFailed", remedy="Read it again", etag='"1"')
async def _(world: World) -> httpx2.Response:
    path = f"/api/v1/agents/{await create(world.owner, 'Stale')}"
    return await world.owner.patch(path, json={"name": "New"}, headers={"If-Match": '"7"'})


@produces("PayloadTooLarge", remedy="POST /api/v1/uploads")
async def _(world: World) -> httpx2.Response:
    return await execute(world.owner, "any", input="x" * 2_100_000)


@produces("UnsupportedMediaType", remedy="send Content-Type: application/json")
async def _(world: World) -> httpx2.Response:
    headers = {"Content-Type": "text/plain"}
    return await world.owner.post("/api/v1/agents", content=b"{}", headers=headers)


@produces("IdempotencyKeyReused", remedy="Send a new key")
async def _(world: World) -> httpx2.Response:
    agent = await create(world.owner, "Once")
    headers = {"Idempotency-Key": "once"}
    assert (await execute(world.owner, agent, headers=headers)).status_code == 200
    return await execute(world.owner, agent, headers=headers, input="@say Other.")


@produces("RateLimitExceeded", remedy="Wait until one ends, or cancel one", limit=1)
async def _(world: World) -> httpx2.Response:
    client = await world.client(tier="free")
    agent = await create(client, "Slow")
    slow = await execute(client, agent, input="@pace 200ms\n@tokens 500", mode="async")
    answer = await execute(client, agent)
    assert (await client.post(f"{slow.headers['location']}/cancel")).status_code in (200, 202)
    return answer


@produces("InternalError", remedy="Try again, and give your operator the request_id")
async def _(world: World) -> httpx2.Response:
    state = world.service.app.state
    kept, state.connected = state.connected, None
    answer = await world.owner.get("/api/v1/models")
    state.connected = kept
    return answer


@produces("DatabaseUnavailable", remedy="try again", retry_after_s=1)
async def _(world: World) -> httpx2.Response:
    """The key is known still, so that the route itself meets the missing database."""
    agent = await create(world.owner, "No database")
    world.service.database.app.terminate()
    return await execute(world.owner, agent)
