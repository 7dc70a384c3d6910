"""ORM rows of agents and their versions; the migrations are the truth."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from chargehand.agents.access import Visibility
from chargehand.agents.version_numbers import Number
from chargehand.kernel.database import Row
from chargehand.kernel.identifiers import AgentId, OrganizationId, UserId, VersionId
from chargehand.tenancy.tables import Organization

Status = Literal["draft", "published", "deprecated", "archived"]

_NOW = text("now()")
_TIME = DateTime(timezone=True)


class AgentVersion(Row):
    """One configuration; what is not a draft never changes (SPEC AGT-3)."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        CheckConstraint("status in ('draft', 'published', 'deprecated', 'archived')"),
        UniqueConstraint("agent_id", "major", "minor", "patch", name="agent_versions_number"),
    )

    id: Mapped[VersionId] = mapped_column(Uuid, primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(Uuid)
    agent_id: Mapped[AgentId] = mapped_column(
        Uuid, ForeignKey("agents.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    )
    major: Mapped[int]
    minor: Mapped[int]
    patch: Mapped[int]
    status: Mapped[Status] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    config_schema: Mapped[int]
    changelog: Mapped[str] = mapped_column(Text)
    copied_from: Mapped[UUID | None] = mapped_column(Uuid)
    created_by: Mapped[UserId] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(_TIME, server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(_TIME, server_default=_NOW)
    published_at: Mapped[datetime | None] = mapped_column(_TIME)
    published_by: Mapped[UserId | None] = mapped_column(Uuid)

    @property
    def number(self) -> Number:
        return Number(self.major, self.minor, self.patch)


class Agent(Row):
    """``current_version_id`` is the newest published version, or the draft while there is none.

    ``current`` and ``draft`` must be loaded with the agent (``lookup.LOADED``).
    """

    __tablename__ = "agents"
    __table_args__ = (
        CheckConstraint("visibility in ('private', 'team', 'organization', 'public')"),
        UniqueConstraint("organization_id", "slug", name="agents_slug"),
        UniqueConstraint("organization_id", "name", name="agents_name"),
        Index("agents_public", "id", postgresql_where=text("visibility = 'public'")),
    )

    id: Mapped[AgentId] = mapped_column(Uuid, primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(Uuid, ForeignKey(Organization.id))
    slug: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    owner_id: Mapped[UserId] = mapped_column(Uuid)
    team_id: Mapped[UUID | None] = mapped_column(Uuid)
    visibility: Mapped[Visibility] = mapped_column(Text)
    active: Mapped[bool]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    current_version_id: Mapped[VersionId] = mapped_column(Uuid)
    draft_version_id: Mapped[VersionId | None] = mapped_column(Uuid)
    archived_at: Mapped[datetime | None] = mapped_column(_TIME)
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(_TIME, server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(_TIME, server_default=_NOW)

    current: Mapped[AgentVersion] = relationship(
        primaryjoin=lambda: Agent.current_version_id == AgentVersion.id,
        foreign_keys=lambda: Agent.current_version_id,
        viewonly=True,
        lazy="raise",
    )
    draft: Mapped[AgentVersion | None] = relationship(
        primaryjoin=lambda: Agent.draft_version_id == AgentVersion.id,
        foreign_keys=lambda: Agent.draft_version_id,
        viewonly=True,
        lazy="raise",
    )
