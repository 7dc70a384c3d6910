"""Ids: UUIDv7, made in Python, typed per kind, so that one kind is never passed for another."""

from datetime import UTC, datetime
from typing import NewType
from uuid import UUID

from uuid_utils.compat import uuid7

OrganizationId = NewType("OrganizationId", UUID)
UserId = NewType("UserId", UUID)
KeyId = NewType("KeyId", UUID)
AgentId = NewType("AgentId", UUID)
VersionId = NewType("VersionId", UUID)
ExecutionId = NewType("ExecutionId", UUID)
UploadId = NewType("UploadId", UUID)


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562): its first 48 bits are the time in milliseconds."""
    return uuid7()


def time_of(identifier: UUID) -> datetime:
    """The creation time that a UUIDv7 carries, to the millisecond, in UTC."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
