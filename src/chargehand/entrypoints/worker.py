"""A worker process: takes runs from the queues, keeps their leases, hands them over at the end."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from chargehand.entrypoints.timers import serve_timers
from chargehand.executions import recovery
from chargehand.executions.answers import expire
from chargehand.executions.endings import Ending, finish
from chargehand.executions.leases import LeaseLost
from chargehand.executions.live import WAKE_CHANNEL, Bells
from chargehand.executions.publishing import Publishing
from chargehand.kernel import jobs
from chargehand.kernel.bells import Listener
from chargehand.kernel.database import TROUBLES, Database
from chargehand.kernel.identifiers import ExecutionId, OrganizationId
from chargehand.kernel.jobs import Doorbell
from chargehand.runtime.claiming import take
from chargehand.runtime.loop import advance
from chargehand.runtime.ports import CallPolicy, ModelProvider
from chargehand.runtime.retelling import journalled
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.toolset import CapabilityTools, Toolset
from chargehand.runtime.workspaces import Workspace, Workspaces
from chargehand.storage.contents import StoredFile

SWEEP_S = 1.0
SWEEP_PAUSE = timedelta(seconds=2)

log = structlog.get_logger()


def worker_name() -> str:
    """``host:pid:suffix``: says where to look, and is never used twice."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


@dataclass(slots=True)
class Worker:
    """Runs what it claims; see ``serve``."""

    database: Database
    bells: Bells
    doorbell: Doorbell
    providers: Mapping[str, ModelProvider]
    tools: Mapping[str, CapabilityTools]
    workspaces: Workspaces
    lease_s: float
    max_losses: int = 3
    call_policy: CallPolicy = field(default_factory=CallPolicy)
    publishing: Publishing | None = None
    drain_s: float = 20.0
    """How long a step in hand may go on once the worker has been told to end."""
    name: str = field(default_factory=worker_name)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    held: dict[ExecutionId, Run] = field(default_factory=dict[ExecutionId, Run])

    async def handle(self, organization: OrganizationId, execution: ExecutionId) -> None:
        """Take one run and advance it: the job boundary, where a broad ``except`` records."""
        if self.draining.is_set():
            return
        with structlog.contextvars.bound_contextvars(
            execution=str(execution), organization=str(organization)
        ):
            run: Run | None = None
            try:
                run = await take(
                    self.database, organization, execution, worker=self.name, lease_s=self.lease_s
                )
                if run is not None:
                    await self._advance(run)
            except LeaseLost as lost:
                log.warning("lease_lost", reason=lost.message)
            except TROUBLES as error:
                # Not the run's fault: its lease runs out, and somebody claims it again.
                log.warning("database_lost", error=str(error))
            except Exception:
                log.exception("execution_crashed")
                if run is not None:
                    await self._fail(run)
            finally:
                self.bells.new_events(execution, run.lease.user_id if run is not None else None)

    async def _advance(self, run: Run) -> None:
        structlog.contextvars.bind_contextvars(agent=str(run.spender.agent_id))
        with self._holding(run):
            self.bells.new_events(run.lease.execution_id, run.lease.user_id)
            await self._take_steps(run)

    @contextlib.contextmanager
    def _holding(self, run: Run) -> Generator[None]:
        """Keep the lease of ``run`` meanwhile; an earlier claim of the same run has lost it.

        A second job for a run that is held claims nothing, and so must not let go of it either.
        """
        execution = run.lease.execution_id
        if (earlier := self.held.get(execution)) is not None:
            earlier.interrupt(lost=True)
        self.held[execution] = run
        try:
            yield
        finally:
            if self.held.get(execution) is run:
                del self.held[execution]

    async def _take_steps(self, run: Run) -> None:
        toolset = Toolset(run.config.capabilities, self.tools, of_caller=run.client_tools)
        outside = Outside(
            self.database,
            self.bells,
            self.doorbell,
            self.providers,
            self.draining.is_set,
            self.max_losses,
            self.call_policy,
        )
        async with self._workspace(run) as workspace:
            await advance(run, toolset, workspace, outside)

    @contextlib.asynccontextmanager
    async def _workspace(self, run: Run) -> AsyncGenerator[Workspace | None]:
        if run.workspace_files is None:
            yield None
            return
        lease = run.lease
        files = [StoredFile.of_json(line) for line in run.workspace_files]
        async with self.workspaces.open(
            self.database, lease.organization_id, lease.execution_id, files
        ) as workspace:
            yield workspace

    async def _fail(self, run: Run) -> None:
        """A defect of ours ends the run, so that it does not come back for ever."""
        ending = Ending(
            status="failed",
            output="".join(run.partial_text) or None,
            error_code="ExecutionFailed",
            error_message="Something went wrong inside Chargehand while it ran this. Tell your "
            f"operator: the log of worker {self.name} has the cause.",
        )
        with contextlib.suppress(LeaseLost, *TROUBLES):
            await journalled(run, self.database, lambda c: finish(c, run.lease, ending))

    def wake(self, _channel: str, payload: str) -> None:
        """A signal has come for a run, perhaps one of ours."""
        run = self.held.get(ExecutionId(UUID(payload)))
        if run is not None:
            run.interrupt()

    async def keep_leases(self) -> None:
        """Renew at three tenths of the lease, and wait no longer than that for an answer."""
        while True:
            await asyncio.sleep(self.lease_s * 0.3)
            with _database_troubles("leases_not_renewed"):
                async with asyncio.timeout(self.lease_s * 0.3):
                    await self._renew()

    async def drop_leases(self) -> None:
        """Interrupt what could not be renewed in time, whatever the renewal is waiting for."""
        while True:
            await asyncio.sleep(self.lease_s * 0.1)
            for run in list(self.held.values()):
                if time.monotonic() >= run.lease_until:
                    run.interrupt(lost=True)

    async def _renew(self) -> None:
        runs = list(self.held.values())
        if not runs:
            return
        pairs = [(run.lease.execution_id, run.lease.epoch) for run in runs]
        lease_until = time.monotonic() + self.lease_s
        async with self.database.across() as connection:
            kept = await recovery.renew(connection, pairs, timedelta(seconds=self.lease_s))
        for run in runs:
            if run.lease.execution_id in kept:
                run.lease_until = lease_until
            elif self.held.get(run.lease.execution_id) is run:
                run.interrupt(lost=True)

    async def sweep(self) -> None:
        """Each second: jobs for runs that are due and have none; signals whose ring was lost."""
        while True:
            await asyncio.sleep(SWEEP_S)
            with _database_troubles("sweep_failed"):
                async with self.database.across() as connection:
                    swept = await recovery.sweep(connection, pause=SWEEP_PAUSE)
                    woken = await recovery.woken(connection, list(self.held))
                    late = await recovery.run_out(connection)
                for row in late:
                    swept += await self._expire(row)
                if swept:
                    self.doorbell.ring()
                for execution in woken:
                    if (run := self.held.get(execution)) is not None:
                        run.interrupt()

    async def _expire(self, row: Any) -> bool:
        """Do what a wait says of its deadline, unless it has been answered meanwhile."""
        execution = ExecutionId(row["execution_id"])
        async with self.database.hot(row["organization_id"]) as connection:
            expired = await expire(connection, execution)
        if expired:
            self.bells.new_events(execution, row["user_id"])
        return expired


