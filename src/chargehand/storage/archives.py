"""Reads tar archives, plain or gzipped, that a stranger made; pure but for the file it is given.

Why not ``tarfile``: in Pythons that we support, its parser takes quadratic time on some extended
headers (CVE-2024-6232) and allocates what a header claims, and it understands links, devices and
sparse files, none of which may ever appear here. This reader goes forward only, in linear time,
and knows two things: regular files and folders. Formats: POSIX.1-2017 pax and ustar, GNU tar's
long names.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from chargehand.kernel.errors import Invalid
from chargehand.storage.paths import problem_of

BLOCK = 512
EXTENSION_BYTES = 65_536
"""The most that one extended header may hold."""

FILE, FOLDER, PAX, PAX_GLOBAL, GNU_NAME = b"0", b"5", b"x", b"g", b"L"
REFUSED = {
    b"1": "it is a hard link",
    b"2": "it is a symbolic link",
    b"3": "it is a character device",
    b"4": "it is a block device",
    b"6": "it is a FIFO",
    b"K": "it is a link with a long target",
    b"S": "it is a sparse file",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to; ``entries`` bounds the files, and the folders apart."""

    total_bytes: int = 256_000_000
    file_bytes: int = 16_000_000
    entries: int = 10_000

    @property
    def stream_bytes(self) -> int:
        """The most bytes of tar itself: contents, and a few blocks of headers per entry."""
        return self.total_bytes + (2 * self.entries + 100) * 8 * BLOCK


@dataclass(frozen=True, slots=True)
class Entry:
    """One regular file of an archive."""

    path: str
    executable: bool
    content: bytes


class BadArchive(Invalid):
    """The archive is damaged, too large, or holds what no workspace takes."""

    code = "BadArchive"

    def __init__(self, reason: str, entry: str | None = None) -> None:
        where = f" at {entry!r}" if entry else ""
        super().__init__(
            f"The archive was refused{where}: {reason}. Nothing was stored. "
            "Pack regular files and folders only, with relative names, as tar or tar.gz.",
            entry=entry,
            reason=reason,
        )


def entries(archive: BinaryIO, limits: Limits) -> Iterator[Entry]:
    """Yield the regular files of ``archive`` (buffered, seekable, at its start), in its order.

    Raises BadArchive, naming the entry and the reason, at the first thing that is wrong; a caller
    must not keep anything before the iteration has ended.
    """
    source = _Source(_decompressed(archive), limits.stream_bytes)
    tree = _Tree(limits)
    try:
        for member in _members(source):
            if member.kind == FOLDER:
                tree.add_folder(member.path)
            else:
                tree.add_file(member.path, member.size)
                yield Entry(member.path, member.executable, source.padded(member.size))
        source.end()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadArchive(f"its compressed data is damaged or cut off ({error})") from error


def _decompressed(archive: BinaryIO) -> BinaryIO:
    magic = archive.read(2)
    archive.seek(0)
    if magic != b"\x1f\x8b":
        return archive
    return gzip.GzipFile(fileobj=archive, mode="rb")  # pyright: ignore[reportReturnType]


class _Source:
    """The tar stream: exact reads, and never more of it than ``max_bytes``."""

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    def exactly(self, size: int) -> bytes:
        if size > self._left:
            raise BadArchive("it unpacks to more than is allowed")
        self._left -= size
        data = self._stream.read(size)
        if len(data) < size:
            raise BadArchive("it is cut off, or not a tar archive")
        return data

    def padded(self, size: int) -> bytes:
        """``size`` bytes, and past the padding that fills their last block."""
        return self.exactly(size + -size % BLOCK)[:size]

    def end(self) -> None:
        """Read on to the end, which also checks gzip's checksum."""
        while chunk := self._stream.read(BLOCK * 128):
            self._left -= len(chunk)
            if self._left < 0 or chunk.strip(b"\0"):
                raise BadArchive("there is data after its end")


@dataclass(frozen=True, slots=True)
class _Member:
    path: str
    kind: bytes
    size: int
    executable: bool


def _members(source: _Source) -> Iterator[_Member]:
    """Yield headers with their extensions applied; the caller reads a file's content in between."""
    defaults, extended = dict[bytes, bytes](), dict[bytes, bytes]()
    while (block := source.exactly(BLOCK)).strip(b"\0"):
        kind, size = _kind_of(block), _number(block[124:136])
        if kind == PAX_GLOBAL:
            defaults |= _records(_extension(source, size))
        elif kind == PAX:
            extended |= _records(_extension(source, size))
        elif kind == GNU_NAME:
            extended[b"path"] = _extension(source, size).rstrip(b"\0")
        else:
            yield _member(block, kind, defaults | extended)
            extended = {}


