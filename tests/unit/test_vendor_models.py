"""The vendors' models: names, what each takes, and what it costs, from the libraries' data."""

import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from chargehand.catalog.entries import ModelEntry
from chargehand.catalog.library_prices import library_prices
from chargehand.catalog.models import entries, find_model, nearest
from chargehand.catalog.pricing import TokenUsage, cost_of, price_at
from chargehand.catalog.providers import VENDORS

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def model(identifier: str) -> ModelEntry:
    entry = find_model(*identifier.split(":"))
    assert entry is not None, identifier
    assert entry.identifier == identifier
    return entry


PLAIN = {"temperature", "top_p", "max_tokens"}
BY_CHAT = {"seed", "stop", "frequency_penalty", "presence_penalty"}


@pytest.mark.parametrize(
    ("identifier", "taken"),
    [
        ("openai:gpt-4o", {*PLAIN, "extra"}),
        ("openai-chat:gpt-4o", {*PLAIN, *BY_CHAT, "extra"}),
        ("azure:gpt-4o", {*PLAIN, *BY_CHAT, "extra"}),
        ("openai:gpt-5.1", {*PLAIN, "reasoning_effort", "extra"}),
        ("openai-chat:gpt-5.1", {*PLAIN, "reasoning_effort", "seed", "extra"}),
        ("openai:gpt-5", {"max_tokens", "reasoning_effort", "extra"}),
        ("openai-chat:o3", {"max_tokens", "reasoning_effort", "seed", "extra"}),
        # An alias of a model that reasons only on request, and this one always does.
        ("openai:gpt-5.2-chat-latest", {"max_tokens", "reasoning_effort", "extra"}),
        ("openai:gpt-5-chat-latest", {*PLAIN, "extra"}),
        ("anthropic:claude-3-haiku", {*PLAIN, "stop", "extra"}),
        ("anthropic:claude-sonnet-4-6", {*PLAIN, "stop", "reasoning_effort", "extra"}),
        ("anthropic:claude-opus-4-8", {"max_tokens", "stop", "reasoning_effort", "extra"}),
        ("anthropic:claude-sonnet-5", {"max_tokens", "stop", "reasoning_effort", "extra"}),
        ("google:gemini-2.0-flash", {*PLAIN, "stop", "seed"}),
        ("google:gemini-2.5-flash", {*PLAIN, "stop", "seed", "reasoning_effort"}),
    ],
)
def test_what_a_model_takes(identifier: str, taken: set[str]) -> None:
    assert set(model(identifier).parameters) == taken


@pytest.mark.parametrize(
    ("identifier", "temperature", "max_tokens"),
    [
        ("openai:gpt-4o", 0.7, 2000),
        ("openai:gpt-5.1", 0.7, 2000),
        ("openai:gpt-5", None, 16_000),
        ("anthropic:claude-haiku-4-5", 0.7, 2000),
        ("anthropic:claude-opus-4-8", None, 2000),
        ("anthropic:claude-sonnet-5", None, 16_000),
        ("google:gemini-2.0-flash", 0.7, 2000),
        ("google:gemini-2.5-pro", None, 16_000),
        ("google:gemini-2.5-flash-lite", 0.7, 2000),
    ],
)
def test_the_defaults(identifier: str, temperature: float | None, max_tokens: int) -> None:
    defaults = model(identifier).defaults({})
    assert defaults.get("temperature") == temperature
    assert defaults["max_tokens"] == max_tokens
    assert set(defaults) <= {"temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("identifier", "efforts"),
    [
        ("openai:gpt-5", ("minimal", "low", "medium", "high")),
        ("openai:gpt-5.1", ("low", "medium", "high")),
        ("openai:gpt-5-pro", ("high",)),
        ("openai:o3", ("low", "medium", "high")),
        ("openai:gpt-5.1-chat-latest", ("medium",)),
        ("anthropic:claude-haiku-4-5", ("minimal", "low", "medium", "high")),
        ("anthropic:claude-opus-4-6", ("low", "medium", "high")),
        ("google:gemini-3-pro-preview", ("low", "high")),
        ("google:gemini-2.5-flash-lite", ("low", "medium", "high")),
    ],
)
def test_the_efforts_that_a_model_accepts(identifier: str, efforts: tuple[str, ...]) -> None:
    assert model(identifier).parameters["reasoning_effort"].choices == efforts


