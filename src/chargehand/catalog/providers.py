"""The providers of models that there are, and what an installation needs to reach each. Pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType

SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider, by the name that agents give it.

    ``key_variable`` and ``url_variable`` are environment variables. Without ``default_url`` the
    installation has to say where it is; ``key_needed`` is False where a server may want none.
    """

    name: str
    title: str
    key_variable: str
    url_variable: str
    default_url: str | None
    key_needed: bool = True


_ALL = (
    Provider(
        name="openai",
        title="OpenAI, Responses API",
        key_variable="OPENAI_API_KEY",
        url_variable="CHARGEHAND_OPENAI_URL",
        default_url="https://api.openai.com/v1",
    ),
    Provider(
        name="openai-chat",
        title="OpenAI, Chat Completions API",
        key_variable="OPENAI_API_KEY",
        url_variable="CHARGEHAND_OPENAI_URL",
        default_url="https://api.openai.com/v1",
    ),
    Provider(
        name="anthropic",
        title="Anthropic",
        key_variable="ANTHROPIC_API_KEY",
        url_variable="CHARGEHAND_ANTHROPIC_URL",
        default_url="https://api.anthropic.com",
    ),
    Provider(
        name="google",
        title="Google Gemini",
        key_variable="GOOGLE_AI_API_KEY",
        url_variable="CHARGEHAND_GOOGLE_URL",
        default_url="https://generativelanguage.googleapis.com",
    ),
    Provider(
        name="azure",
        title="Azure OpenAI",
        key_variable="AZURE_OPENAI_API_KEY",
        url_variable="CHARGEHAND_AZURE_URL",
        default_url=None,
    ),
    Provider(
        name="openai-compatible",
        title="An OpenAI-compatible server (vLLM, Ollama, llama.cpp, …)",
        key_variable="CHARGEHAND_COMPATIBLE_KEY",
        url_variable="CHARGEHAND_COMPATIBLE_URL",
        default_url=None,
        key_needed=False,
    ),
)

VENDORS = MappingProxyType({provider.name: provider for provider in _ALL})
"""Every provider but the simulated one, which needs nothing."""


def remedy_for(name: str) -> str:
    """What to set so that a vendor is connected: a clause that ends no sentence."""
    vendor = VENDORS[name]
    variables = [vendor.url_variable] if vendor.default_url is None else []
    variables += [vendor.key_variable] if vendor.key_needed else []
    return (
        f"set {' and '.join(variables)} in the environment of the API and of the workers (or put "
        "them in CHARGEHAND_CREDENTIALS_FILE), then restart"
    )


def not_connected(name: str, connected: Collection[str]) -> str | None:
    """Why an agent cannot use a provider here, with the remedy; None where it can.

    ``connected`` are the vendors that this installation can reach.
    """
    if name == SIMULATED or name in connected:
        return None
    if name in VENDORS:
        return f"provider {name!r} is not connected: {remedy_for(name)}"
    return f"unknown provider {name!r}"


def without_credentials(text: str) -> str:
    """A text with its URLs as they may be shown: no user, no password, no query."""
    return re.sub(r"(https?://)(?:[^/\s]*@)?([^\s?#]*)(?:[?#]\S*)?", r"\1\2", text)
