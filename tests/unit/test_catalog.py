"""The catalogue (MOD-3): what is known of each model, and how an unknown one is met."""

from datetime import UTC, datetime
from decimal import Decimal

from chargehand.catalog.models import entries, find_model, nearest, simulated_models
from chargehand.catalog.pricing import price_at

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_standard_model_does_everything_and_is_priced_as_simulated() -> None:
    entry = find_model("simulated", "standard")
    assert entry is not None
    assert entry.identifier == "simulated:standard"
    assert entry.capabilities >= {"streaming", "tools", "structured_output", "image", "pdf"}
    price = price_at(entry.prices, NOW)
    assert price is not None
    assert (price.entry, price.source) == ("simulated:standard@2026-01-01", "simulated")
    assert price.cache_read_per_million == Decimal("0.10")


def test_the_text_model_takes_neither_tools_nor_files() -> None:
    entry = find_model("simulated", "text")
    assert entry is not None
    assert entry.capabilities == {"streaming"}


def test_unpriced_stays_unpriced() -> None:
    entry = find_model("simulated", "unpriced")
    assert entry is not None
    assert price_at(entry.prices, NOW) is None


def test_defaults_are_within_each_models_limits() -> None:
    for entry in simulated_models():
        assert entry.parameters["temperature"].default == 0.7
        limit = entry.parameters["max_tokens"]
        assert limit.default == 2000
        assert limit.maximum == entry.max_output_tokens
        assert (limit.maximum or 0) <= (entry.context_window or 0)


def test_price_entries_are_unique() -> None:
    entries = [price.entry for entry in simulated_models() for price in entry.prices]
    assert len(set(entries)) == len(entries) > 0


def test_an_unknown_model_is_none_and_has_a_nearest() -> None:
    assert find_model("simulated", "standart") is None
    assert find_model("simulator", "standard") is None
    near = nearest("simulated", "standart")
    assert near is not None
    assert near.name == "standard"
    assert nearest("zzz", "qqq") is None


def test_the_simulators_models_are_listed_first() -> None:
    assert [entry.identifier for entry in entries()[:3]] == [
        "simulated:standard",
        "simulated:text",
        "simulated:unpriced",
    ]