def test_the_bounds_are_the_vendors() -> None:
    bounds = {
        identifier: model(identifier).parameters
        for identifier in ("openai:gpt-4o", "openai-chat:gpt-4o", "anthropic:claude-3-haiku")
    }
    google = model("google:gemini-2.0-flash").parameters
    assert bounds["openai:gpt-4o"]["max_tokens"].minimum == 16
    assert bounds["openai-chat:gpt-4o"]["max_tokens"].minimum == 1
    assert bounds["openai-chat:gpt-4o"]["stop"].maximum == 4
    assert bounds["anthropic:claude-3-haiku"]["temperature"].maximum == 1
    assert google["temperature"].maximum == 2
    assert google["stop"].maximum == 5
    assert google["seed"].maximum == 2**31 - 1


@pytest.mark.parametrize(
    ("identifier", "excludes"),
    [
        ("openai:gpt-4o", {}),
        ("openai:gpt-5", {}),
        ("openai:gpt-5.1", {"reasoning_effort": {"temperature", "top_p"}}),
        ("anthropic:claude-sonnet-4-0", {"reasoning_effort": {"temperature", "top_p"}}),
        (
            "anthropic:claude-sonnet-4-5-20250929",
            {"reasoning_effort": {"temperature", "top_p"}, "top_p": {"temperature"}},
        ),
        ("anthropic:claude-opus-4-8", {}),
        ("google:gemini-2.5-pro", {}),
    ],
)
def test_what_a_model_does_not_take_together(
    identifier: str, excludes: dict[str, set[str]]
) -> None:
    assert model(identifier).excludes == excludes


@pytest.mark.parametrize(
    ("identifier", "has", "lacks"),
    [
        ("openai:gpt-4o", {"tools", "structured_output", "image", "pdf", "file"}, set[str]()),
        ("openai-chat:gpt-4o", {"tools", "structured_output", "image", "pdf", "file"}, set[str]()),
        ("azure:gpt-4o", {"tools", "structured_output", "image", "file"}, {"pdf"}),
        ("openai:gpt-4", {"tools", "file"}, {"structured_output", "image", "pdf"}),
        ("openai:gpt-4-0613", {"tools"}, {"image"}),
        ("openai:gpt-4-turbo-preview", {"tools"}, {"image"}),
        ("openai:gpt-4-turbo", {"tools", "image"}, {"pdf", "structured_output"}),
        ("openai:gpt-4.1", {"image", "structured_output"}, set[str]()),
        ("openai:gpt-4o-2024-05-13", {"image"}, {"structured_output"}),
        ("openai:gpt-3.5-turbo", {"tools"}, {"image", "structured_output"}),
        ("openai:o3-mini", {"tools", "structured_output"}, {"image", "pdf"}),
        ("anthropic:claude-3-haiku", {"tools", "image"}, {"pdf", "file"}),
        ("anthropic:claude-3-5-sonnet", {"tools", "image", "pdf", "file"}, set[str]()),
        ("google:gemini-1.0-pro", {"tools"}, {"image", "pdf", "file", "structured_output"}),
        ("google:gemini-2.5-flash", {"tools", "image", "pdf", "file"}, set[str]()),
    ],
)
def test_what_a_model_can_do(identifier: str, has: set[str], lacks: set[str]) -> None:
    capabilities = model(identifier).capabilities
    assert capabilities >= {"streaming", *has}
    assert not capabilities & lacks


@pytest.mark.parametrize(
    ("identifier", "window", "output"),
    [
        ("openai:gpt-4", 8192, 8192),
        ("openai:gpt-4-0125-preview", 128_000, 4096),
        ("openai:gpt-4o-mini-2024-07-18", 128_000, 16_384),
        ("openai:gpt-5", 400_000, 128_000),
        ("openai:gpt-5.4", 1_050_000, None),
        ("anthropic:claude-3-haiku", 200_000, 4096),
        ("anthropic:claude-opus-4-20250514", 200_000, 32_000),
        ("anthropic:claude-sonnet-4-5", 200_000, 64_000),
        ("google:gemini-2.5-pro", None, 65_536),
    ],
)
def test_windows_and_output_limits(identifier: str, window: int | None, output: int | None) -> None:
    entry = model(identifier)
    assert (entry.context_window, entry.max_output_tokens) == (window, output)
    assert entry.parameters["max_tokens"].maximum == output


