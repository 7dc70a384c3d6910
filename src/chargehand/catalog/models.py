"""The models that are known, and how one is found (MOD-3). Pure."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from functools import cache, lru_cache

from chargehand.catalog.entries import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_TEMPERATURE,
    Capability,
    ModelEntry,
    Parameter,
)
from chargehand.catalog.pricing import Price
from chargehand.catalog.providers import SIMULATED, VENDORS

_NAMES_KEPT = 4096


@lru_cache(maxsize=_NAMES_KEPT)
def find_model(provider: str, name: str) -> ModelEntry | None:
    """The entry, or None: an unknown model is allowed, its price and limits are unknown.

    ``name`` may also be an alias or a dated version of a vendor's model; the entry has that name.
    """
    if provider not in VENDORS:
        return _simulated_by_name().get(name) if provider == SIMULATED else None
    # Here and not above: the libraries' data is not loaded by what only wants the simulator.
    from chargehand.catalog.vendor_models import find_vendor_model

    return find_vendor_model(provider, name)


@cache
def entries() -> tuple[ModelEntry, ...]:
    """Every model under its main name: aliases and dated versions are only found."""
    from chargehand.catalog.vendor_models import vendor_models

    vendors = (entry for provider in VENDORS for entry in vendor_models(provider))
    return (*_simulated_by_name().values(), *vendors)


def nearest(provider: str, name: str) -> ModelEntry | None:
    """The provider's model that a misspelt ``name`` most likely meant, for messages."""
    known = {entry.name: entry for entry in entries() if entry.provider == provider}
    matches = get_close_matches(name, known, n=1)
    return known[matches[0]] if matches else None


def simulated_models() -> Iterable[ModelEntry]:
    """The simulator's models. Their prices are invented, so that costs are exercised (MOD-1)."""
    price = Price(
        entry="simulated:standard@2026-01-01",
        valid_from=date(2026, 1, 1),
        input_per_million=Decimal("1.00"),
        cache_read_per_million=Decimal("0.10"),
        cache_write_per_million=Decimal("1.25"),
        output_per_million=Decimal("4.00"),
        source="simulated",
    )
    text_price = Price(
        entry="simulated:text@2026-01-01",
        valid_from=date(2026, 1, 1),
        input_per_million=Decimal("0.25"),
        cache_read_per_million=Decimal("0.025"),
        cache_write_per_million=Decimal("0.3125"),
        output_per_million=Decimal("1.00"),
        source="simulated",
    )
    everything: frozenset[Capability] = frozenset(
        {"streaming", "tools", "structured_output", "image", "pdf"}
    )
    yield _simulated("standard", 200_000, 32_000, everything, (price,))
    yield _simulated("text", 16_000, 4_000, frozenset({"streaming"}), (text_price,))
    yield _simulated("unpriced", 200_000, 32_000, everything, ())


@cache
def _simulated_by_name() -> Mapping[str, ModelEntry]:
    return {entry.name: entry for entry in simulated_models()}


def _simulated(
    name: str,
    context_window: int,
    max_output_tokens: int,
    capabilities: frozenset[Capability],
    prices: tuple[Price, ...],
) -> ModelEntry:
    return ModelEntry(
        provider=SIMULATED,
        name=name,
        context_window=context_window,
        max_output_tokens=max_output_tokens,
        capabilities=capabilities,
        parameters=_sampling(max_output_tokens),
        prices=prices,
    )


def _sampling(max_output_tokens: int) -> dict[str, Parameter]:
    return {
        "temperature": Parameter(kind="number", minimum=0, maximum=2, default=DEFAULT_TEMPERATURE),
        "max_tokens": Parameter(
            kind="integer",
            minimum=1,
            maximum=max_output_tokens,
            default=min(DEFAULT_MAX_TOKENS, max_output_tokens),
        ),
        "top_p": Parameter(kind="number", minimum=0, maximum=1),
        "frequency_penalty": Parameter(kind="number", minimum=-2, maximum=2),
        "presence_penalty": Parameter(kind="number", minimum=-2, maximum=2),
        "stop": Parameter(kind="strings"),
        "seed": Parameter(kind="integer"),
    }
