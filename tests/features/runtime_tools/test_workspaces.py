"""Workspaces: filled from blobs, one per claim, swept only when their worker is gone."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories.storage import make_upload, make_workspace
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId, OrganizationId, new_id
from chargehand.runtime.workspaces import Workspaces, WorkspaceUnavailable
from chargehand.storage.archives import Limits
from chargehand.storage.contents import StoredFile, unpack
from chargehand_client.packing import pack_folder

FILES = {"a": b"1", "b/c": b"1", "b/d/e": b"\0" * 100_000, "empty": b""}


async def stored(
    database: Database, files: dict[str, bytes]
) -> tuple[OrganizationId, list[StoredFile]]:
    caller, _ = await make_caller(database)
    upload = await make_upload(database, caller, files)
    return caller.organization_id, [StoredFile.of_json(line) for line in upload.files]


async def test_a_workspace_holds_the_uploads_files_and_is_removed(
    database: Database, tmp_path: Path
) -> None:
    organization, files = await stored(database, FILES)
    workspaces = Workspaces(tmp_path / "base")
    await workspaces.start()
    execution = ExecutionId(new_id())
    async with workspaces.open(database, organization, execution, files) as workspace:
        assert workspace.root.parent == tmp_path / "base" / str(organization)
        assert workspace.root.name.startswith(str(execution))
        found = {i.path: i.size for i in workspace.walk() if i.kind == "file"}
        assert found == {path: len(content) for path, content in FILES.items()}
        with workspace.open_file("b/d/e") as file:
            assert file.read() == FILES["b/d/e"]
        assert {p.stat().st_mode & 0o777 for p in workspace.root.rglob("*") if p.is_file()} == {
            0o600
        }
        assert workspace.root.stat().st_mode & 0o777 == 0o700
    assert not workspace.root.exists()
    await workspaces.stop()


async def test_a_late_worker_and_its_successor_never_share_a_folder(
    database: Database, tmp_path: Path
) -> None:
    organization, files = await stored(database, {"a": b"1"})
    late, successor = Workspaces(tmp_path), Workspaces(tmp_path)
    execution = ExecutionId(new_id())
    await late.start()
    async with late.open(database, organization, execution, files) as first:
        await successor.start()
        async with successor.open(database, organization, execution, files) as second:
            assert first.root != second.root
            # The successor's sweep at its start left alone what a living worker works in.
            assert (first.root / "a").read_bytes() == b"1"
        assert (first.root / "a").exists()
    await late.stop()
    await successor.stop()


DIES = """
import asyncio, sys
from pathlib import Path
from chargehand.runtime.workspaces import Workspaces, _make_root
async def main():
    workspaces = Workspaces(Path(sys.argv[1]))
    await workspaces.start()
    root = Path(sys.argv[1]) / "organization" / workspaces._name("0190-aaaa-execution")
    _make_root(root)
    (root / "left").write_text("x")
    print(root, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_what_a_killed_worker_left_is_swept_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": "src"}, text=True
    ) as worker:
        assert worker.stdout is not None
        left = Path((await asyncio.to_thread(worker.stdout.readline)).strip())
        early = Workspaces(tmp_path)
        await early.start()
        assert left.exists()
        worker.send_signal(signal.SIGKILL)
    later = Workspaces(tmp_path)
    await later.start()
    assert not left.exists()
    assert len(list(tmp_path.glob("?*.lock"))) == 2
    await early.stop()
    await later.stop()
    assert list(tmp_path.glob("?*.lock")) == []


async def test_a_file_that_is_not_stored_leaves_nothing_behind(
    database: Database, tmp_path: Path
) -> None:
    organization, files = await stored(database, {"a": b"1"})
    files.append(StoredFile("lost", 3, b"\1" * 32, "file"))
    workspaces = Workspaces(tmp_path)
    await workspaces.start()
    with pytest.raises(WorkspaceUnavailable, match="lost"):
        async with workspaces.open(database, organization, ExecutionId(new_id()), files):
            pass
    assert list((tmp_path / str(organization)).iterdir()) == []
    await workspaces.stop()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceUnavailable, match="CHARGEHAND_WORKSPACES"):
        await Workspaces(tmp_path / "file" / "base").start()


async def test_a_cancelled_opening_leaves_nothing_behind(
    database: Database, tmp_path: Path
) -> None:
    organization, files = await stored(database, {str(n): bytes([n]) * 9000 for n in range(200)})
    workspaces = Workspaces(tmp_path)
    await workspaces.start()

    async def use() -> None:
        async with workspaces.open(database, organization, ExecutionId(new_id()), files):
            await asyncio.Event().wait()

    for turns in range(0, 40, 2):
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    folder = tmp_path / str(organization)
    assert not folder.exists() or list(folder.iterdir()) == []
    await workspaces.stop()


# A file named .git makes a checkout of its folder, and a broken one is refused (test_packing).
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("Cc", "Cs")),
    min_size=1,
    max_size=40,
).filter(lambda name: name not in (".", "..", ".git") and len(name.encode()) <= 200)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join),
    st.tuples(st.binary(max_size=2000), st.booleans()),
    min_size=1,
    max_size=8,
)


def without_clashes(tree: dict[str, tuple[bytes, bool]]) -> dict[str, tuple[bytes, bool]]:
    return {p: f for p, f in tree.items() if not any(q.startswith(f"{p}/") for q in tree)}


@settings(max_examples=60, deadline=None)
@given(tree=TREES.map(without_clashes))
def test_what_is_packed_is_what_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, tuple[bytes, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    workspace = make_workspace(folder, {path: content for path, (content, _) in tree.items()})
    for path, (_, executable) in tree.items():
        os.chmod(folder / path, 0o755 if executable else 0o644)
    packed = pack_folder(folder, ignore=())
    assert packed.skipped == ()
    with closing(unpack(io.BytesIO(packed.archive), Limits())) as contents:
        unpacked = {
            file.path: (contents.read(file.sha256), file.mode == "executable")
            for file in contents.files
        }
    assert unpacked == tree
    assert {item.path for item in workspace.walk() if item.kind == "file"} == set(tree)


async def test_a_packed_folder_arrives_in_the_workspace(database: Database, tmp_path: Path) -> None:
    files = {"ü/日本.txt": "字".encode() * 2_000_000, "run": b"#!", "x/" + "y/" * 60 + "z": b"deep"}
    make_workspace(tmp_path / "folder", files)
    (tmp_path / "folder/run").chmod(0o755)
    packed = pack_folder(tmp_path / "folder")
    with closing(unpack(io.BytesIO(packed.archive), Limits())) as contents:
        named = {file.path: contents.read(file.sha256) for file in contents.files}
        executables = [file.path for file in contents.files if file.mode == "executable"]
    assert (named, executables) == (files, ["run"])
    organization, lines = await stored(database, named)
    workspaces = Workspaces(tmp_path / "base")
    await workspaces.start()
    async with workspaces.open(database, organization, ExecutionId(new_id()), lines) as workspace:
        found = {
            item.path: (workspace.root / item.path).read_bytes()
            for item in workspace.walk()
            if item.kind == "file"
        }
    assert found == files
    await workspaces.stop()
