"""Google's models: what each takes by the Gemini API. Pure.

What pydantic-ai's profile leaves open is said here, by https://ai.google.dev/gemini-api/docs: the
pages models, thinking, and api/generate-content (GenerationConfig).
"""

import re
from typing import cast

from pydantic_ai.profiles.google import GoogleModelProfile, google_model_profile

from chargehand.catalog.entries import Capability, Parameter
from chargehand.catalog.vendor_traits import (
    EFFORTS,
    TOP_P,
    Traits,
    limit_of,
    max_tokens,
    reasoning_effort,
    temperature,
)

_OTHER_PURPOSE = re.compile(
    r"image|tts|audio|live|embedding|omni|nano|robotics|vision|computer-use"
)
_TEXT_ONLY = re.compile(r"gemini-(pro$|1\.0)")
# The one family that thinks only when asked to; its budgets begin above what "minimal" asks for.
_ON_REQUEST = "gemini-2.5-flash-lite"

_LIMITS = {
    "gemini-1.5": 8_192,
    "gemini-2.0": 8_192,
    "gemini-2.5": 65_536,
    "gemini-3-": 65_536,
}
"""Most output tokens, by the beginning of the name; of newer models we know none for sure."""

_MOST_STOPS = 5
_SEED_BITS = 31


def google_traits(_provider: str, name: str) -> Traits | None:
    """None for what is no Gemini, and for a Gemini that is not for text."""
    if not name.startswith("gemini-") or _OTHER_PURPOSE.search(name):
        return None
    profile = cast("GoogleModelProfile", google_model_profile(name) or {})
    thinks = profile.get("supports_thinking", False)
    unasked = thinks and not name.startswith(_ON_REQUEST)
    limit = limit_of(name, _LIMITS)
    # No penalties ("Penalty is not enabled for this model"), and no extra: GoogleModel drops it.
    parameters = {
        "temperature": temperature(2, default=not unasked),
        "max_tokens": max_tokens(limit, thinks=unasked),
        "top_p": TOP_P,
        "stop": Parameter(kind="strings", maximum=_MOST_STOPS),
        "seed": Parameter(kind="integer", minimum=-(2**_SEED_BITS), maximum=2**_SEED_BITS - 1),
    }
    if thinks:
        parameters["reasoning_effort"] = reasoning_effort(_efforts(name, profile))
    return Traits(max_output_tokens=limit, capabilities=_capabilities(name), parameters=parameters)


def _efforts(name: str, profile: GoogleModelProfile) -> tuple[str, ...]:
    if name.startswith(_ON_REQUEST):
        return EFFORTS[1:]
    levels = profile.get("google_thinking_levels")
    return EFFORTS if levels is None else tuple(level.lower() for level in levels)


def _capabilities(name: str) -> frozenset[Capability]:
    if _TEXT_ONLY.match(name):
        return frozenset({"streaming", "tools"})
    return frozenset({"streaming", "tools", "structured_output", "image", "pdf", "file"})
