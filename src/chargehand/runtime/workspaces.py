"""Where a run's files lie while a worker owns it (SPEC TOL-2).

A workspace is a folder of its own per claim: a worker that wakes up late and its successor on the
same host never share one. Its name carries its owner, a worker process that holds a lock as long
as it lives, so that the folders of the dead can be swept up and those of the living stay.
"""

import asyncio
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Literal, ParamSpec, TypeVar

import structlog

from chargehand.kernel.database import Database
from chargehand.kernel.errors import Invalid, Unavailable
from chargehand.kernel.identifiers import ExecutionId, OrganizationId
from chargehand.storage.contents import StoredFile
from chargehand.storage.operations import batches, fetch_blobs
from chargehand.storage.paths import MAX_DEPTH, problem_of

FOLDER_ENTRIES = 20_000
"""A folder's entries beyond these are not listed."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK, because opening a FIFO would otherwise wait for a writer.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

log = structlog.get_logger()
Given = ParamSpec("Given")
Result = TypeVar("Result")


class WorkspacePathRefused(Invalid):
    """The path leads nowhere, out of the workspace, or to what is not a regular file or folder."""

    code = "WorkspacePathRefused"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r} cannot be used: {reason}.", path=path, reason=reason)


class WorkspaceUnavailable(Unavailable):
    """The workspace's folder cannot be made or filled on this machine."""

    code = "WorkspaceUnavailable"


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a workspace; ``size`` is in bytes and 0 for all but files."""

    path: str
    kind: Literal["file", "folder", "link", "other"]
    size: int


@dataclass(frozen=True, slots=True)
class Workspace:
    """One run's folder. All methods block: run them in a thread.

    Each component of a path is opened from its parent's descriptor and never through a link, so
    that nothing leads out even while somebody changes the tree. Paths are relative to the root.
    """

    root: Path

    def open_file(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Raises WorkspacePathRefused."""
        *folders, name = _components(path) or [""]
        if not name:
            raise WorkspacePathRefused(path, "it is the workspace itself, not a file")
        with _refusing(path), self._folder(folders) as parent:
            descriptor = os.open(name, OPEN_FILE, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise WorkspacePathRefused(path, "it is not a regular file")
        return os.fdopen(descriptor, "rb")

    def list_folder(self, path: str = ".") -> list[Item]:
        """What lies in a folder, by name. Raises WorkspacePathRefused."""
        components = _components(path)
        with _refusing(path), self._folder(components) as folder, os.scandir(folder) as found:
            items = [_item(components, entry) for entry in islice(found, FOLDER_ENTRIES)]
        return sorted(items, key=lambda item: item.path)

    def walk(self, path: str = ".", depth: int = MAX_DEPTH) -> Iterator[Item]:
        """Everything under a folder, parents first. Raises WorkspacePathRefused for ``path``;
        a folder that has gone meanwhile counts as empty."""
        waiting = [(item, depth - 1) for item in reversed(self.list_folder(path))]
        while waiting:
            item, deeper = waiting.pop()
            yield item
            if item.kind == "folder" and deeper > 0:
                waiting += [(child, deeper - 1) for child in reversed(self._children(item.path))]

    def _children(self, path: str) -> list[Item]:
        try:
            return self.list_folder(path)
        except WorkspacePathRefused:
            return []

    @contextmanager
    def _folder(self, components: Sequence[str]) -> Generator[int]:
        descriptor = os.open(self.root, OPEN_FOLDER)
        try:
            for component in components:
                child = os.open(component, OPEN_FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)


def _components(path: str) -> list[str]:
    """The components of a path as people write it: ``./a/b/`` is ``a/b``, ``.`` is the root."""
    plain = path.removesuffix("/") if path != "/" else path
    plain = "" if plain == "." else plain.removeprefix("./")
    if not plain:
        return []
    if problem := problem_of(plain):
        raise WorkspacePathRefused(path, f"{problem}; paths are relative to the workspace")
    return plain.split("/")


@contextmanager
def _refusing(path: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOENT: "it does not exist",
            errno.ELOOP: "it is a link, and links are not followed",
            errno.ENOTDIR: "it is not a folder, or a part of it is a file or a link",
            errno.ENXIO: "it is not a regular file",
        }.get(error.errno or 0, error.strerror or "it cannot be opened")
        raise WorkspacePathRefused(path, reason) from error


def _item(parents: Sequence[str], entry: os.DirEntry[str]) -> Item:
    path = "/".join((*parents, entry.name))
    if entry.is_symlink():
        return Item(path, "link", 0)
    if entry.is_dir(follow_symlinks=False):
        return Item(path, "folder", 0)
    if not entry.is_file(follow_symlinks=False):
        return Item(path, "other", 0)
    try:
        return Item(path, "file", entry.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:
        return Item(path, "other", 0)


class Workspaces:
    """The workspaces of one worker process under ``base``; ``start`` first, ``stop`` at the end."""

    def __init__(self, base: Path) -> None:
        self._base = base.absolute()
        self._owner = secrets.token_hex(8)
        self._numbers = count(1)
        self._lock: int | None = None

    async def start(self) -> None:
        """Take this process's lock and sweep up what dead workers left on this host.

        Raises WorkspaceUnavailable.
        """
        with self._unavailable():
            await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """Give up the lock. Workspaces that are still open are left to the next sweep."""
        lock, self._lock = self._lock, None
        if lock is not None:
            self._lock_path(self._owner).unlink(missing_ok=True)
            os.close(lock)

    @asynccontextmanager
    async def open(
        self,
        database: Database,
        organization: OrganizationId,
        execution: ExecutionId,
        files: Sequence[StoredFile],
    ) -> AsyncGenerator[Workspace]:
        """A fresh workspace that holds ``files``, removed in the end.

        Raises WorkspaceUnavailable.
        """
        root = self._base / str(organization) / self._name(execution)
        try:
            with self._unavailable():
                await _to_its_end(_make_root, root)
                await _fill(database, organization, root, files)
            yield Workspace(root)
        finally:
            await _to_its_end(_remove_or_log, root)

    def _name(self, execution: ExecutionId) -> str:
        return f"{execution}-{self._owner}-{next(self._numbers)}"

    def _lock_path(self, owner: str) -> Path:
        return self._base / f"{owner}.lock"

    @contextmanager
    def _unavailable(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise WorkspaceUnavailable(
                f"No workspace can be made in {self._base}: {error}. Check that the folder that "
                "CHARGEHAND_WORKSPACES names can be written to and that its disk has room.",
                folder=str(self._base),
            ) from error

    def _start(self) -> None:
        self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One lock around both, so that no sweep sees a lock file before its owner has locked it.
        gate = os.open(self._base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            self._lock = os.open(
                self._lock_path(self._owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sweep()
        finally:
            os.close(gate)

    def _sweep(self) -> None:
        for folder in self._base.glob("*/*-*-*"):
            owner = folder.name.rsplit("-", 2)[1]
            if not _alive(self._lock_path(owner)):
                _remove_or_log(folder)
        for lock in self._base.glob("?*.lock"):
            if not _alive(lock):
                lock.unlink(missing_ok=True)


def _alive(lock: Path) -> bool:
    """Whether a process holds this lock file."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_root(root: Path) -> None:
    root.parent.mkdir(mode=0o700, exist_ok=True)
    root.mkdir(mode=0o700)


async def _fill(
    database: Database, organization: OrganizationId, root: Path, files: Sequence[StoredFile]
) -> None:
    by_digest = dict[bytes, list[StoredFile]]()
    for file in files:
        by_digest.setdefault(file.sha256, []).append(file)
    for digests in batches((digest, same[0].size) for digest, same in by_digest.items()):
        async with database.hot(organization) as connection:
            blobs = await fetch_blobs(connection, organization, digests)
        if missing := set(digests) - set(blobs):
            raise WorkspaceUnavailable(
                f"{len(missing)} files of the workspace are not in the database, the first is "
                f"{by_digest[missing.pop()][0].path!r}. Upload the folder again and start a new "
                "execution.",
            )
        await _to_its_end(_write, root, [(f, blobs[d]) for d in digests for f in by_digest[d]])


def _write(root: Path, files: Sequence[tuple[StoredFile, bytes]]) -> None:
    """Write into a tree that nobody else can reach yet; a bad path can only be a defect."""
    for file, content in files:
        if problem := problem_of(file.path):
            raise WorkspacePathRefused(file.path, problem)
        path = root / file.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o700 if file.mode == "executable" else 0o600
        with os.fdopen(os.open(path, CREATE_FILE, mode), "wb") as target:
            target.write(content)


async def _to_its_end(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """Run in a thread, and wait for it even when cancelled: a thread cannot be stopped, and what
    it writes must not meet the removal of the tree."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _remove_or_log(root: Path) -> None:
    try:
        remove_tree(root)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("workspace_not_removed", path=str(root), error=str(error))


def remove_tree(root: Path) -> None:
    """Remove a folder of any depth, following no link.

    Folders in folders are first moved up under the root: ``shutil.rmtree`` runs out of stack or
    descriptors on some thousand nested folders, and this needs two descriptors.
    """
    parent = os.open(root, OPEN_FOLDER)
    try:
        numbers, token = count(), secrets.token_hex(8)
        while folders := _remove_files(parent):
            for name in folders:
                os.chmod(name, 0o700, dir_fd=parent)
                child = os.open(name, OPEN_FOLDER, dir_fd=parent)
                try:
                    for inner in _remove_files(child):
                        new = f"{token}-{next(numbers)}"
                        os.rename(inner, new, src_dir_fd=child, dst_dir_fd=parent)
                finally:
                    os.close(child)
                os.rmdir(name, dir_fd=parent)
    finally:
        os.close(parent)
    os.rmdir(root)


def _remove_files(folder: int) -> list[str]:
    """Remove all but the folders of a folder, and name those."""
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in entries if is_folder]
