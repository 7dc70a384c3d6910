"""An upload on its way out: read batch by batch, so that memory holds 4 MB or one file of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId
from chargehand.storage.contents import StoredFile
from chargehand.storage.operations import batches, fetch_blobs
from chargehand.storage.packing import Packer
from chargehand.storage.tables import Upload

PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Download:
    """What an upload is sent as; ``size`` is None where only the end tells it."""

    name: str
    media_type: str
    size: int | None
    body: AsyncIterator[bytes]

    @property
    def headers(self) -> dict[str, str]:
        """A browser saves it, and never shows or runs what somebody uploaded (RFC 6266)."""
        length = {} if self.size is None else {"Content-Length": str(self.size)}
        return {
            # As it is: nobody knows in which characters a text was written.
            "Content-Type": self.media_type,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(self.name, safe='')}",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            **length,
        }


def download_of(database: Database, upload: Upload) -> Download:
    """A file as it came, with its media type; a folder as tar.gz of its manifest."""
    files = [StoredFile.of_json(line) for line in upload.files]
    found = _contents(database, upload.organization_id, files)
    if upload.kind == "file":
        return Download(upload.name, upload.media_type, upload.size, _pieces(found))
    return Download(f"{upload.name}.tar.gz", "application/gzip", None, _archive(found))


async def _contents(
    database: Database, organization: OrganizationId, files: Sequence[StoredFile]
) -> AsyncIterator[tuple[StoredFile, bytes]]:
    """Each file with its bytes. No transaction is open while the caller waits for the reader."""
    left = iter(files)
    for batch in batches((file.sha256, file.size) for file in files):
        async with database.hot(organization) as connection:
            blobs = await fetch_blobs(connection, organization, batch)
        for sha256 in batch:
            # One that is gone ends the answer before its time, which the reader sees.
            yield next(left), blobs[sha256]


async def _pieces(contents: AsyncIterator[tuple[StoredFile, bytes]]) -> AsyncIterator[bytes]:
    async for _, content in contents:
        for begin in range(0, len(content), PIECE_BYTES):
            yield content[begin : begin + PIECE_BYTES]


async def _archive(contents: AsyncIterator[tuple[StoredFile, bytes]]) -> AsyncIterator[bytes]:
    packer = Packer()
    async for file, content in contents:
        pieces = packer.file(file.path, executable=file.mode == "executable", content=content)
        while (piece := await asyncio.to_thread(_next, pieces)) is not None:
            if piece:
                yield piece
    yield packer.end()


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
