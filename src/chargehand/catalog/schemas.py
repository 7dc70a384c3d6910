"""Wire shapes of models and providers (MOD-2, MOD-3). None of them holds a key or an address."""

from collections.abc import Collection
from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from chargehand.catalog.availability import Availability
from chargehand.catalog.checks import Checked
from chargehand.catalog.entries import Capability, ModelEntry, Parameter
from chargehand.catalog.pricing import Price, price_at
from chargehand.catalog.providers import SIMULATED, VENDORS, remedy_for, without_credentials
from chargehand.kernel.clock import now

MAX_NAMES = 200


class ModelParameter(BaseModel):
    """What a parameter of an agent's model may be; null is no bound, or nothing sent."""

    kind: Literal["number", "integer", "strings", "choice", "object"] = Field(
        description="What its value is; `strings` is a list."
    )
    minimum: float | None = Field(description="The least that it takes.")
    maximum: float | None = Field(description="The most that it takes.")
    default: float | int | None = Field(description="What is sent where an agent leaves it out.")
    choices: list[str] = Field(description="The values of a `choice`.")

    @classmethod
    def of(cls, parameter: Parameter) -> "ModelParameter":
        return cls.model_validate(parameter, from_attributes=True)


class ModelPrices(BaseModel):
    """What a million tokens cost today, as decimal numbers."""

    input_per_million: str = Field(description="Of input that no cache knew.")
    cache_read_per_million: str = Field(description="Of input that came from a cache.")
    cache_write_per_million: str = Field(description="Of input that went into a cache.")
    output_per_million: str = Field(description="Of output, reasoning included.")
    currency: str = Field(description="What the prices are in.")
    valid_from: date | None = Field(
        description="Since its midnight, UTC; null: the source gives no date."
    )
    source: str = Field(description="Who states it.")

    @classmethod
    def of(cls, price: Price) -> "ModelPrices":
        return cls(
            input_per_million=f"{price.input_per_million:f}",
            cache_read_per_million=f"{price.cache_read_per_million:f}",
            cache_write_per_million=f"{price.cache_write_per_million:f}",
            output_per_million=f"{price.output_per_million:f}",
            currency=price.currency,
            valid_from=price.valid_from,
            source=price.source,
        )


class ModelView(BaseModel):
    """One model that the catalogue knows."""

    provider: str = Field(description="The provider's name, as agents give it.")
    name: str = Field(description="The model's name, as agents give it.")
    context_window: int | None = Field(description="In tokens; null is unknown.")
    max_output_tokens: int | None = Field(description="Null is unknown.")
    capabilities: list[Capability] = Field(description="What it can do, and what it can read.")
    parameters: dict[str, ModelParameter] = Field(
        description="By the names that an agent's configuration has for them; it refuses others."
    )
    prices: ModelPrices | None = Field(description="Null: unpriced, so its cost is unknown.")
    simulated: bool = Field(description="Whether no real model answers, and nobody is paid.")

    @classmethod
    def of(cls, entry: ModelEntry) -> "ModelView":
        price = price_at(entry.prices, now())
        return cls(
            provider=entry.provider,
            name=entry.name,
            context_window=entry.context_window,
            max_output_tokens=entry.max_output_tokens,
            capabilities=sorted(entry.capabilities),
            parameters={
                name: ModelParameter.of(parameter) for name, parameter in entry.parameters.items()
            },
            prices=None if price is None else ModelPrices.of(price),
            simulated=entry.provider == SIMULATED,
        )


class ProviderAvailability(BaseModel):
    """What the newest check found."""

    available: bool = Field(description="Whether it answered.")
    latency_ms: int = Field(description="How long that took.")
    problem: str | None = Field(description="Why it did not; null where it did.")
    models: list[str] = Field(description="Names that the provider itself lists.")
    more: int = Field(description="How many further names it lists.")
    checked_at: datetime = Field(description="When that was.")

    @classmethod
    def of(cls, found: Availability, checked_at: datetime) -> "ProviderAvailability":
        return cls(
            available=found.available,
            latency_ms=found.latency_ms,
            problem=None if found.problem is None else without_credentials(found.problem),
            models=list(found.models[:MAX_NAMES]),
            more=max(0, len(found.models) - MAX_NAMES),
            checked_at=checked_at,
        )


class ProviderView(BaseModel):
    """One provider, whether or not this installation can use it."""

    name: str = Field(description="What agents name it by.")
    title: str = Field(description="What people call it.")
    connected: bool = Field(description="Whether this installation can use it.")
    remedy: str | None = Field(description="What connects it; null where it is connected.")
    availability: ProviderAvailability | None = Field(
        description="Null where no check was asked for, or the provider is not connected."
    )

    @classmethod
    def of(cls, name: str, connected: Collection[str], checked: Checked | None) -> "ProviderView":
        is_connected = name == SIMULATED or name in connected
        found = checked.found.get(name) if checked and is_connected else None
        return cls(
            name=name,
            title=_title(name),
            connected=is_connected,
            remedy=None if is_connected else remedy_for(name),
            availability=checked and found and ProviderAvailability.of(found, checked.at),
        )


def _title(name: str) -> str:
    if name in VENDORS:
        return VENDORS[name].title
    return "Simulated, without a network" if name == SIMULATED else f"{name}, of this installation"
