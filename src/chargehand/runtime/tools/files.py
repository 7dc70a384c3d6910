"""Read-only file tools in the run's workspace (SPEC TOL-1, TOL-2)."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import wraps
from itertools import islice
from typing import Any

from chargehand.runtime.tools import search_process
from chargehand.runtime.tools.tool import Run, Tool, ToolContext, ToolFailed
from chargehand.runtime.workspaces import Item, Workspace, WorkspacePathRefused

MAX_FILE_BYTES = 16_000_000
MAX_LINE_CHARACTERS = 2_000
READ_CHARACTERS = 28_000
"""Below the cap of a tool's output, so that what is read is whole lines and says how to go on."""
MAX_LISTED = 500
MAX_WALKED = 50_000
SEARCH_TIMEOUT_S = 15.0

PATH: dict[str, Any] = {
    "type": "string",
    "maxLength": 1024,
    "description": "Relative to the workspace, such as `src/app.py`.",
}

READ_FILE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": PATH,
        "offset_line": {"type": "integer", "minimum": 1, "description": "The first line; 1."},
        "limit_lines": {"type": "integer", "minimum": 1, "maximum": 5000, "description": "2000."},
    },
    "required": ["path"],
    "additionalProperties": False,
}

LIST_DIR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {**PATH, "description": "A folder, relative to the workspace; its root."},
        "depth": {
            "type": "integer",
            "minimum": 1,
            "maximum": 3,
            "description": "How many levels to show; 1.",
        },
    },
    "additionalProperties": False,
}

SEARCH_FILES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pattern": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "The text to find in a line, upper and lower case told apart.",
        },
        "regex": {
            "type": "boolean",
            "description": "Take the pattern as a Python regular expression; false.",
        },
        "path": {**PATH, "description": "A file or folder to search in; the whole workspace."},
        "glob": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "Only files like `*.py` or `src/*.ts`, at any depth.",
        },
        "max_results": {"type": "integer", "minimum": 1, "maximum": 500, "description": "100."},
    },
    "required": ["pattern"],
    "additionalProperties": False,
}


def file_tools(_options: Mapping[str, Any]) -> Sequence[Tool]:
    """``options``: ``{"mode": "read"}``, the only mode that there is."""
    return (
        Tool(
            name="read_file",
            description="Read a text file of the workspace, with line numbers.",
            parameters=READ_FILE,
            effect="none",
            run=_in_workspace(read_file),
        ),
        Tool(
            name="list_dir",
            description="List a folder of the workspace, with the sizes of its files in bytes.",
            parameters=LIST_DIR,
            effect="none",
            run=_in_workspace(list_dir),
        ),
        Tool(
            name="search_files",
            description="Find lines in the files of the workspace. Answers `path:line: text`.",
            parameters=SEARCH_FILES,
            effect="none",
            run=_in_workspace(search_files),
        ),
    )


def _in_workspace(
    run: Callable[[Workspace, dict[str, Any]], Awaitable[str]],
) -> Run:
    @wraps(run)
    async def tool(context: ToolContext, arguments: dict[str, Any]) -> str:
        if context.workspace is None:
            raise ToolFailed(
                "This run has no workspace: no folder was given to it. Go on without files, or "
                "ask for a run that is started with an uploaded folder."
            )
        with _told():
            return await run(context.workspace, arguments)

    return tool


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except WorkspacePathRefused as error:
        raise ToolFailed(
            f"{error.message} Use list_dir to see which files there are.", **error.details
        ) from error


async def read_file(workspace: Workspace, arguments: dict[str, Any]) -> str:
    """Lines as ``number<tab>text``, whole ones, and how to read on if there are more."""
    path, offset = arguments["path"], arguments.get("offset_line", 1)
    limit = arguments.get("limit_lines", 2000)
    return await asyncio.to_thread(_read_lines, workspace, path, offset, limit)


def _read_lines(workspace: Workspace, path: str, offset: int, limit: int) -> str:
    lines = _text_of(workspace, path).split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        return f"{path} is empty."
    if offset > len(lines):
        raise ToolFailed(f"{path!r} has {len(lines):,} lines; there is no line {offset:,}.")
    shown = list(_numbered(lines, offset, limit))
    end = offset + len(shown)
    if end <= len(lines):
        shown.append(f"[lines {offset:,} to {end - 1:,} of {len(lines):,}; read on from {end}]")
    return "\n".join(shown)


def _numbered(lines: Sequence[str], offset: int, limit: int) -> Iterator[str]:
    room = READ_CHARACTERS
    for number, line in enumerate(lines[offset - 1 : offset - 1 + limit], offset):
        text = f"{number:>6}\t{_cut_line(line.removesuffix(chr(13)))}"
        room -= len(text) + 1
        if room < 0:
            return
        yield text


