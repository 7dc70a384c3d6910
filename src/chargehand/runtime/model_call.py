"""One model step: attempts, retries, what streams out, and what it cost."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import ModelResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from chargehand.agents.configuration import AgentConfig
from chargehand.catalog.models import find_model
from chargehand.catalog.pricing import TokenUsage
from chargehand.kernel.clock import milliseconds_between, now
from chargehand.runtime.broken_usage import usage_of_what_came
from chargehand.runtime.ports import CallPolicy, ModelCall, ModelCallFailed, ModelProvider
from chargehand.runtime.runs import Run
from chargehand.usage.records import UsageRecord, priced

LONGEST_PAUSE_S = 8.0
LONGEST_WAIT_S = 60.0
"""A provider that asks for more is waited for no longer; the next attempt may fail again."""


TextSink = Callable[[str], None]
ResetSink = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class ModelStep:
    """What a model step came to: an answer, or the failure that ended it."""

    response: ModelResponse | None = None
    failure: ModelCallFailed | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: list[UsageRecord] = field(default_factory=list[UsageRecord])
    call_id: str = ""


async def call_model(
    run: Run,
    provider: ModelProvider,
    tools: Sequence[ToolDefinition],
    on_text: TextSink,
    on_reset: ResetSink,
    policy: CallPolicy,
) -> ModelStep:
    """Ask the run's model for its next answer, trying again where that may help.

    ``on_text`` gets the text as it comes; ``on_reset`` is awaited when what came so far does not
    count. Never raises ModelCallFailed: it is in the result, with every attempt.
    """
    step = ModelStep()
    for attempt in range(1, policy.retries + 2):
        call = _call(run, attempt, tools, policy.timeout_s)
        run.require_fresh_lease()
        streamed = await _attempt(run, provider, call, step, on_text)
        if step.failure is None or step.failure.remedy != "retry" or attempt > policy.retries:
            break
        if streamed:
            await on_reset("the model call failed and is tried again")
        await asyncio.sleep(pause_s(step.failure, attempt))
    return step


async def _attempt(
    run: Run, provider: ModelProvider, call: ModelCall, step: ModelStep, on_text: TextSink
) -> bool:
    """One call; returns whether text of it has left."""
    model, started_at, streamed = run.config.model, now(), False
    step.call_id = _short(call)
    step.response, step.failure = None, None
    try:
        async with contextlib.aclosing(provider.stream(call)) as items:
            async for item in items:
                if isinstance(item, ModelResponse):
                    step.response = item
                else:
                    streamed = True
                    on_text(item)
    except ModelCallFailed as failure:
        step.failure = failure
    ended_at = now()
    used = _usage(call, step)
    tokens = token_usage(used) if used is not None else TokenUsage()
    if used is not None:
        step.usage.append(
            priced(step.call_id, model.provider, model.name, "installation", tokens, ended_at)
        )
    step.attempts.append(
        {
            "call_id": step.call_id,
            "provider": model.provider,
            "model": model.name,
            "started_at": started_at.isoformat(),
            "duration_ms": milliseconds_between(started_at, ended_at),
            "error": step.failure.message if step.failure else None,
            "status": step.failure.status if step.failure else None,
            "remedy": step.failure.remedy if step.failure else None,
            "retry_after_s": step.failure.retry_after_s if step.failure else None,
            "tokens": tokens.total_tokens,
        }
    )
    return streamed


def _usage(call: ModelCall, step: ModelStep) -> RequestUsage | None:
    """What the attempt used, also where it broke; None where nothing came."""
    if step.response is not None:
        return step.response.usage
    partial = step.failure.partial if step.failure is not None else None
    return None if partial is None else usage_of_what_came(call, partial)


def _call(run: Run, attempt: int, tools: Sequence[ToolDefinition], timeout_s: float) -> ModelCall:
    lease = run.lease
    return ModelCall(
        call_id=f"{lease.execution_id}/{lease.epoch}.{run.steps + 1}.{attempt}",
        attempt=attempt,
        model=run.config.model.name,
        messages=run.history,
        instructions=run.config.instructions or None,
        tools=tools,
        settings=model_settings(run.config, run.config.limits.tokens - tokens_used(run)),
        output_schema=run.config.output_schema,
        timeout_s=timeout_s,
    )


def _short(call: ModelCall) -> str:
    """``epoch.step.attempt``: unique within an execution."""
    return call.call_id.rpartition("/")[2]


def pause_s(failure: ModelCallFailed | None, attempt: int) -> float:
    """How long to wait before the next attempt: what the provider asks, else with jitter."""
    if failure is not None and failure.retry_after_s is not None:
        return min(failure.retry_after_s, LONGEST_WAIT_S)
    backoff = min(LONGEST_PAUSE_S, 0.25 * 2**attempt)
    return backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


def token_usage(usage: RequestUsage) -> TokenUsage:
    """The tokens of one response, as priced; a total below its own parts is raised to their sum."""
    return TokenUsage(
        input_tokens=max(usage.input_tokens, usage.cache_read_tokens + usage.cache_write_tokens),
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=max(usage.output_tokens, usage.output_reasoning_tokens),
        reasoning_tokens=usage.output_reasoning_tokens,
    )


SETTING_NAMES = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "stop": "stop_sequences",
    "seed": "seed",
    "reasoning_effort": "thinking",
}
"""The configuration's names → pydantic-ai's."""


def tokens_used(run: Run) -> int:
    return run.input_tokens + run.output_tokens


def model_settings(config: AgentConfig, tokens_left: int) -> ModelSettings:
    """The parameters to send: what is set, else the catalogue's default (SPEC AGT-2).

    No answer is asked for that is longer than the tokens that the run has left, as far as the
    provider lets so few be asked for. Of a model that the catalogue does not know, only what is
    set is sent.
    """
    entry = find_model(config.model.provider, config.model.name)
    values = ((name, getattr(config.model, name)) for name in SETTING_NAMES)
    given = {name: value for name, value in values if value not in (None, (), [])}
    if entry is not None:
        given = entry.settings(given, tokens_left)
    elif "max_tokens" in given:
        given["max_tokens"] = max(1, min(given["max_tokens"], tokens_left))
    settings: dict[str, Any] = {SETTING_NAMES[name]: value for name, value in given.items()}
    if config.model.extra:
        settings["extra_body"] = dict(config.model.extra)
    return ModelSettings(**settings)
