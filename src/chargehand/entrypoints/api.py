"""The HTTP application: routes, errors, request ids, health."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import asyncpg
import structlog
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import chargehand
from chargehand.agents import routes as agents
from chargehand.agents.installed import Installed
from chargehand.catalog import routes as catalog
from chargehand.catalog.availability import Availabilities, NothingConnected
from chargehand.catalog.checks import RecentChecks
from chargehand.entrypoints.description import DescribedApi
from chargehand.executions import control_routes, live_routes, socket_routes
from chargehand.executions import routes as executions
from chargehand.executions.live import Bells, Feed
from chargehand.executions.topics import Topics
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import new_id
from chargehand.kernel.jobs import Doorbell
from chargehand.storage import routes as storage
from chargehand.tenancy import routes as tenancy
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import require
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.open_connections import OpenConnections
from chargehand.tenancy.subscription_tokens import OtherHub, SubscriptionTokens
from chargehand.tenancy.tiers import Tiers
from chargehand.web import outages, problems
from chargehand.web.cross_origin import CrossOrigin

UPLOADS = "/api/v1/uploads"
HUB = "/api/v1/hub"
MAX_BODY_BYTES = 2_000_000
"""Of a JSON request; uploads have a limit of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the routes work with; it becomes ``app.state``."""

    database: Database
    tiers: Tiers
    key_cache: KeyCache
    installed: Installed
    max_upload_bytes: int
    feed: Feed
    bells: Bells
    doorbell: Doorbell
    availabilities: Availabilities = field(default_factory=NothingConnected)
    other_hub: OtherHub | None = None
    """Where the holders of subscription tokens are sent instead of to ``HUB``."""
    cors_origins: frozenset[str] = frozenset()
    """Whose pages may follow topics (with a subscription token)."""
    longest_stream_s: float = 3600
    """How long a stream of what has no end may stay open."""


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = Field(description="Always that.")


class Ready(BaseModel):
    """Whether the process can serve."""

    status: Literal["ok", "unavailable"] = Field(description="Whether it can.")
    postgresql: Literal["ok", "unavailable"] = Field(description="Whether PostgreSQL answers.")


NOT_READY: dict[str, Any] = {
    "model": Ready,
    "description": "PostgreSQL does not answer.",
    "content": {
        "application/json": {"example": {"status": "unavailable", "postgresql": "unavailable"}}
    },
}


def create_app(parts: ApiParts) -> FastAPI:
    """The application. It has no public page but health: also its description needs a key."""
    open_connections = OpenConnections(parts.database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        parts.feed.start()
        open_connections.start()
        yield
        await parts.feed.stop()
        await open_connections.stop()
        await parts.key_cache.close()
        await parts.doorbell.close()
        await parts.bells.close()

    app = DescribedApi(
        title="Chargehand",
        version=chargehand.__version__,
        description=chargehand.__doc__ or "",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    for name in ApiParts.__slots__:
        setattr(app.state, name, getattr(parts, name))
    app.state.connected = parts.installed.providers
    app.state.checks = RecentChecks(parts.availabilities)
    app.state.topics = Topics(parts.feed, parts.database)
    app.state.subscription_tokens = SubscriptionTokens(
        parts.database, parts.key_cache, parts.other_hub
    )
    app.state.open_connections = open_connections
    problems.install(app)
    outages.install(app)
    for feature in (
        tenancy,
        catalog,
        agents,
        storage,
        executions,
        control_routes,
        live_routes,
        socket_routes,
    ):
        app.include_router(feature.router)
    _add_description(app)
    _add_health(app, parts.database)
    app.add_middleware(CrossOrigin, path=HUB)
    app.add_middleware(Boundary)
    return app


def _add_description(app: FastAPI) -> None:
    async def openapi(_caller: Annotated[Caller, Depends(require())]) -> dict[str, Any]:
        return app.openapi()

    app.add_api_route(
        "/api/v1/openapi.json",
        openapi,
        operation_id="get_openapi",
        summary="This description, as OpenAPI 3.1",
        tags=["service"],
    )


def _add_health(app: FastAPI, database: Database) -> None:
    async def healthz() -> Alive:
        return Alive(status="ok")

    async def readyz() -> JSONResponse:
        try:
            await database.app.fetchval("select 1", timeout=2)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return JSONResponse({"status": "unavailable", "postgresql": "unavailable"}, 503)
        return JSONResponse({"status": "ok", "postgresql": "ok"})

    app.add_api_route(
        "/healthz",
        healthz,
        operation_id="healthz",
        summary="Whether the process lives",
        tags=["service"],
    )
    app.add_api_route(
        "/readyz",
        readyz,
        operation_id="readyz",
        summary="Whether it can serve: PostgreSQL answers",
        response_model=Ready,
        responses={503: NOT_READY},
        tags=["service"],
    )


class Boundary:
    """Gives each request an id (scope, answer, log lines), and its body a limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = f"req_{new_id().hex}"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = (h for h in message["headers"] if h[0] != b"x-request-id")
                message["headers"] = [*others, (b"x-request-id", request_id.encode())]
            await send(message)

        limited = receive if scope["path"] == UPLOADS else _limited(receive)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, limited, send_with_id)


def _limited(receive: Receive) -> Receive:
    """``receive`` that answers 413 to a body beyond MAX_BODY_BYTES, however it is sent."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return receive_limited
