"""Rows of stored content: blobs (shared within one organization) and the uploads that name them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, Uuid, text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chargehand.kernel.database import Row
from chargehand.kernel.identifiers import OrganizationId, UploadId, UserId
from chargehand.tenancy.tables import Organization

_NOW = text("now()")


class Blob(Row):
    """Content by its SHA-256; the same bytes in two organizations are two rows."""

    __tablename__ = "blobs"

    organization_id: Mapped[OrganizationId] = mapped_column(Uuid, primary_key=True)
    sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)


class Upload(Row):
    """A file, or a folder of files; ``files`` holds ``StoredFile.as_json`` of each."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("kind in ('folder', 'file')", name="uploads_kind_check"),
        Index("uploads_organization", "organization_id", "id"),
    )

    id: Mapped[UploadId] = mapped_column(Uuid, primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(Uuid, ForeignKey(Organization.id))
    created_by: Mapped[UserId] = mapped_column(Uuid)
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)
