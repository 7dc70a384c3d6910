"""Costs are exact, additive and never negative; totals are their parts (USE-1)."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.catalog.pricing import Cost, Price, TokenUsage, cost_of, price_at

RATES = st.decimals(min_value=0, max_value=100_000, places=9)
COUNTS = st.integers(min_value=0, max_value=10**15)


def make_price(**overrides: object) -> Price:
    values: dict[str, object] = {
        "entry": "acme:one@2026-01-01",
        "valid_from": date(2026, 1, 1),
        "input_per_million": Decimal("1.00"),
        "cache_read_per_million": Decimal("0.10"),
        "cache_write_per_million": Decimal("1.25"),
        "output_per_million": Decimal("4.00"),
        "source": "test",
    }
    return Price(**(values | overrides))  # type: ignore[arg-type]


prices = st.builds(
    make_price,
    input_per_million=RATES,
    cache_read_per_million=RATES,
    cache_write_per_million=RATES,
    output_per_million=RATES,
)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    plain, read, written, answer, reasoning = (draw(COUNTS) for _ in range(5))
    return TokenUsage(
        input_tokens=plain + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=answer + reasoning,
        reasoning_tokens=reasoning,
    )


def exactly(cost: Cost) -> tuple[Fraction, Fraction, Fraction]:
    return Fraction(cost.input_cost), Fraction(cost.output_cost), Fraction(cost.total)


def test_each_kind_of_token_has_its_own_rate() -> None:
    usage = TokenUsage(
        input_tokens=1_000,
        cache_read_tokens=600,
        cache_write_tokens=300,
        output_tokens=50,
        reasoning_tokens=20,
    )
    cost = cost_of(usage, make_price())
    assert cost.input_cost == Decimal("0.000535")  # 100 + 600 × 0.1 + 300 × 1.25 millionths
    assert cost.output_cost == Decimal("0.0002")
    assert cost.total == Decimal("0.000735")


def test_a_free_call_still_has_ten_places() -> None:
    cost = cost_of(TokenUsage(), make_price())
    assert str(cost.total) == "0E-10"


@given(usages(), prices)
def test_cost_equals_rational_arithmetic(usage: TokenUsage, price: Price) -> None:
    input_cost = (
        usage.uncached_input_tokens * Fraction(price.input_per_million)
        + usage.cache_read_tokens * Fraction(price.cache_read_per_million)
        + usage.cache_write_tokens * Fraction(price.cache_write_per_million)
    ) / 10**6
    output_cost = usage.output_tokens * Fraction(price.output_per_million) / 10**6
    expected = (input_cost, output_cost, input_cost + output_cost)
    assert exactly(cost_of(usage, price)) == expected


@given(usages(), usages(), prices)
def test_cost_is_additive(one: TokenUsage, other: TokenUsage, price: Price) -> None:
    apart = zip(exactly(cost_of(one, price)), exactly(cost_of(other, price)), strict=True)
    assert exactly(cost_of(one + other, price)) == tuple(a + b for a, b in apart)


@given(usages(), prices)
def test_no_amount_is_negative_and_all_have_ten_places(usage: TokenUsage, price: Price) -> None:
    cost = cost_of(usage, price)
    for amount in (cost.input_cost, cost.output_cost, cost.total):
        assert amount >= 0
        assert amount.as_tuple().exponent <= -10  # type: ignore[operator]


def test_a_rate_finer_than_ten_places_loses_no_digit() -> None:
    price = make_price(output_per_million=Decimal("0.123456789123"))
    assert cost_of(TokenUsage(output_tokens=7), price).total == Decimal("0.000000864197523861")


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1},
        {"cache_read_tokens": 1},
        {"input_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 3},
        {"input_tokens": 5, "cache_write_tokens": -1},
        {"output_tokens": 1, "reasoning_tokens": 2},
        {"output_tokens": -1, "reasoning_tokens": -1},
    ],
)
def test_impossible_counts_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        TokenUsage(**counts)


@pytest.mark.parametrize("rate", [Decimal("-0.01"), Decimal("NaN"), Decimal("Infinity")])
def test_impossible_rates_are_refused(rate: Decimal) -> None:
    with pytest.raises(ValueError, match="acme:one@2026-01-01"):
        make_price(cache_read_per_million=rate)


def test_the_price_in_force_is_the_newest_that_has_begun() -> None:
    old = make_price(entry="old")
    new = make_price(entry="new", valid_from=date(2026, 6, 1))
    assert price_at((new, old), datetime(2025, 12, 31, 23, 59, tzinfo=UTC)) is None
    assert price_at((new, old), datetime(2026, 5, 31, 23, 59, tzinfo=UTC)) == old
    assert price_at((new, old), datetime(2026, 6, 1, tzinfo=UTC)) == new


def test_a_price_begins_at_midnight_utc_wherever_the_clock_stands() -> None:
    price = make_price()
    east = timezone(timedelta(hours=9))
    assert price_at((price,), datetime(2026, 1, 1, 8, 59, tzinfo=east)) is None
    assert price_at((price,), datetime(2026, 1, 1, 9, 0, tzinfo=east)) == price
