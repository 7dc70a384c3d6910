"""Packing a folder for an upload."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from chargehand_client.packing import PackingFailed, pack_folder


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = fill(tmp_path / "first", "b", "a/x", "a.txt")
    second = fill(tmp_path / "second", "a.txt", "b", "a/x")
    os.utime(second / "b", (1, 1))
    packed = pack_folder(first)
    assert packed.archive == pack_folder(second).archive
    assert packed.files == ("a.txt", "a/x", "b")
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}


def test_the_executable_bit_is_kept_and_nothing_else_of_the_mode(tmp_path: Path) -> None:
    fill(tmp_path, "run", "private")
    (tmp_path / "run").chmod(0o4755)
    (tmp_path / "private").chmod(0o600)
    with tarfile.open(fileobj=io.BytesIO(pack_folder(tmp_path).archive)) as tar:
        assert {m.name: m.mode for m in tar} == {"run": 0o755, "private": 0o644}


def test_links_and_odd_things_are_skipped_and_named(tmp_path: Path) -> None:
    fill(tmp_path / "secret", "key")
    folder = fill(tmp_path / "folder", "a", "back\\slash", "line\nbreak", "sub/x")
    (folder / "link").symlink_to(tmp_path / "secret" / "key")
    (folder / "sub/linked").symlink_to(tmp_path / "secret", target_is_directory=True)
    os.mkfifo(folder / "fifo")
    packed = pack_folder(folder)
    assert packed.files == ("a", "sub/x")
    assert {s.path: s.reason.split(",")[0] for s in packed.skipped} == {
        "back\\slash": "its name has a backslash or control character",
        "line\nbreak": "its name has a backslash or control character",
        "link": "a link",
        "sub/linked": "a link",
        "fifo": "not a regular file",
    }


def test_outside_of_git_the_usual_clutter_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a", "node_modules/x", "sub/__pycache__/y", ".venv/z", ".env")
    assert pack_folder(tmp_path).files == (".env", "a")


def test_in_a_checkout_git_says_what_belongs_to_it(tmp_path: Path) -> None:
    fill(
        tmp_path, "tracked", "new", ".env", "sub/gone", "sub/build/x", "nested/y", "node_modules/z"
    )
    (tmp_path / ".gitignore").write_text(".env\nbuild/\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "tracked", "sub/gone")
    (tmp_path / "sub/gone").unlink()
    git(tmp_path / "nested", "init")
    packed = pack_folder(tmp_path)
    assert packed.files == (".gitignore", "new", "node_modules/z", "tracked")
    assert {s.path for s in packed.skipped} == {"nested/", "sub/gone"}
    fill(tmp_path, "sub/here")
    assert pack_folder(tmp_path / "sub").files == ("here",)


def test_a_checkout_that_git_cannot_read_is_not_packed_whole(tmp_path: Path) -> None:
    fill(tmp_path, ".env")
    (tmp_path / ".git").write_text("gitdir: /nonexistent")
    with pytest.raises(PackingFailed, match="git could not list"):
        pack_folder(tmp_path)


def test_too_much_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c")
    with pytest.raises(PackingFailed, match="2 files"):
        pack_folder(tmp_path, max_files=2)
    with pytest.raises(PackingFailed, match="2 bytes"):
        pack_folder(tmp_path, max_total_bytes=2)


def test_nothing_to_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackingFailed, match="no files"):
        pack_folder(tmp_path)
    with pytest.raises(PackingFailed, match="not a folder"):
        pack_folder(tmp_path / "missing")
