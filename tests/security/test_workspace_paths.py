"""No path, link or race leads out of a workspace, and nothing in it makes a reader hang."""

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest
from tests.factories.storage import make_workspace

from chargehand.runtime.workspaces import Workspace, WorkspacePathRefused, remove_tree

SECRET = b"the secret of another tenant"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x").write_bytes(SECRET)
    (tmp_path / "secret/hidden").write_bytes(SECRET)
    return make_workspace(tmp_path / "inside", {"a.txt": b"a", "dir/x": b"inside"})


def read(workspace: Workspace, path: str) -> bytes:
    with workspace.open_file(path) as file:
        return file.read()


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "dir/x"])
def test_paths_as_people_write_them_are_read(workspace: Workspace, path: str) -> None:
    assert read(workspace, path) in (b"a", b"inside")


@pytest.mark.parametrize(
    "path",
    [
        *("../secret/x", "dir/../../secret/x", "/etc/passwd", "dir/..", "..", "/", "//", "./../x"),
        *("a\0b", "dir//x", "dir/./x", "a.txt/x", "", ".", "dir", "dir/", "missing", "n" * 300),
        *("..\\secret\\x", "\udcff", "/proc/self/environ", "~/x"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(workspace: Workspace, path: str) -> None:
    with pytest.raises(WorkspacePathRefused):
        workspace.open_file(path)


@pytest.mark.parametrize("target", ["../secret/x", "/etc/passwd", "a.txt", "/proc/self/root"])
def test_links_are_listed_and_never_followed(workspace: Workspace, target: str) -> None:
    (workspace.root / "link").symlink_to(target)
    with pytest.raises(WorkspacePathRefused):
        workspace.open_file("link")
    assert {item.path: item.kind for item in workspace.list_folder()}["link"] == "link"


def test_linked_folders_are_not_entered(workspace: Workspace) -> None:
    (workspace.root / "out").symlink_to("../secret")
    with pytest.raises(WorkspacePathRefused):
        workspace.open_file("out/x")
    with pytest.raises(WorkspacePathRefused):
        workspace.list_folder("out")
    assert [item.path for item in workspace.walk()] == ["a.txt", "dir", "dir/x", "out"]


def test_a_linked_root_is_refused(workspace: Workspace) -> None:
    (workspace.root.parent / "alias").symlink_to("secret")
    with pytest.raises(WorkspacePathRefused):
        Workspace(workspace.root.parent / "alias").open_file("x")


async def test_fifos_sockets_and_devices_do_not_hang(workspace: Workspace) -> None:
    os.mkfifo(workspace.root / "fifo")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(workspace.root / "socket"))
    bound.close()
    async with asyncio.timeout(5):
        for name in ("fifo", "socket"):
            with pytest.raises(WorkspacePathRefused, match="regular"):
                await asyncio.to_thread(workspace.open_file, name)
    kinds = {item.path: item.kind for item in workspace.list_folder()}
    assert (kinds["fifo"], kinds["socket"]) == ("other", "other")


def test_a_tree_that_is_swapped_meanwhile_never_leads_out(workspace: Workspace) -> None:
    """A folder changes places with a link to another tenant's, as fast as it can be."""
    root, stop = workspace.root, threading.Event()
    (root / "link").symlink_to("../secret")
    (root / "filelink").symlink_to("../secret/x")
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            os.rename(root / "dir", root / "away")
            os.rename(root / "link", root / "dir")
            os.rename(root / "dir", root / "link")
            os.rename(root / "away", root / "dir")
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    inside = outcomes = 0
    try:
        while inside < 200 or outcomes - inside < 50 or swaps < 200:
            outcomes += 1
            assert outcomes < 200_000
            try:
                assert read(workspace, "dir/x") == b"inside"
                inside += 1
            except WorkspacePathRefused:
                pass
            assert not any(item.path.endswith("hidden") for item in workspace.walk())
    finally:
        stop.set()
        thread.join()


def test_deep_trees_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for depth in range(3_000):
        os.mkdir("d", dir_fd=descriptor)
        if depth % 100 == 0:
            os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        child = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    os.close(descriptor)
    remove_tree(root)
    assert not root.exists()


def test_removal_follows_no_link_and_needs_no_rights_inside(workspace: Workspace) -> None:
    (workspace.root / "dir/out").symlink_to("../../secret")
    (workspace.root / "dir").chmod(0o500)
    remove_tree(workspace.root)
    assert not workspace.root.exists()
    assert (workspace.root.parent / "secret/x").read_bytes() == SECRET
