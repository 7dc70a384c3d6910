"""The prices that genai-prices states, as far as a ``Price`` can express them. Pure.

Only the library's data is read: what it would fetch from the network it does not fetch here.
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from genai_prices import __version__
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint

from chargehand.catalog.pricing import Price

SOURCE = "genai-prices"

_RATES = frozenset({"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"})
_NEVER_INCURRED = frozenset(
    {
        # We send no audio, use no built-in search, and ask for no cache that lives an hour.
        "input_audio_mtok",
        "output_audio_mtok",
        "cache_audio_read_mtok",
        "web_searches_kcount",
        "storage_searches_kcount",
        "cache_write_1h_mtok",
    }
)


def library_prices(provider: str, model: ModelInfo) -> tuple[Price, ...]:
    """The flat prices of a model by date; none for one that is tiered or depends on the hour.

    ``provider`` is the library's name for it.
    """
    found = list[Price]()
    for start, rates in _periods(model):
        price = _price(provider, model.id, start, rates)
        # What cannot be expressed would not end the price before it: so that one goes as well.
        found = [] if price is None else [*found, price]
    return tuple(found)


def _periods(model: ModelInfo) -> Iterator[tuple[date | None, ModelPrice]]:
    """Each price with its first day; nothing where prices do not simply follow one another."""
    if isinstance(model.prices, ModelPrice):
        yield None, model.prices
        return
    constraints = [conditional.constraint for conditional in model.prices]
    starts = [one.start_date for one in constraints if isinstance(one, StartDateConstraint)]
    # Of the library's list the last that is in force counts: it is ours where the dates ascend.
    if (
        constraints[:1] == [None]
        and len(starts) == len(constraints) - 1
        and starts == sorted(starts)
    ):
        prices = (conditional.prices for conditional in model.prices)
        yield from zip((None, *starts), prices, strict=True)


def _price(provider: str, model: str, start: date | None, stated: ModelPrice) -> Price | None:
    rates = {key: rate for key, rate in vars(stated).items() if rate is not None}
    flat = {key: rates[key] for key in _RATES & rates.keys() if isinstance(rates[key], Decimal)}
    if (
        rates.keys() - flat.keys() - _NEVER_INCURRED
        or not {"input_mtok", "output_mtok"} <= flat.keys()
    ):
        return None
    # Where there is no rate for the cache, its tokens cost what other input does: so the library
    # counts them too (decompose.compute_leaf_values), and so do the vendors that state none.
    return Price(
        # With the library's version: another may state another price for the same days.
        entry=f"{SOURCE}-{__version__}:{provider}:{model}@{start or 'undated'}",
        valid_from=start,
        input_per_million=flat["input_mtok"],
        cache_read_per_million=flat.get("cache_read_mtok", flat["input_mtok"]),
        cache_write_per_million=flat.get("cache_write_mtok", flat["input_mtok"]),
        output_per_million=flat["output_mtok"],
        source=SOURCE,
    )
