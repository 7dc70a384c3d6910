"""TEN-0 to TEN-3: every operation of the OpenAPI document, with every kind of key.

The document says which scopes and which role an operation needs; here it is held to that.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from tests.conftest import TestDatabase
from tests.factories.conformance import Conformance, watching
from tests.factories.error_scenarios import create, execute
from tests.factories.executions import Service, running_service
from tests.factories.tenancy import client_of, make_caller, make_organization

from chargehand.kernel.database import Database
from chargehand.tenancy.caller import Role, Scope

NOBODY = "01890000-0000-7000-8000-000000000000"
PUBLIC = {"healthz", "readyz"}
ANY_KEY = {"get_me", "list_keys", "get_openapi"}
"""What needs a key, and no scope of it."""

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Operation:
    """One row of the matrix; ``role`` is None where no key is needed."""

    id: str
    method: str
    path: str
    scopes: frozenset[str]
    role: Role | None
    media_types: tuple[str, ...]

    def at(self, **ids: str) -> str:
        """The path with these ids, and with nobody's where none is given."""
        path = self.path
        for name in self.parameters():
            path = path.replace(f"{{{name}}}", ids.get(name, NOBODY))
        return path

    def parameters(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def operations(service: Service) -> Iterator[Operation]:
    for path, methods in service.app.openapi()["paths"].items():
        for method, described in methods.items():
            needs = described.get("security", [])
            yield Operation(
                described["operationId"],
                method,
                path,
                frozenset(scope for need in needs for scopes in need.values() for scope in scopes),
                described.get("x-required-role"),
                tuple(described.get("requestBody", {}).get("content", {})),
            )


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path, work=False) as running:
        yield running


async def key_of(service: Service, role: Role, *scopes: str) -> str:
    _, key = await make_caller(service.database, role, scopes)
    return key


def client(service: Service, key: str | None = None) -> httpx2.AsyncClient:
    """Its answers are held against the document."""
    made = client_of(service.app, key)
    made.event_hooks["response"].append(watching(Conformance(service.app.openapi())))
    return made


def code_of(answer: httpx2.Response) -> str:
    return answer.json()["error"]["code"] if answer.status_code >= 400 else ""


async def test_the_document_says_what_each_operation_needs(service: Service) -> None:
    found = list(operations(service))
    assert {one.id for one in found if one.role is None} == PUBLIC
    assert {one.id for one in found if one.role and not one.scopes} == ANY_KEY


@pytest.mark.parametrize("key", [None, "chk_nonsense"])
async def test_without_a_key_each_is_401(service: Service, key: str | None) -> None:
    async with client(service, key) as stranger:
        for one in operations(service):
            answer = await stranger.request(one.method, one.at())
            expected = 200 if one.id in PUBLIC else 401
            assert answer.status_code == expected, (one, answer.text)


async def test_without_a_key_nothing_that_is_sent_is_looked_at(service: Service) -> None:
    async with client(service) as stranger:
        for one in operations(service):
            for body in (b"{bad", b'{"input": "x"}', b"x" * 2_100_000):
                for media_type in one.media_types:
                    headers = {"Content-Type": media_type}
                    path = f"{one.at()}?zz=1"
                    answer = await stranger.request(one.method, path, content=body, headers=headers)
                    assert answer.status_code == 401, (one, body[:20], answer.text)


async def test_a_key_of_one_scope_opens_what_needs_that_scope(service: Service) -> None:
    for scope in get_args(Scope):
        async with client(service, await key_of(service, "owner", scope)) as caller:
            for one in operations(service):
                answer = await caller.request(one.method, one.at())
                opens = scope == "admin" or one.scopes <= {scope}
                refused = code_of(answer) == "AgentAccessDenied"
                assert refused is not opens, (scope, one, answer.text)
                assert answer.status_code not in ((401, 403) if opens else ()), (scope, one)


async def test_a_key_of_all_scopes_but_one_does_not_open_what_needs_that(
    service: Service,
) -> None:
    for missing in sorted({scope for one in operations(service) for scope in one.scopes}):
        others = [scope for scope in get_args(Scope) if scope not in (missing, "admin")]
        async with client(service, await key_of(service, "owner", *others)) as caller:
            for one in operations(service):
                if missing in one.scopes:
                    answer = await caller.request(one.method, one.at())
                    assert code_of(answer) == "AgentAccessDenied", (missing, one, answer.text)


async def test_a_role_too_low_is_refused_whatever_the_key_holds(service: Service) -> None:
    for role in ROLES:
        async with client(service, await key_of(service, role, "admin")) as caller:
            for one in operations(service):
                answer = await caller.request(one.method, one.at())
                allowed = one.role is None or ROLES.index(role) >= ROLES.index(one.role)
                refused = code_of(answer) == "InsufficientPermissions"
                assert refused is not allowed, (role, one, answer.text)


async def test_what_belongs_to_another_organization_is_not_there(service: Service) -> None:
    ours = await things(service.client)
    organization = await make_organization(service.database)
    _, key = await make_caller(service.database, organization=organization)
    async with client(service, key) as other:
        for one in operations(service):
            if one.parameters():
                body = BODIES.get(one.id)
                answer = await other.request(one.method, one.at(**ours), json=body)
                assert answer.status_code == 404, (one, answer.text)
                nobody = await other.request(one.method, one.at(number="1.0.0"), json=body)
                assert alike(answer, ours) == alike(nobody, ours), one


BODIES: dict[str, Any] = {
    "execute_agent": {"input": "x"},
    "test_agent": {"input": "x"},
    "update_agent": {"name": "Mine now"},
    "pause_execution": {},
    "send_input": {"input": "x"},
    "approve_call": {"wait": 1},
    "deny_call": {"wait": 1},
    "fork_execution": {},
}
"""What an operation needs to be looked at at all."""


async def things(owner: httpx2.AsyncClient) -> dict[str, str]:
    """One of each kind of thing that a path can name; by the parameter's name."""
    agent = await create(owner, "Ours")
    run = await execute(owner, agent, mode="async")
    upload = await owner.post("/api/v1/uploads?kind=file&name=ours.txt", content=b"ours")
    key = await owner.post("/api/v1/keys", json={"name": "ours", "scopes": ["agents:read"]})
    found = (await owner.get(f"/api/v1/agents/{agent}")).json()
    return {
        "agent": found["id"],
        "number": found["version"],
        "execution_id": run.json()["id"],
        "upload_id": upload.json()["id"],
        "key_id": key.json()["id"],
    }


def alike(answer: httpx2.Response, ids: dict[str, str]) -> tuple[str, str]:
    """Code and message, without the id that was asked for."""
    error = answer.json()["error"]
    message = error["message"]
    for known in (*ids.values(), NOBODY):
        message = message.replace(known, "…")
    return error["code"], message