@pytest.mark.parametrize(
    "identifier",
    [
        # Every model that the seeds name.
        "anthropic:claude-3-haiku",
        "anthropic:claude-3-haiku-20240307",
        "anthropic:claude-3-opus",
        "anthropic:claude-3-opus-20240229",
        "anthropic:claude-3-sonnet",
        "anthropic:claude-3-sonnet-20240229",
        "google:gemini-1.0-pro",
        "google:gemini-1.5-pro",
        "openai:gpt-3.5-turbo",
        "openai:gpt-4",
        "openai:gpt-4-turbo",
        "openai:gpt-4-turbo-preview",
        # Dated versions.
        "anthropic:claude-sonnet-4-5-20250929",
        "openai:gpt-4o-2024-08-06",
        "openai-chat:gpt-5.2-2025-12-11",
        "azure:gpt-4o-2024-11-20",
    ],
)
def test_names_that_resolve(identifier: str) -> None:
    assert model(identifier).context_window


def test_a_dated_version_costs_what_its_model_does() -> None:
    assert model("openai:gpt-4o-2024-08-06").prices == model("openai:gpt-4o").prices != ()
    assert model("openai:gpt-4o-2024-05-13").prices != model("openai:gpt-4o").prices


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4oo"),
        ("openai", "text-embedding-3-small"),
        ("openai", "gpt-image-1"),
        ("openai", "gpt-4o-realtime-preview"),
        ("openai", "gpt-4o-mini-tts"),
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-4o-transcribe"),
        ("openai", "gpt-3.5-turbo-instruct"),
        ("openai", "davinci-002"),
        ("openai", "omni-moderation-latest"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::x"),
        ("openai", "claude-3-haiku"),
        ("openai-chat", "gpt-5-pro"),
        ("openai-chat", "gpt-5.1-codex-mini"),
        ("azure", "my-deployment"),
        ("anthropic", "claude-2.1"),
        ("anthropic", "claude-99"),
        ("google", "gemini-2.5-flash-image"),
        ("google", "gemini-2.5-flash-preview-tts"),
        ("google", "gemini-embedding-001"),
        ("google", "claude-3-haiku"),
        ("openai-compatible", "gpt-4o"),
        ("acme", "gpt-4o"),
    ],
)
def test_names_that_stay_unknown(provider: str, name: str) -> None:
    assert find_model(provider, name) is None


def test_every_entry_holds_together() -> None:
    assert {entry.provider for entry in entries()} == {"simulated", *VENDORS} - {
        "openai-compatible"
    }
    assert len({entry.identifier for entry in entries()}) == len(entries()) > 100
    other = re.compile("embed|image|tts|live|audio|realtime|moderation|instruct|ft:|whisper")
    for entry in entries():
        assert find_model(entry.provider, entry.name) == entry
        assert not other.search(entry.name)
        assert "max_tokens" in entry.parameters
        for name, parameter in entry.parameters.items():
            if parameter.default is not None and parameter.maximum is not None:
                assert (parameter.minimum or 0) <= parameter.default <= parameter.maximum
            assert bool(parameter.choices) == (parameter.kind == "choice"), name
        assert ("extra" in entry.parameters) == (entry.provider not in ("simulated", "google"))


def test_the_nearest_is_of_the_same_provider() -> None:
    near = nearest("openai-chat", "gpt-4oo")
    assert near is not None
    assert near.identifier == "openai-chat:gpt-4o"


# Prices as the vendors list them, by hand: input, cache read, cache write, output, first day.
@pytest.mark.parametrize(
    ("identifier", "rates", "since"),
    [
        ("openai:gpt-4o", "2.5 1.25 2.5 10", None),
        ("openai-chat:gpt-5-mini", "0.25 0.025 0.25 2", None),
        ("openai:gpt-4", "30 30 30 60", None),
        ("openai:o3", "2 0.5 2 8", date(2025, 6, 10)),
        ("azure:gpt-4o", "2.5 1.25 2.5 10", None),
        ("anthropic:claude-3-haiku-20240307", "0.25 0.03 0.3 1.25", None),
        ("anthropic:claude-haiku-4-5", "1 0.1 1.25 5", None),
        ("anthropic:claude-sonnet-4-6", "3 0.3 3.75 15", date(2026, 3, 13)),
        ("google:gemini-2.5-flash", "0.3 0.03 0.3 2.5", None),
    ],
)
def test_prices(identifier: str, rates: str, since: date | None) -> None:
    price = price_at(model(identifier).prices, NOW)
    assert price is not None
    assert [
        price.input_per_million,
        price.cache_read_per_million,
        price.cache_write_per_million,
        price.output_per_million,
    ] == [Decimal(rate) for rate in rates.split()]
    assert (price.valid_from, price.source, price.currency) == (since, "genai-prices", "USD")
    assert re.fullmatch(r"genai-prices-[\d.]+:[a-z]+:[a-z0-9.-]+@.+", price.entry)
    assert price.entry.endswith(f"@{since or 'undated'}")


