"""Who may do what with an agent (SPEC TEN-1, TEN-5; teams and grants come later). Pure."""

from typing import Any, Literal, Protocol

from chargehand.kernel.errors import Denied
from chargehand.tenancy.caller import Caller

Visibility = Literal["private", "team", "organization", "public"]
Action = Literal["read", "execute", "write", "admin"]

_SHARED: frozenset[Action] = frozenset({"read", "execute"})


class VisibilityViolation(Denied):
    """The agent belongs to the caller's organization and is not shared with the caller."""

    code = "VisibilityViolation"


class AgentAccessDenied(Denied):
    """The caller may see the agent, but not do this with it."""

    code = "AgentAccessDenied"


class AgentLike(Protocol):
    """What the decision needs to know of an agent: two texts and two ids.

    Any, because type checkers do not see through the descriptors of ORM rows.
    """

    @property
    def slug(self) -> Any: ...
    @property
    def organization_id(self) -> Any: ...
    @property
    def owner_id(self) -> Any: ...
    @property
    def visibility(self) -> Any: ...


def may(caller: Caller, agent: AgentLike, action: Action) -> bool:
    """Whether the caller's role and the agent's visibility allow it; scopes are checked before."""
    if caller.role == "viewer" and action != "read":
        return False
    if agent.organization_id != caller.organization_id:
        return agent.visibility == "public" and action in _SHARED
    if caller.is_admin or agent.owner_id == caller.user_id:
        return True
    return agent.visibility in ("organization", "public") and action in _SHARED


def require_access(caller: Caller, agent: AgentLike, action: Action) -> None:
    """Raise VisibilityViolation or AgentAccessDenied unless the caller may.

    For agents that the caller may know of: one's own organization's, and public ones.
    """
    if may(caller, agent, action):
        return
    if not may(caller, agent, "read"):
        raise VisibilityViolation(
            f"The agent {agent.slug} is {agent.visibility}: only its owner and the admins of your "
            "organization may use it. Ask one of them to share it.",
            agent=agent.slug,
            visibility=agent.visibility,
        )
    raise AgentAccessDenied(
        f"You may not {_WORDS[action]} the agent {agent.slug}. {_remedy(caller, agent, action)}",
        agent=agent.slug,
        action=action,
    )


_WORDS: dict[Action, str] = {
    "read": "read",
    "execute": "run",
    "write": "change",
    "admin": "administer",
}


def _remedy(caller: Caller, agent: AgentLike, action: Action) -> str:
    if action == "execute":
        return "Viewers only read: ask an owner of your organization for the role member."
    if agent.organization_id != caller.organization_id:
        return "It belongs to another organization: make an agent of your own like it."
    return "That is for its owner, unless a viewer, and for the admins of your organization."
