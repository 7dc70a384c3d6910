"""Runs: start them, wait for them, follow their events."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Unpack

import httpx2

from chargehand_client.calls import runs as calls
from chargehand_client.connecting import stranger
from chargehand_client.executions import Execution
from chargehand_client.options import RunOptions
from chargehand_client.requests import Call, Request
from chargehand_client.resuming import RunResumption, UserResumption, needs_a_person
from chargehand_client.sync.executions import Executions
from chargehand_client.sync.steering import Steering
from chargehand_client.sync.streams import EventStream
from chargehand_client.sync.uploads import Uploads


class Runs(Executions, Steering, Uploads):
    def run(self, agent: str, input: Any, **options: Unpack[RunOptions]) -> Execution:
        """Run an agent and wait until the run has ended or waits for a person; see RunOptions.

        A run that failed is returned, not raised: look at ``status`` and ``error``. Raises
        AgentNotFound, AgentNotExecutable, InvalidInput, RateLimitExceeded, IdempotencyKeyReused,
        and what ``upload_folder`` raises.
        """
        request = self._start(agent, input, "wait", options)
        execution = self._call(Call(request, Execution.of))
        return execution if execution.settled else self._wait(execution.id)

    def start(self, agent: str, input: Any, **options: Unpack[RunOptions]) -> Execution:
        """Start a run and return at once, as soon as it is stored. Raises as ``run`` does."""
        return self._call(Call(self._start(agent, input, "async", options), Execution.of))

    @contextmanager
    def stream(self, agent: str, input: Any, **options: Unpack[RunOptions]) -> Generator["Run"]:
        """Start a run and iterate over its events as they come. Raises as ``run`` does.

        Leaving the block stops listening; it does not stop the run.
        """
        response = self._open(self._start(agent, input, "stream", options))
        execution_id = response.headers.get("X-Execution-Id")
        if execution_id is None:
            response.close()
            raise stranger(response, self.url)
        resumption = RunResumption(self.url, execution_id, self.tries)
        with Run(self.execution, self._open, resumption, response) as run:
            yield run

    @contextmanager
    def follow(self, execution_id: str, *, after: str | None = None) -> Generator["Run"]:
        """Iterate over the events of a run: all of them, or those behind the event ``after``.

        Raises ExecutionNotFound, InsufficientPermissions.
        """
        resumption = RunResumption(self.url, execution_id, self.tries, after)
        response = self._open(resumption.request())
        with Run(self.execution, self._open, resumption, response) as run:
            yield run

    @contextmanager
    def follow_user(
        self, *, user_id: str | None = None, after: str | None = None
    ) -> Generator[EventStream]:
        """Iterate over the events of all of one's own runs, from now on or behind ``after``.

        Text and lines of logs are left out; ``follow`` has those. There is no end: leave the loop.
        Each event says with ``execution_id`` which run it is of. ``user_id`` is another member, for
        the organization's admins. Raises MemberNotFound, InsufficientPermissions.
        """
        resumption = UserResumption(self.tries, user_id, after)
        response = self._open(resumption.request())
        with EventStream(self._open, resumption, response) as events:
            yield events

    def _open(self, request: Request) -> httpx2.Response:
        return self._send(request, stream=True)

    def _start(self, agent: str, input: Any, mode: calls.Mode, options: RunOptions) -> Request:
        start = calls.start(agent, input, mode, options)
        if start.workspace is None:
            return start.request(None)
        return start.request(self.upload_folder(start.workspace)["id"])

    def _wait(self, execution_id: str) -> Execution:
        with self.follow(execution_id) as run:
            for event in run:
                if needs_a_person(event):
                    execution = self.execution(execution_id)
                    if execution.settled:
                        return execution
        return self.execution(execution_id)


class Run(EventStream):
    """The events of one run; iterating ends behind the event ``done``."""

    def __init__(
        self,
        look: Callable[[str], Execution],
        reopen: Callable[[Request], httpx2.Response],
        resumption: RunResumption,
        response: httpx2.Response,
    ) -> None:
        super().__init__(reopen, resumption, response)
        self.id = resumption.id
        self._look = look

    def result(self) -> Execution:
        """The run as it stands now."""
        return self._look(self.id)
