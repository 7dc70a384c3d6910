"""Uploads on their way back: the same bytes, streamed, for those who may see them."""

import io
import random
import tarfile
import tracemalloc

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import TestDatabase
from tests.factories.storage import make_archive, make_tar, make_upload, member
from tests.factories.tenancy import client_of, make_app, make_caller, make_organization

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import new_id
from chargehand.storage import routes
from chargehand.storage.archives import Limits
from chargehand.storage.contents import unpack
from chargehand.storage.downloads import download_of
from chargehand.storage.packing import CHUNK_BYTES, Packer

SCOPES = ["agents:execute", "executions:read"]


@pytest.fixture
def app(database: Database) -> FastAPI:
    app = make_app(database, routes.router)
    app.state.max_upload_bytes = 100_000_000
    return app


async def uploaded(
    client: httpx2.AsyncClient, body: bytes, kind: str, name: str, media_type: str = ""
) -> str:
    """The path of its content."""
    answer = await client.post(
        "/api/v1/uploads",
        params={"kind": kind, "name": name},
        content=body,
        headers={"Content-Type": media_type},
    )
    assert answer.status_code == 201, answer.text
    return f"/api/v1/uploads/{answer.json()['id']}/content"


def unpacked(archive: bytes) -> dict[str, tuple[bytes, int]]:
    """By path: the bytes and the mode, as Python's own reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = [(each, tar.extractfile(each)) for each in tar]
        assert all(each.mtime == each.uid == each.gid == 0 for each, _ in members)
        return {each.name: (file.read(), each.mode) for each, file in members if file}


async def test_a_file_comes_back_as_it_was_and_is_never_shown(
    app: FastAPI, database: Database
) -> None:
    _, key = await make_caller(database, "member", SCOPES)
    page = "<script>alert('grün')</script>".encode("latin-1")
    async with client_of(app, key) as client:
        answer = await client.get(
            await uploaded(client, page, "file", 'grün "x".html', "text/html")
        )
    assert (answer.status_code, answer.content) == (200, page)
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-length"] == str(len(page))
    expected = "attachment; filename*=UTF-8''gr%C3%BCn%20%22x%22.html"
    assert answer.headers["content-disposition"] == expected
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
async def test_a_file_of_any_size_comes_back(app: FastAPI, database: Database, size: int) -> None:
    _, key = await make_caller(database)
    content = random.Random(size).randbytes(size)
    async with client_of(app, key) as client:
        answer = await client.get(await uploaded(client, content, "file", "data"))
    assert answer.content == content


async def test_a_folder_comes_back_as_an_archive_of_its_manifest(
    app: FastAPI, database: Database
) -> None:
    _, key = await make_caller(database, "member", SCOPES)
    long = "/".join(["deep" * 20] * 5) + "/grün"
    packed = make_tar(
        member("b.sh", b"#!/bin/sh\n", mode=0o755),
        member("a.txt", b"same", mode=0o600, mtime=1),
        member(long, b"same"),
        member("empty", b""),
    )
    async with client_of(app, key) as client:
        path = await uploaded(client, packed, "folder", "project")
        answer, again = [await client.get(path) for _ in range(2)]
    assert unpacked(answer.content) == {
        "a.txt": (b"same", 0o644),
        "b.sh": (b"#!/bin/sh\n", 0o755),
        "empty": (b"", 0o644),
        long: (b"same", 0o644),
    }
    assert answer.content == again.content
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"].endswith("''project.tar.gz")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_was_downloaded_can_be_uploaded_again(app: FastAPI, database: Database) -> None:
    _, key = await make_caller(database)
    files = {f"{n:03}/{'x' * n}": random.Random(n).randbytes(n * 3_000) for n in range(1, 61)}
    async with client_of(app, key) as client:
        first = await client.get(await uploaded(client, make_archive(files), "folder", "a"))
        second = await client.get(await uploaded(client, first.content, "folder", "b"))
    assert second.content == first.content
    assert {path: content for path, (content, _) in unpacked(first.content).items()} == files


async def test_who_may_download_an_upload(app: FastAPI, database: Database) -> None:
    organization = await make_organization(database)
    keys = {
        who: (await make_caller(database, role, scopes, organization))[1]
        for who, role, scopes in (
            ("own", "member", SCOPES),
            ("other", "member", SCOPES),
            ("admin", "admin", SCOPES),
            ("narrow", "admin", ["agents:execute"]),
        )
    }
    keys["stranger"] = (await make_caller(database))[1]
    async with client_of(app, keys["own"]) as client:
        path = await uploaded(client, b"x", "file", "mine")
        missing = await client.get(f"/api/v1/uploads/{new_id()}/content")
    seen = dict[str, int]()
    for who, key in keys.items():
        async with client_of(app, key) as client:
            seen[who] = (await client.get(path)).status_code
    assert seen == {"own": 200, "other": 404, "admin": 200, "narrow": 403, "stranger": 404}
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "UploadNotFound")


async def test_memory_holds_a_part_of_it_and_no_connection_waits(database: Database) -> None:
    caller, _ = await make_caller(database)
    size, count = 1_000_000, 24
    files = {f"{n:02}": random.Random(n).randbytes(size) for n in range(count)}
    upload = await make_upload(database, caller, files)
    del files
    tracemalloc.start()
    try:
        received = 0
        async for piece in download_of(database, upload).body:
            received += len(piece)
            # Between two pieces the reader may take its time: all connections are free.
            assert database.app.get_idle_size() == database.app.get_size()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received > size * count
    assert peak < 16_000_000


async def test_an_answer_that_cannot_be_finished_breaks_off(
    app: FastAPI, database: Database, clone: TestDatabase
) -> None:
    _, key = await make_caller(database)
    async with client_of(app, key) as client:
        path = await uploaded(client, b"gone", "file", "x")
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute("truncate blobs")
    await owner.close()
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://chargehand.test") as client:
        with pytest.raises(KeyError):
            await client.get(path, headers={"Authorization": f"Bearer {key}"})


@given(
    st.dictionaries(
        st.from_regex(r"[a-zäß]{1,60}(/[a-z]{1,60}){0,4}", fullmatch=True),
        st.tuples(st.binary(max_size=3000), st.booleans()),
        max_size=8,
    )
)
def test_an_archive_is_read_back_by_our_own_reader(files: dict[str, tuple[bytes, bool]]) -> None:
    # One name is not the folder of another.
    files = {f"{n}/{path}": given for n, (path, given) in enumerate(files.items())}
    packer = Packer()
    pieces = [
        piece
        for path, (content, executable) in files.items()
        for piece in packer.file(path, executable=executable, content=content)
    ]
    archive = b"".join([*pieces, packer.end()])
    found = unpack(io.BytesIO(archive), Limits())
    try:
        assert {
            f.path: (found.read(f.sha256), f.mode == "executable") for f in found.files
        } == files
    finally:
        found.close()
    assert len(archive) < CHUNK_BYTES
