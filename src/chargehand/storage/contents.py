"""What an upload holds, on its way into the database: a manifest and a spool of its contents."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

from chargehand.storage.archives import Limits, entries

SPOOL_MEMORY_BYTES = 1_000_000
"""A larger spool goes to the disk."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One line of a manifest: a relative path, and the blob that it stands for."""

    path: str
    size: int
    sha256: bytes
    mode: Literal["file", "executable"]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256.hex(),
            "mode": self.mode,
        }

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> "StoredFile":
        return cls(line["path"], line["size"], bytes.fromhex(line["sha256"]), line["mode"])


@dataclass(frozen=True, slots=True)
class Contents:
    """A manifest, and where in ``spool`` the bytes of each digest lie (offset, size).

    Whoever holds it closes it.
    """

    files: tuple[StoredFile, ...]
    spool: BinaryIO
    places: Mapping[bytes, tuple[int, int]]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def read(self, sha256: bytes) -> bytes:
        offset, size = self.places[sha256]
        self.spool.seek(offset)
        return self.spool.read(size)

    def close(self) -> None:
        self.spool.close()


def new_spool() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES))


def unpack(archive: BinaryIO, limits: Limits) -> Contents:
    """The files of a whole archive, by path. Raises BadArchive. Blocks: run it in a thread."""
    spool = new_spool()
    try:
        return _unpack_into(spool, archive, limits)
    except BaseException:
        spool.close()
        raise


def _unpack_into(spool: BinaryIO, archive: BinaryIO, limits: Limits) -> Contents:
    files, places = list[StoredFile](), dict[bytes, tuple[int, int]]()
    for entry in entries(archive, limits):
        sha256, size = hashlib.sha256(entry.content).digest(), len(entry.content)
        if sha256 not in places:
            places[sha256] = (spool.tell(), size)
            spool.write(entry.content)
        files.append(
            StoredFile(entry.path, size, sha256, "executable" if entry.executable else "file")
        )
    return Contents(tuple(sorted(files, key=lambda file: file.path)), spool, places)


def single_file(name: str, body: BinaryIO) -> Contents:
    """One file called ``name`` whose bytes are the spool ``body``. Blocks: run it in a thread."""
    body.seek(0)
    content = body.read()
    sha256, size = hashlib.sha256(content).digest(), len(content)
    return Contents((StoredFile(name, size, sha256, "file"),), body, {sha256: (0, size)})
