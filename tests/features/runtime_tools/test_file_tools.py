"""The read-only file tools, called as the loop calls them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.factories.storage import make_workspace

from chargehand.kernel.identifiers import ExecutionId, OrganizationId, new_id
from chargehand.runtime.toolset import ToolContext, ToolFailed, Toolset
from chargehand.runtime.workspaces import Workspace

TOOLSET = Toolset({"files": {"mode": "read"}})
FILES = {
    "src/app.py": b"import os\n\ndef main():\n    return os.getcwd()\n",
    "src/deep/er/x.ts": b"const os = 1\r\nlet main = 2\r\n",
    "logo.png": b"\x89PNG\0main",
    "notes.md": "Grüße: main (a+b)*c\n".encode(),
    "empty": b"",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace", FILES)


def context(workspace: Workspace | None) -> ToolContext:
    organization, execution = OrganizationId(new_id()), ExecutionId(new_id())
    return ToolContext(organization, execution, new_id(), workspace)


async def call(workspace: Workspace | None, name: str, **arguments: Any) -> str:
    return await TOOLSET.call(name, arguments, context(workspace))


async def failure(workspace: Workspace | None, name: str, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as caught:
        await call(workspace, name, **arguments)
    return caught.value.message


async def test_a_file_is_read_with_line_numbers(workspace: Workspace) -> None:
    assert await call(workspace, "read_file", path="src/app.py") == (
        "     1\timport os\n     2\t\n     3\tdef main():\n     4\t    return os.getcwd()"
    )
    assert await call(workspace, "read_file", path="empty") == "empty is empty."
    assert (await call(workspace, "read_file", path="src/deep/er/x.ts")).endswith("main = 2")


async def test_a_part_of_a_file_says_how_to_read_on(workspace: Workspace) -> None:
    part = await call(workspace, "read_file", path="src/app.py", offset_line=2, limit_lines=2)
    assert part == ("     2\t\n     3\tdef main():\n[lines 2 to 3 of 4; read on from 4]")
    rest = await call(workspace, "read_file", path="src/app.py", offset_line=4)
    assert rest == "     4\t    return os.getcwd()"
    assert "4 lines" in await failure(workspace, "read_file", path="src/app.py", offset_line=5)


async def test_a_long_file_is_read_whole_in_parts(workspace: Workspace) -> None:
    lines = [f"line {number} {'x' * 90}" for number in range(1, 3001)]
    (workspace.root / "long").write_text("\n".join(lines) + "\n")
    seen, offset = list[str](), 1
    while True:
        part = (await call(workspace, "read_file", path="long", offset_line=offset)).split("\n")
        more = part.pop() if part[-1].startswith("[") else None
        seen += [line.partition("\t")[2] for line in part]
        if more is None:
            break
        offset = int(more.rstrip("]").rpartition(" ")[2])
    assert seen == lines


async def test_a_long_line_is_cut_and_says_so(workspace: Workspace) -> None:
    (workspace.root / "min.js").write_text("y" * 100_000 + "\nend\n")
    found = await call(workspace, "read_file", path="min.js")
    assert "[… 98,000 characters cut …]" in found
    assert found.endswith("     2\tend")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("logo.png", "binary file of 9 bytes"),
        ("missing", "does not exist"),
        ("src", "not a regular file"),
        ("../../etc/passwd", "'..'"),
        ("/etc/passwd", "absolute"),
        ("large", "larger than 16,000,000 bytes"),
        ("link", "link"),
        ("fifo", "not a regular file"),
    ],
)
async def test_what_cannot_be_read_is_told(workspace: Workspace, path: str, reason: str) -> None:
    os.truncate(os.open(workspace.root / "large", os.O_CREAT | os.O_WRONLY), 16_000_001)
    (workspace.root / "link").symlink_to("/etc/passwd")
    os.mkfifo(workspace.root / "fifo")
    async with asyncio.timeout(5):
        assert reason in await failure(workspace, "read_file", path=path)


async def test_a_folder_is_listed_to_a_depth(workspace: Workspace) -> None:
    (workspace.root / "link").symlink_to("/etc")
    assert (await call(workspace, "list_dir")).split("\n") == [
        "empty  0",
        "link  (link, not read)",
        "logo.png  9",
        "notes.md  22",
        "src/",
    ]
    assert (await call(workspace, "list_dir", path="src", depth=2)).split("\n") == [
        "src/app.py  46",
        "src/deep/",
        "src/deep/er/",
    ]
    assert "does not exist" in await failure(workspace, "list_dir", path="nowhere")


async def test_a_long_listing_says_how_much_was_left_out(workspace: Workspace) -> None:
    for number in range(620):
        (workspace.root / "src/deep" / f"{number:03}").touch()
    listing = (await call(workspace, "list_dir", path="src/deep")).split("\n")
    assert (len(listing), listing[-1]) == (501, "[… 121 more; list a folder further down …]")


async def test_text_is_found_literally_unless_it_is_a_pattern(workspace: Workspace) -> None:
    assert (await call(workspace, "search_files", pattern="(a+b)*c")) == (
        "notes.md:1: Grüße: main (a+b)*c"
    )
    found = await call(workspace, "search_files", pattern=r"^(let|def) main", regex=True)
    assert found.split("\n") == ["src/app.py:3: def main():", "src/deep/er/x.ts:2: let main = 2"]
    nothing = await call(workspace, "search_files", pattern="nothing")
    assert nothing == "No line matches in 4 files, 1 binary files left out."


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"glob": "*.py"}, ["src/app.py"]),
        ({"glob": "**/*.ts"}, ["src/deep/er/x.ts"]),
        ({"glob": "src/*.py"}, ["src/app.py"]),
        ({"path": "src/deep"}, ["src/deep/er/x.ts"]),
        ({"path": "notes.md"}, ["notes.md"]),
        ({"path": ".", "max_results": 1}, ["notes.md"]),
    ],
)
async def test_a_search_can_be_narrowed(
    workspace: Workspace, where: dict[str, Any], found: list[str]
) -> None:
    lines = (await call(workspace, "search_files", pattern="main", **where)).split("\n")
    assert [line.partition(":")[0] for line in lines if not line.startswith("[")] == found


async def test_a_search_stops_at_its_most_results(workspace: Workspace) -> None:
    (workspace.root / "many").write_text("hit\n" * 100_000)
    for number in range(30):
        (workspace.root / f"z{number}").write_bytes(b"z" * 1_000_000)
    lines = (await call(workspace, "search_files", pattern="hit", max_results=7)).split("\n")
    assert (len(lines), lines[-1]) == (8, "[stopped at 7 matches; there may be more]")


async def test_a_search_leads_nowhere_else(workspace: Workspace) -> None:
    (workspace.root / "out").symlink_to("/etc")
    (workspace.root / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(workspace.root / "fifo")
    async with asyncio.timeout(10):
        assert "No line" in await call(workspace, "search_files", pattern="root:")
        for path in ("out", "passwd", "fifo", "../..", "/etc"):
            await failure(workspace, "search_files", pattern="root:", path=path)


async def test_a_pattern_that_is_none_is_told(workspace: Workspace) -> None:
    message = await failure(workspace, "search_files", pattern="(main", regex=True)
    assert "not a regular expression" in message
    huge = "(" * 300 + "a" + "{1,60000}){1,60000}" * 20
    await failure(workspace, "search_files", pattern=huge, regex=True)


def searches() -> list[int]:
    """The process ids of the searches that this process runs or has not yet reaped."""
    return [child.pid for child in psutil.Process().children() if is_search(child)]


def is_search(child: psutil.Process) -> bool:
    try:
        # One that has ended and is not reaped has no command line any more.
        zombie = child.status() == psutil.STATUS_ZOMBIE
        return zombie or "search_process" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:
        return False


async def none_left() -> None:
    async with asyncio.timeout(5):
        while searches():
            await asyncio.sleep(0.005)


async def test_a_catastrophic_pattern_is_stopped_while_others_go_on(workspace: Workspace) -> None:
    (workspace.root / "evil").write_text("a" * 60 + "!\n")
    beats, stop = 0, asyncio.Event()

    async def beat() -> None:
        nonlocal beats
        while not stop.is_set():
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    # Without a limit it would take ages.
    async with asyncio.timeout(30):
        message = await failure(workspace, "search_files", pattern="^(a+)+$", regex=True)
    stop.set()
    await beating
    assert "took too long" in message
    assert beats > 20
    await none_left()


async def test_a_cancelled_search_leaves_no_process(workspace: Workspace) -> None:
    (workspace.root / "evil").write_text("a" * 60 + "!\n")
    running = asyncio.create_task(call(workspace, "search_files", pattern="^(a+)+$", regex=True))
    async with asyncio.timeout(5):
        while not searches():
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await none_left()


async def test_without_a_workspace_the_tools_say_so() -> None:
    for name, arguments in {"read_file": {"path": "a"}, "list_dir": {}}.items():
        assert "no workspace" in await failure(None, name, **arguments)
