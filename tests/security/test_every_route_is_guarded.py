"""TEN-0, TEN-3: nothing answers without a key, and no key does what its scopes do not hold."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.staticfiles import StaticFiles
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service
from tests.factories.tenancy import client_of, make_caller

from chargehand.kernel.database import Database

PUBLIC = {"/healthz", "/readyz"}
SOCKETS = [("any", "/api/v1/live")]
"""What OpenAPI cannot describe; ``test_subscription_tokens`` tries them."""
NO_SCOPE_NEEDED = {"/api/v1/me", "/api/v1/openapi.json", "/api/v1/keys", "/api/v1/keys/{key_id}"}


CHANGE_NOTHING = {"/api/v1/agents/validate", "/api/v1/subscription-token"}


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


def routes(service: Service) -> list[tuple[str, str]]:
    """Every method and path, from the application's own description."""
    paths = service.app.openapi()["paths"]
    found = [(method, path) for path, methods in paths.items() for method in methods]
    assert len(found) >= 25
    return found


def concrete(path: str) -> str:
    for part in ("agent", "execution_id", "upload_id", "key_id", "number"):
        path = path.replace(f"{{{part}}}", "01890000-0000-7000-8000-000000000000")
    assert "{" not in path
    return path


def served(routes: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path that the application answers, described or not, also below mounts."""
    for route in iter_route_contexts(routes):
        path = f"{prefix}{route.path or ''}"
        if below := getattr(route, "routes", None):
            yield from served(below, path)
            continue
        for method in route.methods or ("any",):
            yield method.lower(), path


async def test_whatever_is_served_is_described(service: Service) -> None:
    """So that what is tried below is all there is."""
    assert sorted(served(service.app.routes)) == sorted([*routes(service), *SOCKETS])


async def test_a_hidden_route_would_be_seen(service: Service) -> None:
    async def leak() -> str:
        return "secret"

    router, below = APIRouter(), FastAPI(openapi_url=None)
    router.add_api_route("/hidden", leak, include_in_schema=False)
    router.add_api_websocket_route("/socket", leak)
    below.include_router(router)
    known = set(served(service.app.routes))
    service.app.include_router(router, prefix="/api/v1")
    service.app.mount("/below", below)
    service.app.mount("/files", StaticFiles(directory=Path(__file__).parent))
    assert set(served(service.app.routes)) - known == {
        ("get", "/api/v1/hidden"),
        ("any", "/api/v1/socket"),
        ("get", "/below/hidden"),
        ("any", "/below/socket"),
        ("any", "/files"),
    }
    assert {*routes(service), *SOCKETS} == known


async def test_without_a_key_nothing_answers(service: Service) -> None:
    async with client_of(service.app) as stranger:
        for method, path in routes(service):
            answer = await stranger.request(method, concrete(path))
            expected = 200 if path in PUBLIC else 401
            assert answer.status_code == expected, (method, path, answer.text)


async def test_a_key_of_another_scope_is_refused(service: Service) -> None:
    _, key = await make_caller(service.database, role="owner", scopes=("webhooks:write",))
    async with client_of(service.app, key) as narrow:
        for method, path in routes(service):
            if path in PUBLIC | NO_SCOPE_NEEDED:
                continue
            answer = await narrow.request(method, concrete(path), json={"input": "x"})
            assert answer.status_code == 403, (method, path, answer.text)
            assert answer.json()["error"]["code"] == "AgentAccessDenied"


async def test_a_viewer_changes_and_starts_nothing(service: Service) -> None:
    _, key = await make_caller(service.database, role="viewer", scopes=("admin",))
    async with client_of(service.app, key) as viewer:
        for method, path in routes(service):
            if method == "get" or path in CHANGE_NOTHING:
                continue
            answer = await viewer.request(method, concrete(path), json={"input": "x"})
            assert answer.status_code in (400, 403, 404), (method, path, answer.text)
            assert answer.status_code != 400 or "keys" in path or "agents" in path


async def test_answers_name_no_internals(service: Service) -> None:
    """Whatever is thrown at a route, its answer is the envelope, without a traceback."""
    for method, path in routes(service):
        answer = await service.client.request(
            method,
            concrete(path),
            content=b'{"input": [[[[',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code < 500, (method, path, answer.text)
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {
                "code",
                "message",
                "details",
                "timestamp",
                "request_id",
            }
            assert "Traceback" not in answer.text
            assert "asyncpg" not in answer.text
