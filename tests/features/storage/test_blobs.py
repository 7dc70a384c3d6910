"""Blobs: shared within an organization, never between two; the quota is exact."""

import asyncio
import hashlib
from dataclasses import replace

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories.storage import make_upload
from tests.factories.tenancy import make_caller, make_organization

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import UploadId, new_id
from chargehand.storage.operations import (
    BATCH_BYTES,
    StorageLimitExceeded,
    UploadNotFound,
    batches,
    delete_upload,
    fetch_blobs,
    find_for_run,
    get_upload,
)


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


async def test_the_same_content_is_kept_once_per_organization(database: Database) -> None:
    caller, _ = await make_caller(database)
    other, _ = await make_caller(database)
    for who in (caller, caller, other):
        await make_upload(database, who, {"a": b"same", "b": b"same", "c": b"more"})
    for who in (caller, other):
        async with database.hot(who.organization_id) as connection:
            assert await connection.fetchval("select count(*) from blobs") == 2


async def test_an_organization_cannot_read_anothers_blobs(database: Database) -> None:
    caller, _ = await make_caller(database)
    other, _ = await make_caller(database)
    secret = digest(b"secret")
    await make_upload(database, caller, {"a": b"secret"})
    async with database.hot(caller.organization_id) as connection:
        own = await fetch_blobs(connection, caller.organization_id, [secret])
        assert own == {secret: b"secret"}
    async with database.hot(other.organization_id) as connection:
        assert await fetch_blobs(connection, other.organization_id, [secret]) == {}
        # Even where the code names the wrong organization, row-level security holds.
        assert await fetch_blobs(connection, caller.organization_id, [secret]) == {}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "insert into blobs (organization_id, sha256, size, content) values ($1, $2, 1, $3)",
                caller.organization_id,
                digest(b"x"),
                b"x",
            )


async def test_an_upload_of_another_organization_is_not_found(database: Database) -> None:
    caller, _ = await make_caller(database)
    other, _ = await make_caller(database)
    upload = await make_upload(database, caller, {"a": b"x"})
    async with database.transaction(other.organization_id) as session:
        for operation in (get_upload, delete_upload):
            with pytest.raises(UploadNotFound):
                await operation(session, other, upload.id)
    async with database.hot(other.organization_id) as connection:
        assert await find_for_run(connection, other, upload.id, kind="folder") is None


async def test_a_run_takes_over_what_its_starter_may_use(database: Database) -> None:
    organization = await make_organization(database)
    owner, _ = await make_caller(database, "member", organization=organization)
    other, _ = await make_caller(database, "member", organization=organization)
    upload = await make_upload(database, owner, {"a": b"x"})
    async with database.hot(organization.id) as connection:
        found = await find_for_run(connection, owner, upload.id, kind="folder")
        assert found is not None
        assert found.files == [
            {"path": "a", "size": 1, "sha256": digest(b"x").hex(), "mode": "file"}
        ]
        assert await find_for_run(connection, owner, upload.id, kind="file") is None
        assert await find_for_run(connection, other, upload.id, kind="folder") is None
        missing = UploadId(new_id())
        assert await find_for_run(connection, owner, missing, kind="folder") is None


async def test_blobs_outlive_an_upload_that_a_run_may_have_copied(database: Database) -> None:
    caller, _ = await make_caller(database)
    upload = await make_upload(database, caller, {"a": b"kept"})
    async with database.transaction(caller.organization_id) as session:
        await delete_upload(session, caller, upload.id)
    async with database.hot(caller.organization_id) as connection:
        found = await fetch_blobs(connection, caller.organization_id, [digest(b"kept")])
    assert found == {digest(b"kept"): b"kept"}


async def test_uploads_at_once_do_not_pass_the_limit_together(database: Database) -> None:
    caller, _ = await make_caller(database)
    caller = replace(caller, tier=replace(caller.tier, workspace_bytes=100))
    done = await asyncio.gather(
        *(make_upload(database, caller, {"a": bytes([n]) * 40}) for n in range(6)),
        return_exceptions=True,
    )
    refused = [result for result in done if isinstance(result, StorageLimitExceeded)]
    assert len(refused) == 4
    async with database.hot(caller.organization_id) as connection:
        assert await connection.fetchval("select sum(size) from uploads") == 80
        assert await connection.fetchval("select count(*) from blobs") == 2


async def test_uploads_that_share_blobs_do_not_deadlock(database: Database) -> None:
    caller, _ = await make_caller(database)
    # One blob a statement, so that two that write in opposite order would meet in the middle.
    files = {str(n): bytes([n]) * BATCH_BYTES for n in range(8)}
    backwards = dict(reversed([(f"x{name}", content) for name, content in files.items()]))
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(make_upload(database, caller, f) for f in (files, backwards, files, backwards))
        )
    async with database.hot(caller.organization_id) as connection:
        assert await connection.fetchval("select count(*) from blobs") == 8


@given(st.lists(st.integers(0, 5_000_000), max_size=40))
def test_batches_keep_all_and_stay_bounded(sizes: list[int]) -> None:
    named = [(bytes([n]), size) for n, size in enumerate(sizes)]
    grouped = list(batches(named))
    assert [one for batch in grouped for one in batch] == [name for name, _ in named]
    for batch in grouped:
        assert len(batch) == 1 or sum(dict(named)[name] for name in batch) <= BATCH_BYTES
