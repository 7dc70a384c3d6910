"""What tokens cost: exact decimals, no rounding (USE-1). Pure.

Every amount comes out with at least ten places and with every digit it needs; an operation that
could not keep them all raises ``decimal.Inexact`` rather than lose one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import reduce

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
_PER_MILLION = -6
_ZERO_WITH_TEN_PLACES = Decimal("0E-10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs from ``valid_from`` (its midnight, UTC) until a later price begins.

    None is since ever: its source gives no date. ``entry`` names this price for good (usage
    records keep it), ``source`` says who states it.
    """

    entry: str
    valid_from: date | None
    input_per_million: Decimal
    cache_read_per_million: Decimal
    cache_write_per_million: Decimal
    output_per_million: Decimal
    currency: str = "USD"
    source: str

    def __post_init__(self) -> None:
        rates = (
            self.input_per_million,
            self.cache_read_per_million,
            self.cache_write_per_million,
            self.output_per_million,
        )
        if not all(rate.is_finite() and rate >= 0 for rate in rates):
            raise ValueError(f"price {self.entry!r}: a rate must be a finite number, not below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """The tokens of one or many model calls.

    ``input_tokens`` is all input: it includes what was read from and written to the cache;
    ``output_tokens`` includes ``reasoning_tokens``. Raises ValueError where a part exceeds its
    whole.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.cache_read_tokens, self.cache_write_tokens, self.reasoning_tokens) < 0:
            raise ValueError(f"token counts cannot be negative: {self}")
        if self.uncached_input_tokens < 0:
            raise ValueError(f"more cached tokens than input tokens: {self}")
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError(f"more reasoning tokens than output tokens: {self}")

    @property
    def uncached_input_tokens(self) -> int:
        return self.input_tokens - self.cache_read_tokens - self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Amounts in the price's currency; ``total`` is exactly the sum of the other two."""

    input_cost: Decimal
    output_cost: Decimal
    total: Decimal


def cost_of(usage: TokenUsage, price: Price) -> Cost:
    """The exact cost of ``usage``; cached tokens have their own rates, reasoning is output."""
    input_cost = _sum(
        _amount(usage.uncached_input_tokens, price.input_per_million),
        _amount(usage.cache_read_tokens, price.cache_read_per_million),
        _amount(usage.cache_write_tokens, price.cache_write_per_million),
    )
    output_cost = _sum(_amount(usage.output_tokens, price.output_per_million))
    return Cost(input_cost=input_cost, output_cost=output_cost, total=_sum(input_cost, output_cost))


def price_at(prices: Iterable[Price], when: datetime) -> Price | None:
    """The price in force at ``when`` (aware), or None: a model has none before its first."""
    day = when.astimezone(UTC).date()
    in_force = (price for price in prices if _start(price) <= day)
    return max(in_force, key=_start, default=None)


def _start(price: Price) -> date:
    return price.valid_from or date.min


def _amount(tokens: int, per_million: Decimal) -> Decimal:
    return _EXACT.multiply(Decimal(tokens), per_million).scaleb(_PER_MILLION, _EXACT)


def _sum(*amounts: Decimal) -> Decimal:
    return reduce(_EXACT.add, amounts, _ZERO_WITH_TEN_PLACES)
