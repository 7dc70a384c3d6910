"""Runs: start them, wait for them, follow their events."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack

import httpx2

from chargehand_client.aio.executions import AsyncExecutions
from chargehand_client.aio.steering import AsyncSteering
from chargehand_client.aio.streams import AsyncEventStream
from chargehand_client.aio.uploads import AsyncUploads
from chargehand_client.calls import runs as calls
from chargehand_client.connecting import stranger
from chargehand_client.executions import Execution
from chargehand_client.options import RunOptions
from chargehand_client.requests import Call, Request
from chargehand_client.resuming import RunResumption, UserResumption, needs_a_person


class AsyncRuns(AsyncExecutions, AsyncSteering, AsyncUploads):
    async def run(self, agent: str, input: Any, **options: Unpack[RunOptions]) -> Execution:
        """Run an agent and wait until the run has ended or waits for a person; see RunOptions.

        A run that failed is returned, not raised: look at ``status`` and ``error``. Raises
        AgentNotFound, AgentNotExecutable, InvalidInput, RateLimitExceeded, IdempotencyKeyReused,
        and what ``upload_folder`` raises.
        """
        request = await self._start(agent, input, "wait", options)
        execution = await self._call(Call(request, Execution.of))
        return execution if execution.settled else await self._wait(execution.id)

    async def start(self, agent: str, input: Any, **options: Unpack[RunOptions]) -> Execution:
        """Start a run and return at once, as soon as it is stored. Raises as ``run`` does."""
        request = await self._start(agent, input, "async", options)
        return await self._call(Call(request, Execution.of))

    @asynccontextmanager
    async def stream(
        self, agent: str, input: Any, **options: Unpack[RunOptions]
    ) -> AsyncGenerator["AsyncRun"]:
        """Start a run and iterate over its events as they come. Raises as ``run`` does.

        Leaving the block stops listening; it does not stop the run.
        """
        request = await self._start(agent, input, "stream", options)
        response = await self._open(request)
        execution_id = response.headers.get("X-Execution-Id")
        if execution_id is None:
            await response.aclose()
            raise stranger(response, self.url)
        resumption = RunResumption(self.url, execution_id, self.tries)
        async with AsyncRun(self.execution, self._open, resumption, response) as run:
            yield run

    @asynccontextmanager
    async def follow(
        self, execution_id: str, *, after: str | None = None
    ) -> AsyncGenerator["AsyncRun"]:
        """Iterate over the events of a run: all of them, or those behind the event ``after``.

        Raises ExecutionNotFound, InsufficientPermissions.
        """
        resumption = RunResumption(self.url, execution_id, self.tries, after)
        response = await self._open(resumption.request())
        async with AsyncRun(self.execution, self._open, resumption, response) as run:
            yield run

    @asynccontextmanager
    async def follow_user(
        self, *, user_id: str | None = None, after: str | None = None
    ) -> AsyncGenerator[AsyncEventStream]:
        """Iterate over the events of all of one's own runs, from now on or behind ``after``.

        Text and lines of logs are left out; ``follow`` has those. There is no end: leave the loop.
        Each event says with ``execution_id`` which run it is of. ``user_id`` is another member, for
        the organization's admins. Raises MemberNotFound, InsufficientPermissions.
        """
        resumption = UserResumption(self.tries, user_id, after)
        response = await self._open(resumption.request())
        async with AsyncEventStream(self._open, resumption, response) as events:
            yield events

    async def _open(self, request: Request) -> httpx2.Response:
        return await self._send(request, stream=True)

    async def _start(
        self, agent: str, input: Any, mode: calls.Mode, options: RunOptions
    ) -> Request:
        start = calls.start(agent, input, mode, options)
        if start.workspace is None:
            return start.request(None)
        return start.request((await self.upload_folder(start.workspace))["id"])

    async def _wait(self, execution_id: str) -> Execution:
        async with self.follow(execution_id) as run:
            async for event in run:
                if needs_a_person(event):
                    execution = await self.execution(execution_id)
                    if execution.settled:
                        return execution
        return await self.execution(execution_id)


class AsyncRun(AsyncEventStream):
    """The events of one run; iterating ends behind the event ``done``."""

    def __init__(
        self,
        look: Callable[[str], Awaitable[Execution]],
        reopen: Callable[[Request], Awaitable[httpx2.Response]],
        resumption: RunResumption,
        response: httpx2.Response,
    ) -> None:
        super().__init__(reopen, resumption, response)
        self.id = resumption.id
        self._look = look

    async def result(self) -> Execution:
        """The run as it stands now."""
        return await self._look(self.id)