def _extension(source: _Source, size: int) -> bytes:
    if size > EXTENSION_BYTES:
        raise BadArchive(f"an extended header is larger than {EXTENSION_BYTES:,} bytes")
    return source.padded(size)


def _kind_of(block: bytes) -> bytes:
    """The entry's type; a header that is not one raises BadArchive."""
    blank = block[:148] + b" " * 8 + block[156:]
    if _number(block[148:156]) != sum(blank):
        raise BadArchive("it is damaged, or not a tar archive")
    kind = block[156:157]
    if kind in (b"\0", b"7", FILE):
        is_folder = kind == b"\0" and _short_name(block).endswith(b"/")
        return FOLDER if is_folder else FILE
    return kind


def _member(block: bytes, kind: bytes, extended: dict[bytes, bytes]) -> _Member:
    raw = extended.get(b"path", _short_name(block))
    shown = raw.decode("utf-8", "backslashreplace")[:200]
    if kind not in (FILE, FOLDER):
        raise BadArchive(REFUSED.get(kind, f"it is of an unknown type {kind!r}"), shown)
    if any(key.startswith(b"GNU.sparse") for key in extended):
        raise BadArchive(REFUSED[b"S"], shown)
    size = _decimal(extended[b"size"]) if b"size" in extended else _number(block[124:136])
    if kind == FOLDER and size:
        raise BadArchive("it is a folder with content", shown)
    path = _checked(raw, shown, kind)
    return _Member(path, kind, size, bool(_number(block[100:108]) & 0o100))


def _short_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _checked(raw: bytes, shown: str, kind: bytes) -> str:
    """The path in the one form that the service keeps; ``""`` is the archive's root."""
    try:
        path = raw.decode()
    except UnicodeDecodeError as error:
        raise BadArchive("the name is not UTF-8", shown) from error
    if kind == FOLDER:
        path = path.removesuffix("/")
        if path in (".", ""):
            return ""
    path = path.removeprefix("./")
    if problem := problem_of(path):
        raise BadArchive(problem, shown)
    return path


def _number(field: bytes) -> int:
    """A numeric field: octal text, or GNU tar's base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip(b" ") or b"0"
    if not text.isdigit() or text.strip(b"01234567"):
        raise BadArchive("it is damaged, or not a tar archive")
    return int(text, 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise BadArchive("an extended header is damaged")
    return int(text)


def _records(body: bytes) -> dict[bytes, bytes]:
    """The records of a pax extended header: ``"%d %s=%s\\n"``, the length counting itself."""
    found, at = dict[bytes, bytes](), 0
    while at < len(body):
        space = body.find(b" ", at, at + 20)
        end = at + _decimal(body[at:space]) if space > at else at
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space or body[end - 1 : end] != b"\n" or not equals:
            raise BadArchive("an extended header is damaged")
        found[key] = value
        at = end
    return found


@dataclass(slots=True)
class _Tree:
    """The names so far, and the limits that they count against."""

    limits: Limits
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=lambda: {""})
    size: int = 0

    def add_file(self, path: str, size: int) -> None:
        if path in self.files:
            raise BadArchive("the name stands in it twice", path)
        self.add_folder(path.rpartition("/")[0])
        if path in self.folders:
            raise BadArchive("the name is a file and a folder", path)
        self.files.add(path)
        self.size += size
        self._within_limits(path, size)

    def add_folder(self, path: str) -> None:
        while path not in self.folders:
            if path in self.files:
                raise BadArchive("the name is a file and a folder", path)
            self.folders.add(path)
            path = path.rpartition("/")[0]
        self._within_limits(path, 0)

    def _within_limits(self, path: str, size: int) -> None:
        limits = self.limits
        if len(self.files) > limits.entries or len(self.folders) > limits.entries + 1:
            raise BadArchive(f"it has more than {limits.entries:,} files or folders", path)
        if size > limits.file_bytes:
            raise BadArchive(f"the file is larger than {limits.file_bytes:,} bytes", path)
        if self.size > limits.total_bytes:
            raise BadArchive(f"it unpacks to more than {limits.total_bytes:,} bytes", path)
