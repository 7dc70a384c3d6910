"""ORM rows of organizations, their users and their keys; the migrations are the truth."""

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from chargehand.kernel.database import Row
from chargehand.kernel.identifiers import KeyId, OrganizationId, UserId
from chargehand.tenancy.caller import Role

_NOW = text("now()")


class Organization(Row):
    __tablename__ = "organizations"

    id: Mapped[OrganizationId] = mapped_column(Uuid, primary_key=True)
    slug: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    tier: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)


class User(Row):
    """Users are global; what binds one to an organization is a membership."""

    __tablename__ = "users"

    id: Mapped[UserId] = mapped_column(Uuid, primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)


class Membership(Row):
    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("role in ('viewer', 'member', 'admin', 'owner')"),
        Index("memberships_user", "user_id"),
    )

    organization_id: Mapped[OrganizationId] = mapped_column(
        Uuid, ForeignKey("organizations.id"), primary_key=True
    )
    user_id: Mapped[UserId] = mapped_column(Uuid, ForeignKey("users.id"), primary_key=True)
    role: Mapped[Role] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)


class ApiKey(Row):
    """``secret_hash`` is the SHA-256 of the secret, which is stored nowhere."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("api_keys_organization", "organization_id", "id"),)

    id: Mapped[KeyId] = mapped_column(Uuid, primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(Uuid, ForeignKey("organizations.id"))
    user_id: Mapped[UserId] = mapped_column(Uuid, ForeignKey("users.id"))
    public_id: Mapped[str] = mapped_column(Text, unique=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_by: Mapped[UserId] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
