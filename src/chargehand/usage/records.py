"""What each model call used and cost (SPEC USE-1): exact decimals, priced once, never again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from chargehand.catalog.models import find_model
from chargehand.catalog.pricing import TokenUsage, cost_of, price_at
from chargehand.kernel.database import Connection
from chargehand.kernel.identifiers import ExecutionId, OrganizationId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One model call that used tokens, also one whose stream broke.

    ``call_id`` is unique within its execution and was given before the call. Without a price the
    record is *unpriced*: its costs are None, never a guess.
    """

    call_id: str
    provider: str
    model: str
    credential: str
    tokens: TokenUsage
    price_entry: str | None
    price_source: str | None
    input_cost: Decimal | None
    output_cost: Decimal | None
    at: datetime

    @property
    def cost(self) -> Decimal:
        return (self.input_cost or Decimal(0)) + (self.output_cost or Decimal(0))


@dataclass(frozen=True, slots=True)
class Spender:
    """Whom a usage record is booked on."""

    organization_id: OrganizationId
    execution_id: ExecutionId
    user_id: UserId
    agent_id: UUID
    agent_version_id: UUID
    end_user: str | None


def priced(
    call_id: str, provider: str, model: str, credential: str, tokens: TokenUsage, at: datetime
) -> UsageRecord:
    """A record at the price that is in force at ``at``."""
    entry = find_model(provider, model)
    price = price_at(entry.prices, at) if entry is not None else None
    cost = cost_of(tokens, price) if price is not None else None
    return UsageRecord(
        call_id=call_id,
        provider=provider,
        model=model,
        credential=credential,
        tokens=tokens,
        price_entry=price.entry if price else None,
        price_source=price.source if price else None,
        input_cost=cost.input_cost if cost else None,
        output_cost=cost.output_cost if cost else None,
        at=at,
    )


def total_of(records: Sequence[UsageRecord]) -> TokenUsage:
    return sum((record.tokens for record in records), TokenUsage())


INSERT = """
insert into usage_records (execution_id, call_id, organization_id, user_id, end_user, agent_id,
    agent_version_id, provider, model, credential, price_entry, price_source, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, input_cost,
    output_cost, at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
"""


async def insert(connection: Connection, spender: Spender, records: Sequence[UsageRecord]) -> None:
    """Write records in the transaction of the step that they belong to."""
    await connection.executemany(INSERT, [_values(spender, record) for record in records])


def _values(spender: Spender, record: UsageRecord) -> tuple[object, ...]:
    return (
        spender.execution_id,
        record.call_id,
        spender.organization_id,
        spender.user_id,
        spender.end_user,
        spender.agent_id,
        spender.agent_version_id,
        record.provider,
        record.model,
        record.credential,
        record.price_entry,
        record.price_source,
        record.tokens.input_tokens,
        record.tokens.cache_read_tokens,
        record.tokens.cache_write_tokens,
        record.tokens.output_tokens,
        record.tokens.reasoning_tokens,
        record.input_cost,
        record.output_cost,
        record.at,
    )
