"""Makes a tar.gz piece by piece: the same bytes for the same files, and little of it in memory."""

import tarfile
import zlib
from collections.abc import Iterator

CHUNK_BYTES = 1_000_000
"""The most that is compressed at a time, so that nobody waits long for it."""

_RECORD_BYTES = tarfile.RECORDSIZE


class Packer:
    """One archive: give it each file once, then the end; what it yields, joined, is the archive."""

    def __init__(self) -> None:
        # 31: gzip's envelope, with no time and no name in it.
        self._gzip = zlib.compressobj(6, zlib.DEFLATED, 31)
        self._size = 0

    def file(self, path: str, *, executable: bool, content: bytes) -> Iterator[bytes]:
        member = tarfile.TarInfo(path)
        member.size = len(content)
        member.mode = 0o755 if executable else 0o644
        yield self._packed(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        view = memoryview(content)
        for begin in range(0, len(content), CHUNK_BYTES):
            yield self._packed(view[begin : begin + CHUNK_BYTES])
        yield self._packed(bytes(-len(content) % tarfile.BLOCKSIZE))

    def end(self) -> bytes:
        """Two empty blocks, and as much more as fills the last record; then gzip's checksum."""
        unfilled = -(self._size + 2 * tarfile.BLOCKSIZE) % _RECORD_BYTES
        return self._packed(bytes(2 * tarfile.BLOCKSIZE + unfilled)) + self._gzip.flush()

    def _packed(self, data: bytes | memoryview) -> bytes:
        self._size += len(data)
        return self._gzip.compress(data)
