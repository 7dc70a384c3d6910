"""Uploads over HTTP: the raw body is a file, or a folder packed as tar or tar.gz."""

import asyncio
import re
from contextlib import closing
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from chargehand.kernel.errors import Invalid, Violation
from chargehand.kernel.identifiers import UploadId
from chargehand.storage import operations
from chargehand.storage.archives import Limits
from chargehand.storage.contents import Contents, new_spool, single_file, unpack
from chargehand.storage.downloads import download_of
from chargehand.storage.paths import problem_of
from chargehand.storage.schemas import UploadOut, UploadSummary, upload_out, upload_summary
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import DatabaseDep, GuardedRoute, SessionDep, require
from chargehand.web.descriptions import errors, headers
from chargehand.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from chargehand.web.texts import is_plain

router = APIRouter(prefix="/api/v1", tags=["uploads"], route_class=GuardedRoute)

LIMITS = Limits()
MEDIA_TYPE = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}", re.ASCII)
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file, or the folder as tar or tar.gz.",
        "content": {"application/octet-stream": BINARY},
    }
}

Kind = Annotated[
    Literal["folder", "file"], Query(description="What the body is: a packed folder, or a file.")
]
UploadPath = Annotated[UploadId, Path(description="The upload's id.")]
Reader = Annotated[Caller, Depends(require("executions:read"))]
Uploader = Annotated[Caller, Depends(require("agents:execute", role="member"))]


class PayloadTooLarge(Invalid):
    """The body is larger than this installation takes."""

    code = "PayloadTooLarge"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body is larger than {limit:,} bytes, the most that is taken here. Leave out "
            "what the run does not need, or upload it in parts.",
            limit=limit,
        )


@router.post(
    "/uploads",
    operation_id="create_upload",
    summary="Upload a file or a packed folder",
    status_code=201,
    response_model=UploadOut,
    openapi_extra=BODY,
    responses=errors("BadArchive", "PayloadTooLarge", "OrganizationLimitExceeded"),
)
async def create_upload(
    request: Request,
    caller: Uploader,
    database: DatabaseDep,
    kind: Kind,
    name: Annotated[
        str, Query(min_length=1, max_length=255, description="A plain file name for it.")
    ],
) -> UploadOut:
    """A folder's archive may hold regular files and folders only; otherwise nothing is stored."""
    _require_good_name(name)
    limit = request.app.state.max_upload_bytes
    body = await _receive(request, limit if kind == "folder" else min(limit, LIMITS.file_bytes))
    with closing(body), closing(await asyncio.to_thread(_contents, kind, name, body)) as contents:
        # Opened only now: no transaction waits for a slow client.
        async with database.transaction(caller.organization_id) as session:
            upload = await operations.store(
                session,
                caller,
                kind=kind,
                name=name,
                media_type=_media_type(request, kind),
                contents=contents,
            )
    return upload_out(upload)


@router.get(
    "/uploads",
    operation_id="list_uploads",
    summary="Your uploads, newest first; an admin sees the organization's",
    response_model=Page[UploadSummary],
)
async def list_uploads(
    caller: Reader, session: SessionDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[UploadSummary]:
    rows = await operations.list_uploads(
        session, caller, limit=limit + 1, after=decode_cursor("uploads", cursor)
    )
    more = encode_cursor("uploads", rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[upload_summary(row) for row in rows[:limit]], next_cursor=more)


@router.get(
    "/uploads/{upload_id}",
    operation_id="get_upload",
    summary="Get an upload",
    response_model=UploadOut,
    responses=errors("UploadNotFound"),
)
async def get_upload(
    upload_id: UploadPath,
    caller: Reader,
    session: SessionDep,
) -> UploadOut:
    """One's own; an organization's admins see all of it."""
    return upload_out(await operations.get_upload(session, caller, upload_id))


@router.get(
    "/uploads/{upload_id}/content",
    operation_id="download_upload",
    summary="Download an upload: a file as it came, a folder as tar.gz",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file with its media type, or the archive.",
            "content": {"*/*": BINARY, "application/gzip": BINARY},
            **headers("Content-Disposition", "X-Content-Type-Options", "Cache-Control"),
        },
        **errors("UploadNotFound"),
    },
)
async def download_upload(
    upload_id: UploadPath, caller: Reader, database: DatabaseDep
) -> StreamingResponse:
    """One's own; an organization's admins may download any of it. It is sent as an attachment."""
    async with database.transaction(caller.organization_id) as session:
        upload = await operations.get_upload(session, caller, upload_id)
    download = download_of(database, upload)
    return StreamingResponse(download.body, headers=download.headers)


@router.delete(
    "/uploads/{upload_id}",
    operation_id="delete_upload",
    summary="Delete an upload",
    status_code=204,
    response_model=None,
    responses=errors("UploadNotFound"),
)
async def delete_upload(upload_id: UploadPath, caller: Uploader, session: SessionDep) -> None:
    """One's own; an organization's admins may delete any of it."""
    await operations.delete_upload(session, caller, upload_id)


def _require_good_name(name: str) -> None:
    if problem := _problem_of_name(name):
        raise Invalid(
            f"The upload cannot be called {name!r}: {problem}. Give a plain file name.",
            violations=[Violation("/query/name", problem).as_json()],
        )


def _problem_of_name(name: str) -> str | None:
    if "/" in name:
        return "the name has a slash"
    return problem_of(name) or (None if is_plain(name) else "the name has a format character")


async def _receive(request: Request, limit: int) -> BinaryIO:
    """The body in a spool. Raises PayloadTooLarge as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise PayloadTooLarge(limit)
    spool = new_spool()
    try:
        async for chunk in request.stream():
            if spool.tell() + len(chunk) > limit:
                raise PayloadTooLarge(limit)
            await asyncio.to_thread(spool.write, chunk)
    except BaseException:
        spool.close()
        raise
    return spool


def _contents(kind: Kind, name: str, body: BinaryIO) -> Contents:
    body.seek(0)
    return unpack(body, LIMITS) if kind == "folder" else single_file(name, body)


def _media_type(request: Request, kind: Kind) -> str:
    if kind == "folder":
        return "application/x-tar"
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return declared if MEDIA_TYPE.fullmatch(declared) else "application/octet-stream"
