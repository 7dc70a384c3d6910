"""Who calls, and with which rights: what every route is given once a key has been accepted."""

from dataclasses import dataclass
from typing import Literal

from chargehand.kernel.identifiers import KeyId, OrganizationId, UserId
from chargehand.tenancy.tiers import Tier

Role = Literal["viewer", "member", "admin", "owner"]
"""Weakest first (SPEC TEN-1); each role may do what those before it may."""

Scope = Literal[
    "agents:read",
    "agents:write",
    "agents:execute",
    "executions:read",
    "executions:write",
    "prompts:read",
    "prompts:write",
    "conversations:read",
    "conversations:write",
    "chains:read",
    "chains:write",
    "schedules:read",
    "schedules:write",
    "events:write",
    "documents:read",
    "documents:write",
    "usage:read",
    "budgets:write",
    "webhooks:write",
    "audit:read",
    "admin",
]
"""The closed list of SPEC TEN-3; ``admin`` implies all the others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of one organization, acting through one key.

    The role is the user's, the scopes are the key's; a request needs both.
    """

    organization_id: OrganizationId
    user_id: UserId
    key_id: KeyId
    role: Role
    scopes: frozenset[str]
    tier: Tier

    @property
    def is_admin(self) -> bool:
        return self.role in ("admin", "owner")
