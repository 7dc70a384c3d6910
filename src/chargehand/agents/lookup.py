"""Find agents and list them, as far as the caller may know of them (SPEC AGT-1, TEN-2, TEN-5)."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, contains_eager, joinedload

from chargehand.agents.access import Action, Visibility, require_access
from chargehand.agents.slugs import is_slug
from chargehand.agents.tables import Agent, AgentVersion, Status
from chargehand.kernel.errors import NotFound
from chargehand.tenancy.caller import Caller

LOADED = (joinedload(Agent.current, innerjoin=True), joinedload(Agent.draft))
"""What of an agent is loaded with it; a public one's hidden draft version hides the agent."""

SLUGS_COMPARED = 2000


class AgentNotFound(NotFound):
    """There is none, or none that the caller may know of; ``details['nearest']`` are slugs."""

    code = "AgentNotFound"


def parse_ref(ref: str) -> UUID | str | None:
    """The id or the slug that a route was given; None for what can be neither."""
    try:
        return UUID(ref)
    except ValueError:
        return ref if is_slug(ref) else None


async def find_agent(session: AsyncSession, caller: Caller, ref: str) -> Agent | None:
    """The agent, with its current version and its draft, whether or not the caller may read it.

    A slug names an agent of the caller's organization; public agents of others go by their id.
    """
    parsed = parse_ref(ref)
    if parsed is None:
        return None
    query = select(Agent).options(*LOADED).execution_options(populate_existing=True)
    return await session.scalar(_named(query, caller, parsed))


def _named(query: Select[Agent], caller: Caller, parsed: UUID | str) -> Select[Agent]:
    own = Agent.organization_id == caller.organization_id
    if isinstance(parsed, UUID):
        return query.where(Agent.id == parsed, or_(own, Agent.visibility == "public"))
    return query.where(own, Agent.slug == parsed)


async def get_agent(
    session: AsyncSession, caller: Caller, ref: str, action: Action = "read"
) -> Agent:
    """The agent, on which the caller may do ``action``.

    Raises AgentNotFound, VisibilityViolation, or AgentAccessDenied.
    """
    agent = await find_agent(session, caller, ref)
    if agent is None:
        slugs = select(Agent.slug).where(
            Agent.organization_id == caller.organization_id,
            Agent.archived_at.is_(None),
            readable(caller),
        )
        raise not_found(ref, list(await session.scalars(slugs.limit(SLUGS_COMPARED))))
    require_access(caller, agent, action)
    return agent


def readable(caller: Caller) -> ColumnElement[bool]:
    """``access.may(caller, agent, "read")`` for the agents of the caller's organization."""
    if caller.is_admin:
        return true()
    return or_(Agent.owner_id == caller.user_id, Agent.visibility.in_(("organization", "public")))


def not_found(ref: str, slugs: list[str]) -> AgentNotFound:
    """The error for an agent that is not there; ``slugs`` are those that the caller may read."""
    near = get_close_matches(ref, slugs, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return AgentNotFound(
        f"There is no agent {ref[:100]!r} that you may use.{hint} GET /api/v1/agents lists them.",
        nearest=near,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list holds; None leaves a filter out. ``text`` is searched in slug, name, description.

    ``shared`` adds the public agents of other organizations. Archived agents are listed only by
    ``status``.
    """

    status: Status | None = None
    visibility: Visibility | None = None
    tag: str | None = None
    owner_id: UUID | None = None
    provider: str | None = None
    model: str | None = None
    text: str | None = None
    active: bool | None = None
    shared: bool = False


async def list_agents(
    session: AsyncSession, caller: Caller, filters: Filters, *, limit: int, after: UUID | None
) -> list[Agent]:
    """Up to ``limit`` agents that the caller may read, newest first, behind the agent ``after``."""
    current = aliased(AgentVersion)
    seen = and_(Agent.organization_id == caller.organization_id, readable(caller))
    query = (
        select(Agent)
        .join(current, Agent.current_version_id == current.id)
        .options(contains_eager(Agent.current.of_type(current)))
        .where(or_(seen, Agent.visibility == "public") if filters.shared else seen)
        .where(*_conditions(filters, current))
        .order_by(Agent.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(Agent.id < after)
    return list(await session.scalars(query))


def _conditions(filters: Filters, current: type[AgentVersion]) -> list[ColumnElement[bool]]:
    """The filters that are set, as conditions."""
    chosen: list[ColumnElement[bool]] = []
    if filters.status is None:
        chosen.append(Agent.archived_at.is_(None))
    else:
        chosen.append(current.status == filters.status)
    if filters.tag is not None:
        chosen.append(Agent.tags.contains([filters.tag]))
    if filters.text is not None:
        columns = (Agent.slug, Agent.name, Agent.description)
        chosen.append(or_(*(c.icontains(filters.text, autoescape=True) for c in columns)))
    equal: list[tuple[ColumnElement[Any] | Any, object]] = [
        (Agent.visibility, filters.visibility),
        (Agent.owner_id, filters.owner_id),
        (Agent.active, filters.active),
        (current.config["model"]["provider"].astext, filters.provider),
        (current.config["model"]["name"].astext, filters.model),
    ]
    return chosen + [column == value for column, value in equal if value is not None]
