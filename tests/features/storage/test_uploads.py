"""Uploads over HTTP."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from tests.factories.storage import make_archive, make_tar, member
from tests.factories.tenancy import client_of, make_app, make_caller, make_organization

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId, new_id
from chargehand.storage import routes
from chargehand.tenancy.caller import Role
from chargehand.tenancy.tiers import Tier, Tiers

MAX_BYTES = 50_000


@pytest.fixture
def app(database: Database) -> FastAPI:
    app = make_app(database, routes.router)
    app.state.max_upload_bytes = MAX_BYTES
    return app


async def upload(
    client: httpx2.AsyncClient, body: bytes, kind: str = "folder", name: str = "project"
) -> httpx2.Response:
    return await client.post("/api/v1/uploads", params={"kind": kind, "name": name}, content=body)


async def count(database: Database, organization: OrganizationId, table: str) -> int:
    async with database.hot(organization) as connection:
        return await connection.fetchval(f"select count(*) from {table}")


async def test_a_folder_is_stored_with_its_manifest(app: FastAPI, database: Database) -> None:
    caller, key = await make_caller(database, "member", ["agents:execute", "executions:read"])
    files = {"src/a.py": b"print()", "src/b.py": b"print()", "README": b"hello"}
    async with client_of(app, key) as client:
        answer = await upload(client, make_archive(files))
        again = await client.get(f"/api/v1/uploads/{answer.json()['id']}")
    assert answer.status_code == 201
    found = answer.json()
    assert again.json() == found
    assert (found["kind"], found["name"], found["file_count"]) == ("folder", "project", 3)
    assert (found["media_type"], found["size"]) == ("application/x-tar", 19)
    assert found["files"][0] == {
        "path": "README",
        "size": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
        "mode": "file",
    }
    assert await count(database, caller.organization_id, "blobs") == 2


async def test_only_the_first_hundred_files_are_shown(app: FastAPI, database: Database) -> None:
    _, key = await make_caller(database)
    async with client_of(app, key) as client:
        answer = await upload(client, make_archive({f"{i:03}": b"" for i in range(120)}))
    assert answer.json()["file_count"] == 120
    assert [file["path"] for file in answer.json()["files"]] == [f"{i:03}" for i in range(100)]


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("<script>", "application/octet-stream"),
    ],
)
async def test_a_file_keeps_its_media_type(
    app: FastAPI, database: Database, declared: str, stored: str
) -> None:
    _, key = await make_caller(database)
    async with client_of(app, key) as client:
        client.headers["content-type"] = declared
        answer = await upload(client, b"\x89PNG", "file", "logo.png")
    found = answer.json()
    assert (found["media_type"], found["size"], found["file_count"]) == (stored, 4, 1)
    assert found["files"][0]["path"] == "logo.png"


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "a\\b", "a\nb", "a\0b", "a\u202eb", "", "n" * 256]
)
async def test_names_that_are_paths_are_refused(
    app: FastAPI, database: Database, name: str
) -> None:
    _, key = await make_caller(database)
    async with client_of(app, key) as client:
        answer = await upload(client, b"x", "file", name)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "InvalidInput"


async def test_a_bad_archive_stores_nothing(app: FastAPI, database: Database) -> None:
    caller, key = await make_caller(database)
    bad = make_tar(member("good", b"x"), member("bad", type=b"2", linkname="/etc/passwd"))
    async with client_of(app, key) as client:
        answer = await upload(client, bad)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"]["entry"]) == ("BadArchive", "bad")
    assert await count(database, caller.organization_id, "blobs") == 0
    assert await count(database, caller.organization_id, "uploads") == 0


async def test_a_body_that_is_too_large_is_refused_declared_or_not(
    app: FastAPI, database: Database
) -> None:
    _, key = await make_caller(database)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * 10_000

    async with client_of(app, key) as client:
        declared = await upload(client, b"x" * (MAX_BYTES + 1), "file")
        streamed = await client.post(
            "/api/v1/uploads", params={"kind": "file", "name": "x"}, content=chunks()
        )
        fits = await upload(client, b"x" * MAX_BYTES, "file")
    assert (declared.status_code, streamed.status_code, fits.status_code) == (413, 413, 201)
    assert streamed.json()["error"]["details"]["limit"] == MAX_BYTES


async def test_the_tiers_space_is_shared_by_the_organization(
    app: FastAPI, database: Database
) -> None:
    tiers = Tiers({"tiny": Tier("tiny", active_runs=1, agents=1, workspace_bytes=100)})
    app = make_app(database, routes.router)
    app.state.max_upload_bytes = MAX_BYTES
    app.state.key_cache = type(app.state.key_cache)(database, tiers)
    organization = await make_organization(database, tier="tiny")
    _, first = await make_caller(database, organization=organization)
    _, second = await make_caller(database, organization=organization)
    async with client_of(app, first) as client:
        stored = await upload(client, b"x" * 60, "file")
        async with client_of(app, second) as other:
            full = await upload(other, b"y" * 41, "file")
            fits = await upload(other, b"y" * 40, "file")
        await client.delete(f"/api/v1/uploads/{stored.json()['id']}")
        room = await upload(client, b"z" * 60, "file")
    assert full.status_code == 403
    error = full.json()["error"]
    assert error["code"] == "OrganizationLimitExceeded"
    assert (error["details"]["used"], error["details"]["limit"]) == (60, 100)
    assert (fits.status_code, room.status_code) == (201, 201)


async def test_who_may_see_and_delete_an_upload(app: FastAPI, database: Database) -> None:
    organization = await make_organization(database)
    scopes = ["agents:execute", "executions:read"]
    keys = {
        who: (await make_caller(database, role, scopes, organization))[1]
        for who, role in {"own": "member", "other": "member", "admin": "admin"}.items()
    }
    keys["stranger"] = (await make_caller(database))[1]
    seen = dict[str, int]()
    async with client_of(app, keys["own"]) as client:
        path = f"/api/v1/uploads/{(await upload(client, b'x', 'file')).json()['id']}"
    for who in ("stranger", "other", "admin", "own"):
        async with client_of(app, keys[who]) as client:
            seen[who] = (await client.get(path)).status_code
    assert seen == {"stranger": 404, "other": 404, "admin": 200, "own": 200}
    for who, expected in {"stranger": 404, "other": 404, "own": 204, "admin": 404}.items():
        async with client_of(app, keys[who]) as client:
            assert (await client.delete(path)).status_code == expected


async def test_a_forgotten_upload_is_found_in_the_list(app: FastAPI, database: Database) -> None:
    organization = await make_organization(database)
    scopes = ["agents:execute", "executions:read"]
    own, own_key = await make_caller(database, "member", scopes, organization)
    _, admin_key = await make_caller(database, "admin", scopes, organization)
    _, stranger_key = await make_caller(database)
    async with (
        client_of(app, own_key) as client,
        client_of(app, admin_key) as admin,
        client_of(app, stranger_key) as stranger,
    ):
        folder = (await upload(client, make_archive({"a": b"12", "b": b"3"}))).json()
        for name in ("one", "two"):
            await upload(client, b"x", "file", name)
        await upload(admin, b"y", "file", "admin's")

        async def names(who: httpx2.AsyncClient, **params: Any) -> list[str]:
            answer = await who.get("/api/v1/uploads", params=params)
            assert answer.status_code == 200, answer.text
            return [item["name"] for item in answer.json()["items"]]

        assert await names(client) == ["two", "one", "project"]
        assert await names(admin) == ["admin's", "two", "one", "project"]
        assert await names(stranger) == []
        page = (await client.get("/api/v1/uploads", params={"limit": 2})).json()
        assert [item["name"] for item in page["items"]] == ["two", "one"]
        rest = await client.get("/api/v1/uploads", params={"cursor": page["next_cursor"]})
        [found] = rest.json()["items"]
        del folder["files"]
        assert found == folder
        assert (found["file_count"], found["created_by"]) == (2, str(own.user_id))
        assert rest.json()["next_cursor"] is None
        await client.delete(f"/api/v1/uploads/{found['id']}")
        assert await names(client) == ["two", "one"]


@pytest.mark.parametrize(
    ("role", "scopes", "status"),
    [
        ("viewer", ["agents:execute"], 403),
        ("member", ["executions:read"], 403),
        ("member", ["agents:execute"], 201),
    ],
)
async def test_rights_that_an_upload_needs(
    app: FastAPI, database: Database, role: Role, scopes: list[str], status: int
) -> None:
    _, key = await make_caller(database, role, scopes)
    async with client_of(app, key) as client:
        assert (await upload(client, b"x", "file")).status_code == status


async def test_nothing_answers_without_a_key(app: FastAPI) -> None:
    async with client_of(app) as client:
        assert (await upload(client, b"x")).status_code == 401
        assert (await client.get("/api/v1/uploads")).status_code == 401
        assert (await client.get(f"/api/v1/uploads/{new_id()}")).status_code == 401
        assert (await client.delete(f"/api/v1/uploads/{new_id()}")).status_code == 401