def _cut_line(line: str) -> str:
    cut = len(line) - MAX_LINE_CHARACTERS
    return line if cut <= 0 else f"{line[:MAX_LINE_CHARACTERS]} [… {cut:,} characters cut …]"


def _text_of(workspace: Workspace, path: str) -> str:
    content = _bytes_of(workspace, path)
    if b"\0" in content[:8192]:
        raise ToolFailed(f"{path!r} is a binary file of {len(content):,} bytes, not text.")
    return content.decode("utf-8", "replace")


def _bytes_of(workspace: Workspace, path: str) -> bytes:
    with workspace.open_file(path) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ToolFailed(f"{path!r} is larger than {MAX_FILE_BYTES:,} bytes and is not read.")
    return content


async def list_dir(workspace: Workspace, arguments: dict[str, Any]) -> str:
    """One line per entry: a folder ends with ``/``, a file has its size."""
    path, depth = arguments.get("path", "."), arguments.get("depth", 1)
    return await asyncio.to_thread(_listing, workspace, path, depth)


def _listing(workspace: Workspace, path: str, depth: int) -> str:
    items = list(islice(workspace.walk(path, depth), MAX_WALKED))
    if not items:
        return f"{path} is an empty folder."
    lines = [_line(item) for item in items[:MAX_LISTED]]
    more = len(items) - len(lines)
    if more:
        at_least = "at least " if len(items) == MAX_WALKED else ""
        lines.append(f"[… {at_least}{more:,} more; list a folder further down …]")
    return "\n".join(lines)


def _line(item: Item) -> str:
    if item.kind == "file":
        return f"{item.path}  {item.size:,}"
    return f"{item.path}/" if item.kind == "folder" else f"{item.path}  ({item.kind}, not read)"


async def search_files(workspace: Workspace, arguments: dict[str, Any]) -> str:
    """Lines that match, in a process of its own that is killed when it takes too long."""
    pattern, max_results = arguments["pattern"], arguments.get("max_results", 100)
    request = {
        "pattern": pattern if arguments.get("regex") else re.escape(pattern),
        "max_results": max_results,
    }
    paths = await asyncio.to_thread(
        _searched, workspace, arguments.get("path", "."), arguments.get("glob")
    )
    answer = await _search(workspace, request, paths)
    if "error" in answer:
        raise ToolFailed(f"{pattern!r} is not a regular expression: {answer['error']}.")
    return _found(answer, max_results)


def _searched(workspace: Workspace, path: str, glob: str | None) -> list[str]:
    """The files under ``path``, or that file itself."""
    try:
        items = list(islice(workspace.walk(path), MAX_WALKED))
    except WorkspacePathRefused:
        workspace.open_file(path).close()
        return [path]
    return [
        item.path
        for item in items
        if item.kind == "file" and item.size <= MAX_FILE_BYTES and _matches(item.path, glob)
    ]


def _matches(path: str, glob: str | None) -> bool:
    """Whether the glob fits the path from any of its folders on."""
    return glob is None or fnmatchcase(f"/{path}", f"*/{glob.removeprefix('**/').lstrip('/')}")


async def _search(
    workspace: Workspace, request: dict[str, Any], paths: Sequence[str]
) -> dict[str, Any]:
    """The answer of ``search_process``. Raises ToolFailed when it was ended or has died."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", search_process.__file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SEARCH_TIMEOUT_S):
            feeding = asyncio.create_task(_feed(process.stdin, workspace, request, paths))
            try:
                answer = await process.stdout.read()
                status = await process.wait()
            finally:
                feeding.cancel()
                with suppress(asyncio.CancelledError):
                    await feeding
    except TimeoutError:
        status, answer = 1, b""
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise ToolFailed(
            f"The search was stopped: it took too long in {len(paths):,} files. Search in a "
            "narrower path or glob, or use a simpler pattern: nested repetitions such as (a+)+ "
            "can take forever."
        )
    return json.loads(answer)


async def _feed(
    stdin: asyncio.StreamWriter, workspace: Workspace, request: dict[str, Any], paths: Sequence[str]
) -> None:
    """Send the request and the files; the process stops reading when it has found enough."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(json.dumps(request).encode() + b"\n")
        for path in paths:
            try:
                content = await asyncio.to_thread(_bytes_of, workspace, path)
            except (WorkspacePathRefused, ToolFailed):
                continue
            stdin.write(json.dumps({"path": path, "size": len(content)}).encode() + b"\n")
            stdin.write(content)
            await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


def _found(answer: dict[str, Any], max_results: int) -> str:
    matches, files = answer["matches"], answer["files"]
    skipped = f", {answer['binary']} binary files left out" if answer["binary"] else ""
    if not matches:
        return f"No line matches in {files:,} files{skipped}."
    lines = [f"{path}:{number}: {text}" for path, number, text in matches]
    if len(matches) == max_results:
        lines.append(f"[stopped at {max_results} matches; there may be more]")
    return "\n".join(lines)
