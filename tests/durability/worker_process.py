"""A real worker in a process of its own, as an installation with tools of its own would run it.

Its tools append to a file outside the database; the environment says which. With PROBE_FREEZE set
to a file, the first worker that gets a model's answer makes that file and stops itself (SIGSTOP)
between the answer and the journal. With PROBE_KILL_AT=n it kills itself (SIGKILL) at the n-th
place between two statements that it sends for runs: before each, before each commit, behind it;
with PROBE_KILL_IN set to a tool's name, in that tool, once the line is appended.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop
from pydantic_ai.messages import ModelResponse

from chargehand import bootstrap, settings
from chargehand.adapters import simulated
from chargehand.agents.installed import NO_OPTIONS, Capability
from chargehand.kernel.database import Connection, Database
from chargehand.kernel.identifiers import OrganizationId
from chargehand.runtime.ports import ModelCall, ModelProvider
from chargehand.runtime.toolset import Tool, ToolContext

PROBE = Capability("probe", "Appends lines to a file outside the database.", NO_OPTIONS)
LINE = {
    "type": "object",
    "properties": {"line": {"type": "string"}, "pause_s": {"type": "number"}},
    "required": ["line"],
}


def append(record: Mapping[str, Any]) -> None:
    """One write of one line: what a killed process had written stands whole or not at all."""
    file = os.open(os.environ["PROBE_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, orjson.dumps(record) + b"\n")
    os.close(file)


def probe_tools(_options: Mapping[str, Any]) -> Sequence[Tool]:
    async def run(name: str, context: ToolContext, arguments: Mapping[str, Any]) -> str:
        append(
            {
                "tool": name,
                "execution": str(context.execution_id),
                "key": str(context.idempotency_key),
                "line": arguments["line"],
                "pid": os.getpid(),
                "at": time.time(),
            }
        )
        if os.environ.get("PROBE_KILL_IN") == name:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(arguments.get("pause_s", 0))
        return "appended"

    async def write(context: ToolContext, arguments: dict[str, Any]) -> str:
        return await run("write", context, arguments)

    async def send(context: ToolContext, arguments: dict[str, Any]) -> str:
        return await run("send", context, arguments)

    async def order(context: ToolContext, arguments: dict[str, Any]) -> str:
        return await run("order", context, arguments)

    return [
        Tool("write", "May be repeated with its key.", LINE, "idempotent", write),
        Tool("send", "Must never be repeated by itself.", LINE, "unknown", send),
        Tool("order", "A person decides whether it is repeated.", LINE, "ask", order),
    ]


class Freezing:
    """The simulated model; the first answer in any process stops that process."""

    def __init__(self, inner: ModelProvider, flag: Path) -> None:
        self._inner = inner
        self._flag = flag

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | ModelResponse, None]:
        async for item in self._inner.stream(call):
            if isinstance(item, ModelResponse):
                self._freeze_once()
            yield item

    def _freeze_once(self) -> None:
        try:
            os.close(os.open(self._flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGSTOP)


class KilledBetween:
    """Counts the places between statements on the connections for runs; the n-th is the last."""

    def __init__(self, last: int) -> None:
        self._left = last

    def place(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        hot, place = Database.hot, self.place

        @asynccontextmanager
        async def counted(
            database: Database, organization: OrganizationId
        ) -> AsyncGenerator[Connection]:
            async with hot(database, organization) as connection:
                yield Counted(connection, place)
                place()
            place()

        Database.hot = counted  # pyright: ignore[reportAttributeAccessIssue]


class Counted:
    """A connection that tells of each statement before it sends it."""

    def __init__(self, connection: Connection, place: Callable[[], None]) -> None:
        self._connection = connection
        self._place = place

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name not in ("execute", "fetch", "fetchrow", "fetchval"):
            return method

        async def sent(*arguments: Any, **options: Any) -> Any:
            self._place()
            return await method(*arguments, **options)

        return sent


async def main() -> None:
    if last := os.environ.get("PROBE_KILL_AT"):
        KilledBetween(int(last)).install()
    configured = settings.load()
    installed = bootstrap.given_installation(configured)
    providers: dict[str, ModelProvider] = {}
    if flag := os.environ.get("PROBE_FREEZE"):
        inner = simulated.provider(configured.simulated.call_log)
        providers["simulated"] = Freezing(inner, Path(flag))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await bootstrap.serve_worker(
        configured,
        installed.urls,
        queues=("agents",),
        concurrency=configured.worker.concurrency,
        stop=stop,
        on_ready=lambda name: print(name, flush=True),
        extensions=bootstrap.Extensions(tools={"probe": probe_tools}, providers=providers),
    )


if __name__ == "__main__":
    bootstrap.configure_logs(os.environ.get("CHARGEHAND_LOG_LEVEL", "info"))
    uvloop.run(main())
    sys.exit(0)
