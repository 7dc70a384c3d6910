"""Executions as they stand."""

from collections.abc import Iterator
from typing import Unpack

from chargehand_client.calls import executions as calls
from chargehand_client.documents import Log, Step, Subscription
from chargehand_client.executions import Execution
from chargehand_client.options import ExecutionFilters
from chargehand_client.sync.connection import Connection


class Executions(Connection):
    def executions(self, **filters: Unpack[ExecutionFilters]) -> Iterator[Execution]:
        """The executions that the key may see, newest first; see ExecutionFilters."""
        return self._list(calls.listed(filters))

    def execution(self, execution_id: str) -> Execution:
        """One execution as it stands now. Raises ExecutionNotFound."""
        return self._call(calls.one(execution_id))

    def steps(self, execution_id: str) -> Iterator[Step]:
        """The steps of a run, in their order. Raises ExecutionNotFound."""
        return self._list(calls.steps(execution_id))

    def logs(self, execution_id: str) -> Iterator[Log]:
        """The log of a run, in its order. Raises ExecutionNotFound, InsufficientPermissions."""
        return self._list(calls.logs(execution_id))

    def cancel(self, execution_id: str) -> Execution:
        """Cancel a run: at once, or within 2 s where it runs.

        Raises ExecutionNotFound, InsufficientPermissions, InvalidTransition (it has ended).
        """
        return self._call(calls.cancel(execution_id))

    def subscription_token(self, execution_id: str | None = None) -> Subscription:
        """What lets a page listen to a run, or to all runs of one's own, without a key.

        Raises ExecutionNotFound, InsufficientPermissions.
        """
        return self._call(calls.subscription_token(execution_id))
