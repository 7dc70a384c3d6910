"""Wire shapes of the caller, of keys and of members."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from chargehand.tenancy.caller import Role
from chargehand.tenancy.operations import DEFAULT_KEY_DAYS, Identity, MadeKey
from chargehand.tenancy.permissions import SCOPES
from chargehand.tenancy.tables import ApiKey, Membership, User
from chargehand.tenancy.tiers import Tier
from chargehand.web.texts import ONE_LINE

ScopeName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(SCOPES)})]
"""Any text: an unknown scope is refused by the operation, which names the nearest."""


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, description="What the key is for, on one line."),
        ONE_LINE,
    ]
    scopes: list[ScopeName] = Field(
        min_length=1, max_length=len(SCOPES), description="What the key may do; `admin` is all."
    )
    user_id: UUID | None = Field(None, description="Whose key: yours, or for admins a member's.")
    expires_in_days: int = Field(
        DEFAULT_KEY_DAYS, ge=1, le=3650, description="Days after which it is refused."
    )


class Key(BaseModel):
    """A key without its secret."""

    id: UUID = Field(description="The key's id.")
    public_id: str = Field(description="The second part of the key's text.")
    name: str = Field(description="What it is for.")
    scopes: list[ScopeName] = Field(description="What it may do.")
    user_id: UUID = Field(description="The user whose key it is.")
    created_by: UUID = Field(description="The user who made it.")
    created_at: datetime = Field(description="When it was made.")
    expires_at: datetime = Field(description="From when on it is refused.")
    revoked_at: datetime | None = Field(description="When it was revoked; null: it is not.")
    last_used_at: datetime | None = Field(
        description="When it was last used, to the minute; null: never."
    )

    @classmethod
    def of(cls, row: ApiKey) -> "Key":
        return cls.model_validate(row, from_attributes=True)


class NewKey(Key):
    """A key as it was made; its text is shown only now."""

    key: str = Field(description="The key's text, for `Authorization: Bearer`.")

    @classmethod
    def made(cls, made: MadeKey) -> "NewKey":
        return cls(**Key.of(made.row).model_dump(), key=made.token)


class OrganizationSummary(BaseModel):
    """An organization."""

    id: UUID = Field(description="The organization's id.")
    slug: str = Field(description="Its short name.")
    name: str = Field(description="What people call it.")


class UserSummary(BaseModel):
    """A user."""

    id: UUID = Field(description="The user's id.")
    email: str = Field(description="The user's address.")
    name: str = Field(description="What people call the user.")


class TierLimits(BaseModel):
    """What an organization may use."""

    name: str = Field(description="The tier's name.")
    active_runs: int = Field(description="Runs that have not ended, per user.")
    agents: int = Field(description="Agents, per organization.")
    workspace_bytes: int = Field(description="Bytes of uploads, per organization.")


class KeySummary(BaseModel):
    """The key of a request."""

    id: UUID = Field(description="The key's id.")
    name: str = Field(description="What it is for.")
    expires_at: datetime = Field(description="From when on it is refused.")


class Me(BaseModel):
    """Who the key's holder is and what the key may do."""

    organization: OrganizationSummary = Field(description="The organization of the key.")
    user: UserSummary = Field(description="The user whose key it is.")
    role: Role = Field(description="The user's role in the organization.")
    scopes: list[ScopeName] = Field(description="What the key may do.")
    tier: TierLimits = Field(description="What the organization may use.")
    key: KeySummary = Field(description="The key itself.")

    @classmethod
    def of(cls, identity: Identity, role: Role, tier: Tier) -> "Me":
        return cls.model_validate(
            {
                "organization": identity.organization,
                "user": identity.user,
                "role": role,
                "scopes": identity.key.scopes,
                "tier": tier,
                "key": identity.key,
            },
            from_attributes=True,
        )


class Member(BaseModel):
    """A user in an organization."""

    user_id: UUID = Field(description="The user's id.")
    email: str = Field(description="The user's address.")
    name: str = Field(description="What people call the user.")
    role: Role = Field(description="The user's role in the organization.")
    joined_at: datetime = Field(description="Since when.")

    @classmethod
    def of(cls, membership: Membership, user: User) -> "Member":
        return cls(
            user_id=user.id,
            email=user.email,
            name=user.name,
            role=membership.role,
            joined_at=membership.created_at,
        )
