"""OpenAI's models: what each takes, by the Responses API and by Chat Completions. Pure.

What reasons, and with which efforts, says pydantic-ai's profile; what it leaves open is said here,
by the pages below https://platform.openai.com/docs/models and …/docs/api-reference.
"""

import re
from typing import cast

from pydantic_ai.profiles.openai import OpenAIModelProfile, openai_model_profile

from chargehand.catalog.entries import Capability, Parameter
from chargehand.catalog.vendor_traits import (
    EXTRA,
    PENALTY,
    TOP_P,
    Traits,
    limit_of,
    max_tokens,
    reasoning_effort,
    temperature,
)

# Not for text in a dialogue; or fine-tuned; or wants its own built-in tools; or takes no system
# message and no tools (o1-mini, o1-preview). ":" also marks other sellers' names.
_OTHER_PURPOSE = re.compile(
    r"instruct|audio|realtime|transcribe|translate|whisper|tts|image|vision|search|research|live"
    r"|:|\.ft-|^o1-mini|^o1-preview"
)
_WITHOUT_REASONING = ("gpt-3.5-turbo", "gpt-4", "chatgpt-4o", "gpt-5-chat")
"""What else does not reason, in its profile, is a model that the profile does not know."""

_ONLY_BY_RESPONSES = re.compile(r"-pro\b|codex")

_TEXT_ONLY = re.compile(r"gpt-3\.5|o3-mini|gpt-4(?![.o]|-turbo(?!-preview))")
_WITHOUT_PDF = re.compile(r"gpt-4-turbo")
# The profile claims JSON schemas for all and leaves the error to the API; those before
# gpt-4o-2024-08-06 have none (docs/guides/structured-outputs).
_WITHOUT_SCHEMA = re.compile(r"gpt-3\.5|gpt-4(?![.o])|gpt-4o-2024-05-13|chatgpt-4o")
_WITHOUT_TOOLS = re.compile(r"chatgpt-4o|gpt-3\.5-turbo-0301")

_LIMITS = {
    "gpt-3.5-turbo": 4_096,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-1106": 4_096,
    "gpt-4-0125": 4_096,
    "gpt-4-turbo": 4_096,
    "gpt-4o": 16_384,
    "gpt-4o-2024-05-13": 4_096,
    "chatgpt-4o": 16_384,
    "gpt-4.1": 32_768,
    "gpt-4.5": 16_384,
    "gpt-5-": 128_000,
    "gpt-5-pro": 272_000,
    "gpt-5-chat": 16_384,
    "gpt-5.1": 128_000,
    "gpt-5.1-chat": 16_384,
    "gpt-5.2": 128_000,
    "gpt-5.2-chat": 16_384,
    "o1": 100_000,
    "o3": 100_000,
    "o4-mini": 100_000,
}
"""Most output tokens, by the beginning of the name; of newer models we know none for sure."""

# "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16"
_LEAST_BY_RESPONSES = 16
_MOST_STOPS = 4
_ONLY_UNREASONED = frozenset({"temperature", "top_p"})
_UNPINNED_EFFORTS = ("low", "medium", "high")
"""Where the profile pins none, the model is newer than those that took ``minimal``."""


def openai_traits(provider: str, name: str) -> Traits | None:
    """By ``openai`` (Responses), ``openai-chat`` or ``azure``; None is no model to talk to so."""
    profile = cast("OpenAIModelProfile", openai_model_profile(name))
    reasons = profile.get("supports_thinking", False)
    if _OTHER_PURPOSE.search(name) or not (reasons or name.startswith(_WITHOUT_REASONING)):
        return None
    if provider != "openai" and _ONLY_BY_RESPONSES.search(name):
        return None
    limit = limit_of(name if name != "gpt-5" else "gpt-5-", _LIMITS)
    always = profile.get("thinking_enabled_by_default", False)
    parameters = {
        "max_tokens": max_tokens(
            limit, thinks=always, minimum=_LEAST_BY_RESPONSES if provider == "openai" else 1
        ),
        "extra": EXTRA,
    }
    if not always:
        parameters |= {"temperature": temperature(2, default=True), "top_p": TOP_P}
    if reasons:
        parameters["reasoning_effort"] = reasoning_effort(
            profile.get("openai_reasoning_efforts", _UNPINNED_EFFORTS)
        )
    if provider != "openai":
        parameters |= _only_by_chat(reasons=reasons)
    return Traits(
        max_output_tokens=limit,
        capabilities=_capabilities(provider, name),
        parameters=parameters,
        excludes={"reasoning_effort": _ONLY_UNREASONED} if reasons and not always else {},
    )


def _only_by_chat(*, reasons: bool) -> dict[str, Parameter]:
    seed = {"seed": Parameter(kind="integer")}
    if reasons:  # "Unsupported parameter: 'stop' is not supported with this model"; penalties too
        return seed
    return {
        **seed,
        "frequency_penalty": PENALTY,
        "presence_penalty": PENALTY,
        "stop": Parameter(kind="strings", maximum=_MOST_STOPS),
    }


def _capabilities(provider: str, name: str) -> frozenset[Capability]:
    # "file" for all: Responses reads text files, and for the other two pydantic-ai makes them text.
    found: set[Capability] = {"streaming", "file"}
    if not _WITHOUT_TOOLS.match(name):
        found.add("tools")
    if not _WITHOUT_SCHEMA.match(name):
        found.add("structured_output")
    if not _TEXT_ONLY.match(name):
        found.add("image")
        # Azure's chat completions take no documents (pydantic_ai.providers.azure).
        if provider != "azure" and not _WITHOUT_PDF.match(name):
            found.add("pdf")
    return frozenset(found)
