"""Archives, uploads and workspaces to test with."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from chargehand.kernel.database import Database
from chargehand.runtime.workspaces import Workspace
from chargehand.storage.archives import Limits
from chargehand.storage.contents import unpack
from chargehand.storage.operations import store
from chargehand.storage.tables import Upload
from chargehand.tenancy.caller import Caller


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A tar member; ``fields`` overwrite those of its header (``type``, ``linkname``, …)."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def make_tar(
    *members: tuple[tarfile.TarInfo, bytes],
    format: int = tarfile.PAX_FORMAT,
    pax_headers: Mapping[str, str] | None = None,
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format, pax_headers=pax_headers) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def make_archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of regular files."""
    return gzip.compress(make_tar(*(member(name, content) for name, content in files.items())))


async def make_upload(
    database: Database, caller: Caller, files: Mapping[str, bytes], name: str = "folder"
) -> Upload:
    with closing(unpack(io.BytesIO(make_archive(files)), Limits())) as contents:
        async with database.transaction(caller.organization_id) as session:
            return await store(
                session,
                caller,
                kind="folder",
                name=name,
                media_type="application/x-tar",
                contents=contents,
            )


def make_workspace(root: Path, files: Mapping[str, bytes]) -> Workspace:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Workspace(root)
