"""Keys, members and the caller over HTTP (SPEC TEN-0 to TEN-3)."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import httpx2
import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import text
from tests.conftest import TestDatabase
from tests.factories.tenancy import client_of, make_app, make_caller, make_organization

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import KeyId, new_id
from chargehand.tenancy import operations
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.dependencies import DatabaseDep, SessionDep, require
from chargehand.tenancy.permissions import ROLES, check_role
from chargehand.tenancy.routes import router

KEY = {"name": "ci", "scopes": ["agents:read"]}


def error_of(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    return response.json()["error"]


async def test_me_tells_who_the_key_is(database: Database) -> None:
    organization = await make_organization(database, "acme", "pro")
    caller, key = await make_caller(database, "member", ("agents:read",), organization)
    async with client_of(make_app(database, router), key) as client:
        me = (await client.get("/api/v1/me")).json()
    assert me["organization"] == {"id": str(organization.id), "slug": "acme", "name": "acme"}
    assert me["user"]["id"] == str(caller.user_id)
    assert (me["role"], me["scopes"]) == ("member", ["agents:read"])
    assert me["tier"] == {
        "name": "pro",
        "active_runs": 5,
        "agents": 100,
        "workspace_bytes": 1_000_000_000,
    }
    assert me["key"]["id"] == str(caller.key_id)
    assert now() < datetime.fromisoformat(me["key"]["expires_at"]) < now() + timedelta(days=2)


def routes_of(database: Database) -> list[tuple[str, str, dict[str, Any]]]:
    paths = make_app(database, router).openapi()["paths"]
    return [
        (method.upper(), path.replace("{key_id}", str(new_id())), operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


@pytest.mark.parametrize(
    ("authorization", "reason", "says"),
    [
        (None, "missing", "Authorization: Bearer chk_"),
        ("Basic YTpi", "missing", "Authorization: Bearer chk_"),
        ("Bearer", "missing", "Authorization: Bearer chk_"),
        ("Bearer chk_a_b_c", "malformed", "not a Chargehand key"),
    ],
)
async def test_no_route_answers_without_a_key(
    database: Database, authorization: str | None, reason: str, says: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    routes = routes_of(database)
    assert len(routes) == 5
    async with client_of(make_app(database, router)) as client:
        for method, path, _ in routes:
            response = await client.request(method, path, headers=headers, json=KEY)
            error = error_of(response, 401, "Unauthenticated")
            assert error["details"] == {"reason": reason}
            assert says in error["message"]
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_tampered_checksum_is_refused(database: Database) -> None:
    _, key = await make_caller(database)
    last = "0" if key[-1] != "0" else "1"
    async with client_of(make_app(database, router), key[:-1] + last) as client:
        error = error_of(await client.get("/api/v1/me"), 401, "Unauthenticated")
    assert error["details"] == {"reason": "malformed"}


async def test_openapi_shows_how_to_authenticate(database: Database) -> None:
    document = make_app(database, router).openapi()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    operations = {op["operationId"]: op["security"] for _, _, op in routes_of(database)}
    assert operations["get_me"] == [{"ApiKey": []}]
    assert operations["list_members"] == [{"ApiKey": ["admin"]}]


ALLOWED: dict[tuple[str, str], tuple[Role, int]] = {
    ("GET", "/api/v1/me"): ("viewer", 200),
    ("GET", "/api/v1/keys"): ("viewer", 200),
    ("POST", "/api/v1/keys"): ("member", 201),
    ("GET", "/api/v1/members"): ("admin", 200),
    ("DELETE", "/api/v1/keys/{own}"): ("member", 200),
}


@pytest.mark.parametrize("role", ROLES)
async def test_each_route_asks_for_its_role(database: Database, role: Role) -> None:
    caller, key = await make_caller(database, role)
    async with client_of(make_app(database, router), key) as client:
        for (method, path), (needed, status) in ALLOWED.items():
            response = await client.request(
                method,
                path.replace("{own}", str(caller.key_id)),
                **({"json": KEY} if method == "POST" else {}),
            )
            if ROLES.index(role) >= ROLES.index(needed):
                assert response.status_code == status, (method, path)
                continue
            error = error_of(response, 403, "InsufficientPermissions")
            assert error["details"] == {"needed_role": needed, "held_role": role}


async def test_a_missing_scope_is_named_with_those_held(database: Database) -> None:
    _, key = await make_caller(database, "owner", ("agents:read", "usage:read"))
    async with client_of(make_app(database, router), key) as client:
        error = error_of(await client.get("/api/v1/members"), 403, "AgentAccessDenied")
    assert error["details"]["missing_scopes"] == ["admin"]
    assert error["details"]["held_scopes"] == ["agents:read", "usage:read"]
    assert "lacks the scope admin" in error["message"]


async def test_a_key_is_made_used_and_revoked(database: Database) -> None:
    caller, key = await make_caller(database, "member")
    app = make_app(database, router)
    async with client_of(app, key) as client:
        response = await client.post("/api/v1/keys", json=KEY)
        assert response.status_code == 201
        assert response.headers["Cache-Control"] == "no-store"
        made = response.json()
        assert made["user_id"] == made["created_by"] == str(caller.user_id)
        days = (datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)).total_seconds()
        assert days / 86_400 == pytest.approx(90, abs=0.1)
        async with client_of(app, made["key"]) as other:
            assert (await other.get("/api/v1/me")).json()["scopes"] == ["agents:read"]
        revoked = (await client.delete(f"/api/v1/keys/{made['id']}")).json()
        again = await client.delete(f"/api/v1/keys/{made['id']}")
    assert revoked["revoked_at"] is not None
    assert (again.status_code, again.json()["revoked_at"]) == (200, revoked["revoked_at"])
    assert "key" not in revoked
    async with client_of(app, made["key"]) as other:
        error = error_of(await other.get("/api/v1/me"), 401, "Unauthenticated")
    assert error["details"] == {"reason": "revoked"}


async def test_only_the_hash_of_a_secret_is_stored(database: Database, clone: TestDatabase) -> None:
    _, key = await make_caller(database)
    async with client_of(make_app(database, router), key) as client:
        made = (await client.post("/api/v1/keys", json=KEY)).json()["key"]
    connection = await asyncpg.connect(clone.owner_url)
    try:
        for token in (key, made):
            _, public_id, secret, checksum = token.split("_")
            assert await _tables_with(connection, public_id) == ["api_keys"]
            for secret_part in (secret, secret.encode().hex(), f"_{checksum}"):
                assert await _tables_with(connection, secret_part) == []
    finally:
        await connection.close()


async def _tables_with(connection: asyncpg.Connection, needle: str) -> list[str]:
    """Every table of the database with a row whose text (bytes in hex) holds this."""
    tables = await connection.fetch(
        "select oid::regclass::text as name from pg_class where relkind in ('r', 'p') "
        "and relnamespace in ('public'::regnamespace, 'queue'::regnamespace)"
    )
    query = "select exists (select from {} as row where strpos(row::text, $1) > 0)"
    return [
        table["name"]
        for table in tables
        if await connection.fetchval(query.format(table["name"]), needle)
    ]


async def test_keys_of_another_organization_are_not_there(database: Database) -> None:
    theirs, their_key = await make_caller(database)
    _, key = await make_caller(database)
    async with client_of(make_app(database, router), key) as client:
        foreign = await client.delete(f"/api/v1/keys/{theirs.key_id}")
        unknown = await client.delete(f"/api/v1/keys/{new_id()}")
        listed = (await client.get("/api/v1/keys")).json()["items"]
        body = {**KEY, "user_id": str(theirs.user_id)}
        error_of(await client.post("/api/v1/keys", json=body), 404, "MemberNotFound")
    error_of(foreign, 404, "KeyNotFound")
    error_of(unknown, 404, "KeyNotFound")
    assert str(theirs.key_id) not in [item["id"] for item in listed]
    async with client_of(make_app(database, router), their_key) as client:
        assert (await client.get("/api/v1/me")).status_code == 200


@pytest.mark.parametrize("role", ["member", "admin", "owner"])
async def test_a_key_without_the_admin_scope_manages_no_keys_not_even_itself(
    database: Database, role: Role
) -> None:
    organization = await make_organization(database)
    caller, key = await make_caller(database, role, ("agents:read", "usage:read"), organization)
    stronger = await second_key(database, caller)
    async with client_of(make_app(database, router), key) as client:
        for answer in (
            await client.post("/api/v1/keys", json={**KEY, "expires_in_days": 3650}),
            await client.delete(f"/api/v1/keys/{stronger}"),
            await client.delete(f"/api/v1/keys/{caller.key_id}"),
        ):
            error = error_of(answer, 403, "AgentAccessDenied")
            assert error["details"]["missing_scopes"] == ["admin"]
        listed = (await client.get("/api/v1/keys")).json()["items"]
    assert [item["revoked_at"] for item in listed] == [None, None]


async def second_key(database: Database, caller: Caller) -> KeyId:
    """Another key of the same user, with the admin scope."""
    async with database.transaction(caller.organization_id) as session:
        made = await operations.issue_key(
            session,
            caller.organization_id,
            caller.user_id,
            name="stronger",
            scopes=("admin",),
            expires_at=now() + timedelta(days=1),
            created_by=caller.user_id,
        )
    return made.row.id


@pytest.mark.parametrize(
    ("revoker", "holder", "status"),
    [("admin", "member", 200), ("admin", "admin", 200), ("admin", "owner", 403)],
)
async def test_no_one_revokes_a_key_of_a_role_above(
    database: Database, revoker: Role, holder: Role, status: int
) -> None:
    organization = await make_organization(database)
    other, other_key = await make_caller(database, holder, organization=organization)
    _, key = await make_caller(database, revoker, organization=organization)
    app = make_app(database, router)
    async with client_of(app, key) as client, client_of(app, other_key) as others:
        answer = await client.delete(f"/api/v1/keys/{other.key_id}")
        assert answer.status_code == status
        if status == 403:
            error_of(answer, 403, "InsufficientPermissions")
        assert (await others.get("/api/v1/me")).status_code == (401 if status == 200 else 200)


async def test_a_key_of_a_former_member_is_revoked_too(database: Database) -> None:
    organization = await make_organization(database)
    other, _ = await make_caller(database, "owner", organization=organization)
    _, key = await make_caller(database, "admin", organization=organization)
    async with database.hot(organization.id) as connection:
        await connection.execute("delete from memberships where user_id = $1", other.user_id)
    async with client_of(make_app(database, router), key) as client:
        answer = await client.delete(f"/api/v1/keys/{other.key_id}")
    assert answer.json()["revoked_at"] is not None


async def test_a_cursor_of_another_list_is_refused(database: Database) -> None:
    caller, key = await make_caller(database)
    await second_key(database, caller)
    async with client_of(make_app(database, router), key) as client:
        cursor = (await client.get("/api/v1/keys?limit=1")).json()["next_cursor"]
        assert (await client.get("/api/v1/keys", params={"cursor": cursor})).status_code == 200
        answer = await client.get("/api/v1/members", params={"cursor": cursor})
    (violation,) = error_of(answer, 400, "InvalidInput")["details"]["violations"]
    assert violation["pointer"] == "/query/cursor"


async def test_a_strangers_request_is_not_looked_at(database: Database) -> None:
    _, key = await make_caller(database, "viewer", ("agents:read",))
    app = make_app(database, router)
    async with client_of(app) as stranger, client_of(app, key) as viewer:
        error_of(await stranger.get("/api/v1/keys?limits=1"), 401, "Unauthenticated")
        error_of(await viewer.get("/api/v1/members?limits=1"), 403, "AgentAccessDenied")
        error_of(await viewer.get("/api/v1/keys?limits=1"), 400, "InvalidInput")


@pytest.mark.parametrize(
    ("maker", "scopes", "holder", "status", "code"),
    [
        ("admin", ["admin"], "member", 201, None),
        ("admin", ["admin"], "admin", 201, None),
        ("owner", ["admin"], "owner", 201, None),
        ("admin", ["admin"], "owner", 403, "InsufficientPermissions"),
        ("member", ["admin"], "viewer", 403, "InsufficientPermissions"),
        ("admin", ["agents:read"], "member", 403, "AgentAccessDenied"),
    ],
)
async def test_who_may_make_keys_for_others(
    database: Database, maker: Role, scopes: list[str], holder: Role, status: int, code: str | None
) -> None:
    organization = await make_organization(database)
    other, _ = await make_caller(database, holder, organization=organization)
    caller, key = await make_caller(database, maker, scopes, organization)
    async with client_of(make_app(database, router), key) as client:
        response = await client.post("/api/v1/keys", json={**KEY, "user_id": str(other.user_id)})
    assert response.status_code == status
    if code:
        error_of(response, status, code)
    else:
        assert response.json()["user_id"] == str(other.user_id)
        assert response.json()["created_by"] == str(caller.user_id)


async def test_a_member_sees_and_revokes_only_the_own_keys(database: Database) -> None:
    organization = await make_organization(database)
    other, _ = await make_caller(database, "member", organization=organization)
    caller, key = await make_caller(database, "member", organization=organization)
    _, admin_key = await make_caller(database, "admin", organization=organization)
    app = make_app(database, router)
    async with client_of(app, key) as client:
        items = (await client.get("/api/v1/keys")).json()["items"]
        assert [item["id"] for item in items] == [str(caller.key_id)]
        error_of(await client.delete(f"/api/v1/keys/{other.key_id}"), 404, "KeyNotFound")
    async with client_of(app, admin_key) as client:
        assert len((await client.get("/api/v1/keys")).json()["items"]) == 3
        assert (await client.delete(f"/api/v1/keys/{other.key_id}")).status_code == 200


@pytest.mark.parametrize(("path", "name"), [("/api/v1/keys", "id"), ("/api/v1/members", "user_id")])
async def test_lists_come_in_pages_without_gaps(database: Database, path: str, name: str) -> None:
    organization = await make_organization(database)
    made = [(await make_caller(database, organization=organization)) for _ in range(4)]
    async with client_of(make_app(database, router), made[0][1]) as client:
        whole = (await client.get(path)).json()
        assert whole["next_cursor"] is None
        found, cursor = list[str](), None
        while True:
            params = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
            page = (await client.get(path, params=params)).json()
            found += [item[name] for item in page["items"]]
            if (cursor := page["next_cursor"]) is None:
                break
        error_of(await client.get(path, params={"cursor": "?"}), 400, "InvalidInput")
    assert found == [item[name] for item in whole["items"]]
    assert len(found) == len(set(found)) >= 4


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"scopes": ["agents:reed"]}, "/scopes/0", "(did you mean agents:read?)"),
        ({"scopes": []}, "/scopes", "at least 1"),
        ({"name": ""}, "/name", "at least 1"),
        ({"name": "a\x00b"}, "/name", "must be one line"),
        ({"name": "a\u202eb"}, "/name", "without control or format characters"),
        ({"expires_in_days": 0}, "/expires_in_days", "greater than or equal to 1"),
        ({"expires_in_days": 4000}, "/expires_in_days", "less than or equal to 3650"),
        ({"color": "red"}, "/color", "unknown field"),
    ],
)
async def test_a_wrong_request_for_a_key_is_refused_by_place(
    database: Database, change: dict[str, Any], pointer: str, says: str
) -> None:
    _, key = await make_caller(database)
    async with client_of(make_app(database, router), key) as client:
        response = await client.post("/api/v1/keys", json={**KEY, **change})
    (violation,) = error_of(response, 400, "InvalidInput")["details"]["violations"]
    assert violation["pointer"] == pointer
    assert says in violation["message"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"name": "\\ud800", "scopes": ["admin"]}', "/name"),
        (b'{"name": "a", "scopes": ["\\ud800"]}', "/scopes/0"),
        (b'{"name": "a", "scopes": ["x\\u0000"]}', "/scopes/0"),
    ],
)
async def test_text_that_cannot_be_stored_is_refused(
    database: Database, body: bytes, pointer: str
) -> None:
    _, key = await make_caller(database)
    async with client_of(make_app(database, router), key) as client:
        response = await client.post(
            "/api/v1/keys", content=body, headers={"Content-Type": "application/json"}
        )
    (violation,) = error_of(response, 400, "InvalidInput")["details"]["violations"]
    assert violation["pointer"] == pointer


probe = APIRouter()


@probe.post("/committed-late")
async def committed_late(
    caller: Annotated[Caller, Depends(require("agents:write", role="member"))],
    session: SessionDep,
    database: DatabaseDep,
    agent: str,
) -> dict[str, bool]:
    """Insert a version of an agent that may not exist: a constraint that is checked at commit."""
    await session.execute(
        text(
            "insert into agent_versions (id, organization_id, agent_id, major, minor, patch, "
            "status, config, config_schema, changelog, created_by) values "
            "(:id, :organization, :agent, 1, 0, 0, 'draft', '{}', 1, '', :user)"
        ),
        {
            "id": new_id(),
            "organization": caller.organization_id,
            "agent": agent,
            "user": caller.user_id,
        },
    )
    return {"done": True}


@probe.post("/rolled-back")
async def rolled_back(
    caller: Annotated[Caller, Depends(require())], session: SessionDep
) -> dict[str, bool]:
    await session.execute(text("update organizations set name = 'changed'"))
    check_role(caller, "owner")
    return {"done": True}


async def test_a_commit_that_fails_is_an_error_and_not_an_answer(database: Database) -> None:
    _, key = await make_caller(database)
    async with client_of(make_app(database, probe), key) as client:
        response = await client.post("/committed-late", params={"agent": str(new_id())})
    error_of(response, 500, "InternalError")


@pytest.mark.parametrize(
    ("role", "status", "name"), [("viewer", 403, "acme"), ("owner", 200, "changed")]
)
async def test_a_request_is_one_transaction(
    database: Database, role: Role, status: int, name: str
) -> None:
    organization = await make_organization(database, "acme")
    _, key = await make_caller(database, role, organization=organization)
    async with client_of(make_app(database, probe), key) as client:
        assert (await client.post("/rolled-back")).status_code == status
    async with database.across() as connection:
        assert await connection.fetchval("select name from organizations") == name