@contextlib.contextmanager
def _database_troubles(event: str) -> Generator[None]:
    """Trouble with the database in a background loop is told, and the loop goes on."""
    try:
        yield
    except TROUBLES as error:
        log.warning(event, error=str(error))


async def serve(
    worker: Worker,
    *,
    url: str,
    queues: Sequence[str],
    concurrency: int,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
) -> None:
    """Work until ``stop`` is set; then finish the steps in hand, hand the runs over, and return.

    ``url`` is the system role's, and must reach PostgreSQL directly, for the queue's LISTEN.
    """
    await worker.workspaces.start()
    listener = Listener(worker.bells.wire, [WAKE_CHANNEL], worker.wake)
    listener.start()
    draining = asyncio.create_task(_drain_at(stop, worker))
    background = [
        asyncio.create_task(work)
        for work in (
            worker.keep_leases(),
            worker.drop_leases(),
            worker.sweep(),
            serve_timers(worker.database),
            *([worker.publishing.serve()] if worker.publishing is not None else []),
        )
    ]
    on_ready(worker.name)
    try:
        await _consume(worker, url, queues, concurrency, stop, background)
    finally:
        for task in (*background, draining):
            task.cancel()
        await asyncio.gather(*background, draining, return_exceptions=True)
        await listener.stop()
        await worker.workspaces.stop()
        await worker.doorbell.close()
        await worker.bells.close()


async def _consume(
    worker: Worker,
    url: str,
    queues: Sequence[str],
    concurrency: int,
    stop: asyncio.Event,
    background: Sequence[asyncio.Task[None]],
) -> None:
    """Consume until ``stop``. A worker that cannot keep its leases any more drains and fails."""
    consuming = asyncio.create_task(
        jobs.consume(url, queues, worker.handle, concurrency=concurrency, stop=stop)
    )
    await asyncio.wait({consuming, *background}, return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in background if task.done()]
    if ended:
        stop.set()
    await consuming
    for task in ended:
        task.result()


async def _drain_at(stop: asyncio.Event, worker: Worker) -> None:
    """Runs are handed over at their next step, or after ``drain_s`` in the middle of one."""
    await stop.wait()
    worker.draining.set()
    await asyncio.sleep(worker.drain_s)
    for run in list(worker.held.values()):
        run.interrupt(evicted=True)
