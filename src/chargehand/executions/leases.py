"""The right to write a run, and what takes it away (SPEC EXE-5)."""

from dataclasses import dataclass
from typing import Any

from chargehand.kernel.errors import Conflict
from chargehand.kernel.identifiers import ExecutionId, OrganizationId, UserId


class LeaseLost(Conflict):
    """Another worker owns the run now, or it has ended: whoever gets this must stop."""

    code = "LeaseLost"


class EventsLost(Exception):
    """A crash of PostgreSQL took events that listeners may have been told: see ``last_event``."""


@dataclass(slots=True)
class Lease:
    """The right to write one run, for as long as its epoch stands in the live row."""

    organization_id: OrganizationId
    execution_id: ExecutionId
    user_id: UserId
    epoch: int
    worker: str
    last_event: int = 0
    """The last event that listeners may have been told. Nobody else writes events, so a live row
    that stands before it has lost some: text does not wait for the disk. Their numbers are not used
    again, and whoever lost them tells listeners to drop that text, and tells it once more."""


def require_lease(row: Any, lease: Lease) -> None:
    if row is None:
        raise LeaseLost(
            f"Worker {lease.worker} no longer owns execution {lease.execution_id} "
            f"(epoch {lease.epoch}): its lease ran out and another took over, or the run ended."
        )


def require_events(stored: int, lease: Lease, *, adding: int) -> None:
    """Raise EventsLost unless all events that may have been told are stored; note those added."""
    if stored < lease.last_event:
        raise EventsLost(f"Of {lease.last_event} events {stored} are left.")
    lease.last_event = stored + adding
