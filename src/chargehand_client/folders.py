"""What goes up from this machine's disk, and what comes down to it."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from chargehand_client.errors import FileRefused, FolderRefused


def packed(folder: Path | str) -> tuple[str, bytes]:
    """The folder's name, or one that a server takes, and what is in it. Raises FolderRefused."""
    # Here, because nothing else needs tarfile and gzip.
    from chargehand_client.packing import PackingFailed, pack_folder

    if not str(folder):
        raise FolderRefused("The name of the folder is empty. Give the one to begin with, or None.")
    folder = Path(folder)
    try:
        archive = pack_folder(folder).archive
    except PackingFailed as error:
        raise FolderRefused(str(error)) from error
    return _sendable(folder.resolve().name, "folder"), archive


def read_file(file: Path | str, media_type: str | None) -> tuple[str, bytes, str]:
    """The file's name, or one that a server takes, what is in it, and its media type.

    Raises FileRefused.
    """
    import mimetypes

    from chargehand_client.packing import MAX_FILE_BYTES

    if not str(file):
        raise FileRefused("The name of the file is empty. Give the file to upload.")
    path = Path(file)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileRefused(f"{str(path)!r} cannot be read: {error}. Give another file.") from error
    if len(content) > MAX_FILE_BYTES:
        raise FileRefused(
            f"{str(path)!r} is larger than {MAX_FILE_BYTES:,} bytes, the most that a file may "
            "have. Upload it in parts."
        )
    guessed = media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _sendable(path.name, "file"), content, guessed


@contextmanager
def receiving(to: Path) -> Generator[BinaryIO]:
    """A file beside ``to`` that takes its name once it is whole, and else is removed."""
    part = to.with_name(f".{to.name[:100]}.{uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, to)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _sendable(name: str, other: str) -> str:
    from chargehand_client.packing import problem_of

    # An upload's name, unlike a file's in it, may hold no format character either.
    return name if name and name.isprintable() and not problem_of(name) else other
