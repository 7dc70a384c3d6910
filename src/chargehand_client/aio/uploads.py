"""Uploads: folders to begin runs with, and files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from chargehand_client.aio.connection import AsyncConnection
from chargehand_client.calls import uploads as calls
from chargehand_client.documents import Upload, UploadSummary
from chargehand_client.folders import packed, read_file


class AsyncUploads(AsyncConnection):
    async def upload_folder(self, folder: Path | str) -> Upload:
        """Upload a folder as a workspace to begin runs with.

        Raises FolderRefused where it holds nothing, too much, or what cannot be read;
        PayloadTooLarge, OrganizationLimitExceeded.
        """
        return await self._call(calls.folder(*await asyncio.to_thread(packed, folder)))

    async def upload_file(self, file: Path | str, *, media_type: str | None = None) -> Upload:
        """Upload a file, for example as a block of a run's input.

        Its media type is guessed from its name unless given. Raises FileRefused where it cannot
        be read or is too large; PayloadTooLarge, OrganizationLimitExceeded.
        """
        return await self._call(calls.file(*await asyncio.to_thread(read_file, file, media_type)))

    def uploads(self) -> AsyncIterator[UploadSummary]:
        """One's uploads, newest first; an admin's are the organization's."""
        return self._list(calls.listed())

    async def upload(self, upload_id: str) -> Upload:
        """One upload, with its first hundred files. Raises UploadNotFound."""
        return await self._call(calls.one(upload_id))

    async def delete_upload(self, upload_id: str) -> None:
        """Delete an upload; runs that began with it keep their copy. Raises UploadNotFound."""
        await self._call(calls.remove(upload_id))

    async def download(self, upload_id: str, to: Path | str) -> Path:
        """Write what an upload holds to the file ``to``: a file as it is, a folder as tar.gz.

        The file is there only once it is whole. Raises UploadNotFound, and OSError where it
        cannot be written.
        """
        await self._save(calls.content(upload_id), Path(to))
        return Path(to)
