"""Uploads and the blobs under them; nothing here commits."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, any_, delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import LimitReached, NotFound
from chargehand.kernel.identifiers import OrganizationId, UploadId, UserId, new_id
from chargehand.storage.contents import Contents
from chargehand.storage.tables import Blob, Upload
from chargehand.tenancy.caller import Caller

BATCH_BYTES = 4_000_000
BATCH_FILES = 500


class UploadNotFound(NotFound):
    """There is no such upload, or it is not the caller's to see."""

    code = "UploadNotFound"

    def __init__(self, upload: UUID) -> None:
        super().__init__(
            f"There is no upload {upload} that you may use. Upload the file or folder again with "
            "POST /api/v1/uploads and use the id in its answer.",
            upload_id=str(upload),
        )


class StorageLimitExceeded(LimitReached):
    """The organization's uploads would outgrow its tier (SPEC TEN-6)."""

    code = "OrganizationLimitExceeded"


async def store(
    session: AsyncSession,
    caller: Caller,
    *,
    kind: Literal["folder", "file"],
    name: str,
    media_type: str,
    contents: Contents,
) -> Upload:
    """Store an upload and those of its blobs that the organization has not yet.

    Raises StorageLimitExceeded. The limit is looked at twice: before anything is written, and
    again at the end under a lock, which is thus held shortly and still makes the sum exact.
    """
    await _require_room(session, caller, contents.size)
    await _store_blobs(session, caller.organization_id, contents)
    await _lock_quota(session, caller.organization_id)
    await _require_room(session, caller, contents.size)
    upload = Upload(
        id=UploadId(new_id()),
        organization_id=caller.organization_id,
        created_by=caller.user_id,
        kind=kind,
        name=name,
        media_type=media_type,
        size=contents.size,
        files=[file.as_json() for file in contents.files],
        created_at=now(),
    )
    session.add(upload)
    await session.flush()
    return upload


async def get_upload(session: AsyncSession, caller: Caller, upload_id: UploadId) -> Upload:
    """The caller's own upload, or any of the organization's for an admin (SPEC TEN-5: what goes
    into a run is for its starter). Raises UploadNotFound."""
    found = await session.scalar(select(Upload).where(*_visible_to(caller), Upload.id == upload_id))
    if found is None:
        raise UploadNotFound(upload_id)
    return found


def _visible_to(caller: Caller) -> list[ColumnElement[bool]]:
    own = [] if caller.is_admin else [Upload.created_by == caller.user_id]
    return [Upload.organization_id == caller.organization_id, *own]


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """An upload without its files, which may be thousands."""

    id: UploadId
    kind: str
    name: str
    media_type: str
    size: int
    file_count: int
    created_by: UserId
    created_at: datetime


async def list_uploads(
    session: AsyncSession, caller: Caller, *, limit: int, after: UUID | None
) -> list[ListedUpload]:
    """Up to ``limit`` uploads, newest first, behind the upload ``after``; whose, see get_upload."""
    query = (
        select(
            Upload.id,
            Upload.kind,
            Upload.name,
            Upload.media_type,
            Upload.size,
            func.jsonb_array_length(Upload.files),
            Upload.created_by,
            Upload.created_at,
        )
        .where(*_visible_to(caller))
        .order_by(Upload.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(Upload.id < after)
    return [ListedUpload(*row) for row in await session.execute(query)]


async def delete_upload(session: AsyncSession, caller: Caller, upload_id: UploadId) -> None:
    """Forget an upload; blobs stay, for other uploads and runs may use them.

    Raises UploadNotFound.
    """
    upload = await get_upload(session, caller, upload_id)
    await session.execute(
        delete(Upload).where(
            Upload.organization_id == caller.organization_id, Upload.id == upload.id
        )
    )


@dataclass(frozen=True, slots=True)
class UploadForRun:
    """What a run takes over from an upload; ``files`` are ``StoredFile.as_json`` of each."""

    media_type: str
    files: list[dict[str, Any]]


async def find_for_run(
    connection: Connection, caller: Caller, upload_id: UploadId, *, kind: Literal["folder", "file"]
) -> UploadForRun | None:
    """An upload that the caller may begin a run with, under the rule of ``get_upload``."""
    row = await connection.fetchrow(
        "select media_type, files from uploads where organization_id = $1 and id = $2 "
        "and kind = $3 and (created_by = $4 or $5)",
        caller.organization_id,
        upload_id,
        kind,
        caller.user_id,
        caller.is_admin,
    )
    return None if row is None else UploadForRun(row["media_type"], row["files"])


async def fetch_blobs(
    connection: Connection, organization: OrganizationId, digests: Iterable[bytes]
) -> dict[bytes, bytes]:
    """Contents by SHA-256; a digest that is not stored is left out."""
    rows = await connection.fetch(
        "select sha256, content from blobs where organization_id = $1 and sha256 = any($2)",
        organization,
        list(digests),
    )
    return {row["sha256"]: row["content"] for row in rows}


def batches(sizes: Iterable[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Group digests so that a batch is at most 4 MB (or one blob) and 500 blobs."""
    batch, total = list[bytes](), 0
    for digest, size in sizes:
        if batch and (total + size > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, total = [], 0
        batch.append(digest)
        total += size
    if batch:
        yield batch


async def _require_room(session: AsyncSession, caller: Caller, size: int) -> None:
    used = await session.scalar(
        select(func.coalesce(func.sum(Upload.size), 0)).where(
            Upload.organization_id == caller.organization_id
        )
    )
    used, limit = int(used or 0), caller.tier.workspace_bytes
    if used + size > limit:
        raise StorageLimitExceeded(
            f"The organization's uploads hold {used:,} of {limit:,} bytes (tier "
            f"{caller.tier.name}), and this one needs {size:,} more. Delete uploads that are no "
            "longer needed, or ask an owner for a larger tier.",
            limit_name="workspace_bytes",
            used=used,
            limit=limit,
            needed=size,
        )


async def _lock_quota(session: AsyncSession, organization: OrganizationId) -> None:
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"chargehand.uploads.{organization}"},
    )


async def _store_blobs(
    session: AsyncSession, organization: OrganizationId, contents: Contents
) -> None:
    """In the order of their digests, so that two uploads that share blobs cannot deadlock."""
    digests = sorted(contents.places)
    stored = await session.scalars(
        select(Blob.sha256).where(
            Blob.organization_id == organization,
            Blob.sha256 == any_(literal(digests, ARRAY(BYTEA))),
        )
    )
    missing = sorted(set(digests) - set(stored))
    for batch in batches((digest, contents.places[digest][1]) for digest in missing):
        rows = await asyncio.to_thread(_rows, organization, contents, batch)
        await session.execute(insert(Blob).on_conflict_do_nothing(), rows)


def _rows(
    organization: OrganizationId, contents: Contents, digests: list[bytes]
) -> list[dict[str, object]]:
    return [
        {
            "organization_id": organization,
            "sha256": digest,
            "size": contents.places[digest][1],
            "content": contents.read(digest),
        }
        for digest in digests
    ]