def test_a_price_changes_on_its_day() -> None:
    prices = model("openai:o3").prices
    before, after = datetime(2025, 6, 9, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC)
    found = [price_at(prices, when) for when in (before, after)]
    assert [price and price.input_per_million for price in found] == [Decimal(10), Decimal(2)]


@pytest.mark.parametrize(
    "identifier",
    ["openai:gpt-5.5", "anthropic:claude-sonnet-4-5", "google:gemini-2.5-pro", "azure:gpt-5.4"],
)
def test_what_is_tiered_is_unpriced(identifier: str) -> None:
    assert model(identifier).prices == ()


def test_before_its_first_flat_price_a_model_is_unpriced() -> None:
    assert (
        price_at(model("anthropic:claude-sonnet-4-6").prices, datetime(2026, 3, 12, tzinfo=UTC))
        is None
    )


FLAT = ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))
TIERED = ModelPrice(
    input_mtok=TieredPrices(base=Decimal(1), tiers=[Tier(start=9, price=Decimal(2))]),
    output_mtok=Decimal(2),
)


def stated(prices: Any) -> ModelInfo:
    return ModelInfo(id="m", match=get_snapshot().providers[0].models[0].match, prices=prices)


def since(day: int, prices: ModelPrice) -> ConditionalPrice:
    return ConditionalPrice(StartDateConstraint(date(2026, 1, day)), prices=prices)


@pytest.mark.parametrize(
    ("prices", "found"),
    [
        (FLAT, [None]),
        ([ConditionalPrice(prices=FLAT), since(2, FLAT)], [None, date(2026, 1, 2)]),
        ([ConditionalPrice(prices=TIERED), since(2, FLAT)], [date(2026, 1, 2)]),
        ([ConditionalPrice(prices=FLAT), since(2, TIERED)], []),
        ([ConditionalPrice(prices=FLAT), since(3, FLAT), since(2, FLAT)], []),
        (
            [
                ConditionalPrice(prices=FLAT),
                ConditionalPrice(
                    TimeOfDateConstraint(
                        datetime(2026, 1, 1, 1, tzinfo=UTC).timetz(),
                        datetime(2026, 1, 1, 2, tzinfo=UTC).timetz(),
                    ),
                    prices=FLAT,
                ),
            ],
            [],
        ),
        (TIERED, []),
        (ModelPrice(), []),
        (ModelPrice(input_mtok=Decimal(1)), []),
        (
            ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), input_image_mtok=Decimal(9)),
            [],
        ),
        (ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(9)), []),
        ([], []),
    ],
)
def test_only_what_a_price_can_express_is_one(prices: Any, found: list[date | None]) -> None:
    assert [price.valid_from for price in library_prices("p", stated(prices))] == found


def test_a_cost_is_what_the_library_calculates() -> None:
    """Also of tokens of the cache where no rate is stated for them."""
    usage = TokenUsage(
        input_tokens=1_000_003, cache_read_tokens=70_001, cache_write_tokens=5_009, output_tokens=99
    )
    theirs = Usage(
        input_tokens=1_000_003, cache_read_tokens=70_001, cache_write_tokens=5_009, output_tokens=99
    )
    compared = 0
    sellers = {"openai-chat": "openai"}
    for entry in entries():
        price = price_at(entry.prices, NOW)
        if entry.provider == "simulated" or price is None:
            continue
        library = get_snapshot().calc(
            theirs, entry.name, sellers.get(entry.provider, entry.provider), None, NOW
        )
        assert cost_of(usage, price).total == library.total_price, entry.identifier
        compared += 1
    assert compared > 100


def test_no_sdk_is_imported_and_little_time_is_taken() -> None:
    program = """
import sys, time
import genai_prices, pydantic_ai.profiles.openai
from chargehand.catalog import models
models.find_model("simulated", "standard")
assert "chargehand.catalog.vendor_models" not in sys.modules
before = time.process_time()
assert len(models.entries()) > 100
assert time.process_time() - before < 0.1, time.process_time() - before
assert not {"openai", "anthropic", "google"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": "src"})
