"""What a run leaves behind, as read by lists and answers; the hot path writes it in raw SQL."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Numeric

from chargehand.kernel.database import Row

_Time = TIMESTAMP(timezone=True)


class Execution(Row):
    """One run. While it is open, its counters live in ``live_executions``."""

    __tablename__ = "executions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    agent_organization_id: Mapped[UUID]
    agent_id: Mapped[UUID]
    agent_version_id: Mapped[UUID]
    agent_version: Mapped[str] = mapped_column(Text)
    prompt_version_id: Mapped[UUID | None]
    trigger_kind: Mapped[str] = mapped_column(Text)
    trigger_id: Mapped[UUID | None]
    user_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    end_user: Mapped[str | None] = mapped_column(Text)
    conversation_id: Mapped[UUID | None]
    turn: Mapped[int | None]
    parent_id: Mapped[UUID | None]
    root_id: Mapped[UUID]
    depth: Mapped[int]
    retry_of: Mapped[UUID | None]
    forked_from: Mapped[UUID | None]
    forked_at_step: Mapped[int | None]
    chain_run_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    is_test: Mapped[bool]
    queue: Mapped[str] = mapped_column(Text)
    chunk: Mapped[int]
    status: Mapped[str] = mapped_column(Text)
    pause_reason: Mapped[str | None] = mapped_column(Text)
    force_killed: Mapped[bool]
    finish_reason: Mapped[str | None] = mapped_column(Text)
    provider_response_id: Mapped[str | None] = mapped_column(Text)
    steps: Mapped[int]
    model_attempts: Mapped[int]
    tool_calls: Mapped[int]
    api_calls: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[Decimal] = mapped_column(Numeric)
    currency: Mapped[str] = mapped_column(Text)
    unpriced: Mapped[bool]
    sandbox_cpu_ms: Mapped[int] = mapped_column(BigInteger)
    sandbox_peak_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_details: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    warnings: Mapped[list[Any]] = mapped_column(JSONB)
    # `metadata` is taken by SQLAlchemy's declarative base.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    created_at: Mapped[datetime] = mapped_column(_Time)
    scheduled_at: Mapped[datetime | None] = mapped_column(_Time)
    started_at: Mapped[datetime | None] = mapped_column(_Time)
    paused_at: Mapped[datetime | None] = mapped_column(_Time)
    completed_at: Mapped[datetime | None] = mapped_column(_Time)
    updated_at: Mapped[datetime] = mapped_column(_Time)


class ExecutionPayload(Row):
    """The large parts of a run, apart from the row that lists read."""

    __tablename__ = "execution_payloads"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    input: Mapped[Any] = mapped_column(JSONB)
    variables: Mapped[dict[str, Any]] = mapped_column(JSONB)
    workspace: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    output: Mapped[Any | None] = mapped_column(JSONB)
    tools: Mapped[list[Any] | None] = mapped_column(JSONB)


class LiveExecution(Row):
    """The part of the live row that a reader needs: what an open run has counted so far."""

    __tablename__ = "live_executions"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    owner: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    wait_kind: Mapped[str | None] = mapped_column(Text)
    wait: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    wait_seq: Mapped[int]
    wait_deadline: Mapped[datetime | None] = mapped_column(_Time)
    wait_then: Mapped[str | None] = mapped_column(Text)
    epoch: Mapped[int]
    last_event: Mapped[int]
    last_step: Mapped[int]
    chunk: Mapped[int]
    model_attempts: Mapped[int]
    tool_calls: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[Decimal] = mapped_column(Numeric)
    unpriced: Mapped[bool]


class Step(Row):
    """One model answer or one tool call, journalled."""

    __tablename__ = "steps"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    epoch: Mapped[int]
    kind: Mapped[str] = mapped_column(Text)
    call_id: Mapped[str] = mapped_column(Text)
    tool_name: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[list[Any]] = mapped_column(JSONB)
    has_tool_calls: Mapped[bool]
    tool_names: Mapped[list[str]] = mapped_column(ARRAY(Text))
    finish_reason: Mapped[str | None] = mapped_column(Text)
    provider_response_id: Mapped[str | None] = mapped_column(Text)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[Decimal] = mapped_column(Numeric)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    started_at: Mapped[datetime] = mapped_column(_Time)
    completed_at: Mapped[datetime] = mapped_column(_Time)
    state: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class LogEntry(Row):
    """One line of a run's log (SPEC EXE-9)."""

    __tablename__ = "logs"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    level: Mapped[str] = mapped_column(Text)
    event_type: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    context: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(_Time)
