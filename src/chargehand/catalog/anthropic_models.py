"""Anthropic's models: what each takes by the Messages API. Pure.

What pydantic-ai's profile leaves open is said here, by the models overview and the pages on
extended thinking and PDF support below https://docs.claude.com/en/docs.
"""

import re
from typing import cast

from pydantic_ai.profiles.anthropic import (
    ANTHROPIC_THINKING_BUDGET_MAP,
    AnthropicModelProfile,
    anthropic_model_profile,
)

from chargehand.catalog.entries import Capability, Parameter
from chargehand.catalog.vendor_traits import (
    EFFORTS,
    EXTRA,
    TOP_P,
    Traits,
    limit_of,
    max_tokens,
    reasoning_effort,
    temperature,
)

_LEGACY = re.compile(r"claude-(v?[12]|instant)")
_WITHOUT_THINKING = re.compile(r"claude-3(?![.-]7)")
_WITHOUT_DOCUMENTS = re.compile(r"claude-3-(haiku|sonnet|opus)")
# "`temperature` and `top_p` cannot both be specified for this model": since Opus 4.1.
_ONE_OF_TWO = re.compile(r"claude-(opus|sonnet|haiku)-4[.-][1-9](?!\d)")

_LIMITS = {
    "claude-3-": 4_096,
    "claude-3-5-": 8_192,
    "claude-3-7-": 64_000,
    "claude-opus-4": 32_000,
    "claude-sonnet-4": 64_000,
}
"""Most output tokens of the models that the profile gives none for."""


def anthropic_traits(_provider: str, name: str) -> Traits | None:
    """None for what the Messages API does not serve."""
    if _LEGACY.match(name) or not name.startswith("claude-"):
        return None
    profile = cast("AnthropicModelProfile", anthropic_model_profile(name) or {})
    limit = profile.get("anthropic_max_output_tokens") or limit_of(name, _LIMITS)
    thinks = not _WITHOUT_THINKING.match(name)
    unasked = profile.get("thinking_enabled_by_default", False)
    sampled = not profile.get("anthropic_disallows_sampling_settings", False)
    parameters = {
        "max_tokens": max_tokens(limit, thinks=unasked),
        "stop": Parameter(kind="strings"),
        "extra": EXTRA,
    }
    if sampled:
        parameters |= {"temperature": temperature(1, default=not unasked), "top_p": TOP_P}
    if thinks:
        parameters["reasoning_effort"] = reasoning_effort(_efforts(profile))
    return Traits(
        max_output_tokens=limit,
        capabilities=_capabilities(name),
        parameters=parameters,
        excludes=_excludes(name) if sampled else {},
        budgets=_budgets(profile) if thinks else {},
    )


def _efforts(profile: AnthropicModelProfile) -> tuple[str, ...]:
    # Efforts by name begin with "low"; where thinking has a budget instead, any is one.
    return EFFORTS[1:] if profile.get("anthropic_supports_effort", False) else EFFORTS


def _budgets(profile: AnthropicModelProfile) -> dict[str, int]:
    if profile.get("anthropic_supports_adaptive_thinking", False):
        return {}
    budgets = ANTHROPIC_THINKING_BUDGET_MAP.items()
    return {effort: budget for effort, budget in budgets if isinstance(effort, str)}


def _excludes(name: str) -> dict[str, frozenset[str]]:
    """Thinking takes no other temperature, and a ``top_p`` only of 0.95 and above."""
    excludes = {"reasoning_effort": frozenset({"temperature", "top_p"})}
    if _ONE_OF_TWO.match(name):
        excludes["top_p"] = frozenset({"temperature"})
    return excludes


def _capabilities(name: str) -> frozenset[Capability]:
    # JSON by a schema for all: where the API has none, the adapter asks for it in the prompt.
    found: set[Capability] = {"streaming", "tools", "structured_output", "image"}
    if not _WITHOUT_DOCUMENTS.match(name):
        found |= {"pdf", "file"}
    return frozenset(found)
