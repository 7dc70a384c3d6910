"""Packs a folder for an upload: regular files only, the same bytes for the same files."""

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

IGNORED = frozenset({".git", ".venv", "node_modules", "__pycache__"})
"""Folders and files that are left out where git does not say what belongs to the project."""

MAX_TOTAL_BYTES = 256_000_000
MAX_FILE_BYTES = 16_000_000
MAX_FILES = 10_000


class PackingFailed(Exception):
    """The folder cannot be packed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the folder that was not packed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Packed:
    """``archive`` is a tar.gz; ``files`` are the paths in it; ``size`` counts them unpacked."""

    archive: bytes
    files: tuple[str, ...]
    size: int
    skipped: tuple[Skipped, ...]


def pack_folder(
    folder: Path,
    *,
    ignore: Collection[str] = IGNORED,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_files: int = MAX_FILES,
) -> Packed:
    """Pack the regular files of ``folder``.

    In a git checkout these are the files that git tracks or would add; elsewhere all files but
    those with a name in ``ignore``. Links, and names that a server would refuse, are skipped and
    listed. Raises PackingFailed when there is nothing to pack, too much, or a folder in it that
    cannot be read.
    """
    try:
        return _packed(folder, ignore, max_total_bytes, max_files)
    except OSError as error:
        raise PackingFailed(
            f"{_printable(str(error.filename or folder))} cannot be read: "
            f"{error.strerror or error}. Give a folder that this user can read whole, with what "
            "the run needs and no more."
        ) from error


def _packed(folder: Path, ignore: Collection[str], max_total_bytes: int, max_files: int) -> Packed:
    if not folder.is_dir():
        raise PackingFailed(f"{folder} is not a folder. Give the folder that the run works on.")
    files, skipped, size = list[tuple[str, bool, bytes]](), list[Skipped](), 0
    for path in _candidates(folder, ignore):
        read = _read(folder, path)
        if isinstance(read, str):
            skipped.append(Skipped(_printable(path), read))
            continue
        files.append((path, *read))
        size += len(read[1])
        _check_limits(folder, len(files), size, max_files, max_total_bytes)
    if not files:
        raise PackingFailed(
            f"{folder} holds no files to pack ({len(skipped)} were skipped). If git ignores "
            "them, copy what the run needs to a folder of its own."
        )
    return Packed(_archive(files), tuple(path for path, _, _ in files), size, tuple(skipped))


def _check_limits(folder: Path, files: int, size: int, max_files: int, max_bytes: int) -> None:
    if files > max_files or size > max_bytes:
        raise PackingFailed(
            f"{folder} holds more than can be uploaded: {max_files:,} files of together "
            f"{max_bytes:,} bytes. Pack a smaller folder, or let .gitignore leave out what the "
            "run does not need."
        )


def _candidates(folder: Path, ignore: Collection[str]) -> list[str]:
    root = folder.resolve()
    in_checkout = any((parent / ".git").exists() for parent in (root, *root.parents))
    if in_checkout and shutil.which("git"):
        return _git_files(folder)
    return sorted(_walked(folder, "", ignore))


def _git_files(folder: Path) -> list[str]:
    """Tracked and untracked files, without the ignored; hooks of the checkout are not run."""
    command = ["git", "-c", "core.fsmonitor=false", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise PackingFailed(
            f"git could not list the files of {folder}: {os.fsdecode(done.stderr).strip()}. "
            "Mend that, or copy the files to a folder outside of the checkout."
        )
    return sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name})


def _walked(folder: Path, prefix: str, ignore: Collection[str]) -> Iterator[str]:
    with os.scandir(folder / prefix) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        if name in ignore:
            continue
        if is_folder:
            yield from _walked(folder, f"{prefix}{name}/", ignore)
        else:
            yield prefix + name


def _read(folder: Path, path: str) -> tuple[bool, bytes] | str:
    """Whether a file is executable and its bytes, or why it is skipped."""
    if problem := problem_of(path):
        return problem
    try:
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        is_link = (folder / path).is_symlink()
        return "a link" if is_link else (error.strerror or "it cannot be opened")
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        try:
            content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return error.strerror or "it cannot be read"
    if len(content) > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES:,} bytes"
    return bool(status.st_mode & stat.S_IXUSR), content


def problem_of(path: str) -> str | None:
    """Why a server would refuse the name, or None."""
    if path.endswith("/"):
        return "a checkout of its own; pack it apart"
    if "\\" in path or any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "its name has a backslash or control character, or is not UTF-8"
    components = path.split("/")
    longest = max(len(component.encode()) for component in components)
    if len(path.encode()) > 1024 or longest > 255 or len(components) > 64:
        return "its name is too long or too deep"
    return None


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _archive(files: Iterable[tuple[str, bool, bytes]]) -> bytes:
    packed = io.BytesIO()
    # Without a time and a name in gzip's header, the bytes depend on the files alone.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, executable, content in files:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.mode = 0o755 if executable else 0o644
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
