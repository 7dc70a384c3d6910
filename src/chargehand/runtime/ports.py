"""What the loop asks of the outside: a model to call. Adapters implement it, tests vary it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from chargehand.kernel.errors import UpstreamFailed

Remedy = Literal["retry", "next_model", "give_up"]


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How long one call of a model may take, and how often it is made again (SPEC MOD-2)."""

    timeout_s: float = 60.0
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One request to one model.

    ``call_id`` is unique and known before the call is made; ``attempt`` counts from 1 within one
    step. ``messages`` is the whole history; a ``ModelRequest`` in it may carry ``instructions``.
    """

    call_id: str
    attempt: int
    model: str
    messages: Sequence[ModelMessage]
    instructions: str | None
    tools: Sequence[ToolDefinition]
    settings: ModelSettings
    output_schema: Mapping[str, Any] | None
    timeout_s: float


class ModelProvider(Protocol):
    """A vendor, or the simulator."""

    def stream(self, call: ModelCall) -> AsyncGenerator[str | ModelResponse, None]:
        """Yield the answer's text as it comes, then the whole answer as the last item.

        The last item carries ``usage``, ``finish_reason`` and ``provider_response_id``.
        Raises ModelCallFailed for every failure of the peer; closing the iterator aborts the call.
        """
        ...


class ModelCallFailed(UpstreamFailed):
    """A model call failed; ``remedy`` says what may help.

    ``retry``: the same model again, no sooner than ``retry_after_s`` (seconds) if that is set.
    ``next_model``: this model will not do it, another may. ``give_up``: the caller's own fault.
    ``partial`` is what had come before a stream broke: its tokens are billed.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: Remedy,
        status: int | None = None,
        retry_after_s: float | None = None,
        partial: ModelResponse | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, status=status, retry_after_s=retry_after_s)
        self.remedy: Remedy = remedy
        self.status = status
        self.retry_after_s = retry_after_s
        self.partial = partial
