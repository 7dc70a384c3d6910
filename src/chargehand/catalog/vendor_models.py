"""The vendors' models (MOD-3): names, windows and prices from genai-prices, the rest from traits.

Pure: both libraries are data here, and none of the vendors' SDKs is imported.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from chargehand.catalog.anthropic_models import anthropic_traits
from chargehand.catalog.entries import ModelEntry
from chargehand.catalog.google_models import google_traits
from chargehand.catalog.library_prices import library_prices
from chargehand.catalog.openai_models import openai_traits
from chargehand.catalog.vendor_traits import Traits


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a provider's models come from.

    ``sellers`` are the library's names: the first that knows a model states its price. ``names``
    is what its own names look like; the library also lists other sellers' spellings.
    """

    sellers: tuple[str, ...]
    traits: Callable[[str, str], Traits | None]
    names: re.Pattern[str]


_OPENAI_NAMES = re.compile(r"(chatgpt-|gpt-\d|o\d)")
_SOURCES = {
    "openai": _Source(("openai",), openai_traits, _OPENAI_NAMES),
    "openai-chat": _Source(("openai",), openai_traits, _OPENAI_NAMES),
    # A deployment usually has its model's name. Where the library has no price of Azure's own it
    # takes OpenAI's (Provider.fallback_model_providers), and so do we.
    "azure": _Source(("azure", "openai"), openai_traits, _OPENAI_NAMES),
    "anthropic": _Source(("anthropic",), anthropic_traits, re.compile(r"claude-")),
    "google": _Source(("google",), google_traits, re.compile(r"gemini-\d")),
}


def find_vendor_model(provider: str, name: str) -> ModelEntry | None:
    """The model of this name, alias or dated version; None where the libraries know none.

    What it takes goes by ``name`` and not by what the library files it under: an alias may reason
    where its family does not.
    """
    source = _SOURCES.get(provider)
    traits = source.traits(provider, name) if source else None
    if source is None or traits is None:
        return None
    for seller in source.sellers:
        if model := _seller(seller).find_model(name):
            return _entry(provider, name, traits, seller, model)
    return None


def vendor_models(provider: str) -> Iterator[ModelEntry]:
    """The provider's models, each once, under the name that the library files it under."""
    source = _SOURCES.get(provider)
    if source is None:
        return
    names = (model.id for model in _seller(source.sellers[-1]).models)
    for name in names:
        if source.names.match(name) and (entry := find_vendor_model(provider, name)):
            yield entry


def _seller(name: str) -> Provider:
    return next(provider for provider in get_snapshot().providers if provider.id == name)


def _entry(provider: str, name: str, traits: Traits, seller: str, model: ModelInfo) -> ModelEntry:
    return ModelEntry(
        provider=provider,
        name=name,
        context_window=model.context_window,
        max_output_tokens=traits.max_output_tokens,
        capabilities=traits.capabilities,
        parameters=traits.parameters,
        excludes=traits.excludes,
        budgets=traits.budgets,
        prices=library_prices(seller, model),
    )
