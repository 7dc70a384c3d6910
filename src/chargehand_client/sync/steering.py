"""Runs steered, answered and begun anew."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from chargehand_client.calls import steering as calls
from chargehand_client.documents import EventDelivered
from chargehand_client.executions import Execution
from chargehand_client.options import ForkChanges
from chargehand_client.sync.connection import Connection


class Steering(Connection):
    def pause(self, execution_id: str, reason: str | None = None) -> Execution:
        """Pause a run: at once, or after the step in hand where it runs.

        Raises ExecutionNotFound, InsufficientPermissions, InvalidTransition.
        """
        return self._call(calls.told(execution_id, "pause", reason=reason))

    def resume(self, execution_id: str) -> Execution:
        """Let a paused run go on where it was paused. Raises as ``pause`` does."""
        return self._call(calls.told(execution_id, "resume"))

    def kill(self, execution_id: str) -> Execution:
        """End a run at once, whatever its worker does. Raises as ``pause`` does."""
        return self._call(calls.told(execution_id, "kill"))

    def send_input(self, execution_id: str, answer: Any, *, wait: int | None = None) -> Execution:
        """Answer the question that a run waits with; ``wait`` is the number of the wait meant.

        Raises InvalidInput, WaitClosed, and what ``pause`` raises.
        """
        return self._call(calls.answered(execution_id, answer, wait))

    def send_tool_results(
        self, execution_id: str, results: Sequence[Mapping[str, Any]], *, wait: int | None = None
    ) -> Execution:
        """Give results of your tools: ``{"call_id": …, "output": …}``, or ``"error"``.

        Raises InvalidInput, WaitClosed, and what ``pause`` raises.
        """
        return self._call(calls.told(execution_id, "input", tool_results=list(results), wait=wait))

    def approve(self, execution_id: str, wait: int, comment: str | None = None) -> Execution:
        """Approve the call that a run waits with; it is made when enough persons have.

        Raises WaitClosed, AlreadyApproved, and what ``pause`` raises.
        """
        return self._call(calls.told(execution_id, "approve", wait=wait, comment=comment))

    def deny(self, execution_id: str, wait: int, comment: str | None = None) -> Execution:
        """Deny the call that a run waits with; its model is told so.

        Raises WaitClosed, and what ``pause`` raises.
        """
        return self._call(calls.told(execution_id, "deny", wait=wait, comment=comment))

    def retry(self, execution_id: str, *, idempotency_key: str | None = None) -> Execution:
        """Go on, as a new run, from the last checkpoint of one that failed or was cancelled.

        Raises InvalidTransition, AgentNotExecutable, RateLimitExceeded, IdempotencyKeyReused.
        """
        return self._call(calls.begun(execution_id, "retry", idempotency_key, {}))

    def fork(
        self,
        execution_id: str,
        *,
        idempotency_key: str | None = None,
        **changes: Unpack[ForkChanges],
    ) -> Execution:
        """A new run from one of a run's steps, with what is changed; see ForkChanges.

        Raises InvalidInput, InvalidAgentConfig, and what ``retry`` raises.
        """
        return self._call(calls.begun(execution_id, "fork", idempotency_key, changes))

    def send_event(
        self, event_type: str, payload: Any = None, *, user: str | None = None
    ) -> EventDelivered:
        """Tell of something that happened: each run that waits for it goes on, once.

        With ``user`` only runs that this user started. Raises InvalidInput.
        """
        return self._call(calls.event(event_type, payload, user))
