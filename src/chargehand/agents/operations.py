"""Make, change, publish and delete agents (SPEC AGT-1, AGT-3 to AGT-6).

Every function takes a session and never commits. Each change raises the agent's revision and
leaves an event in the outbox, in the same transaction.
"""

from typing import Literal

from sqlalchemy import column, func, insert, select, table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.agents.access import Action
from chargehand.agents.configuration import AgentConfig
from chargehand.agents.installed import Installed
from chargehand.agents.lookup import LOADED, get_agent, not_found
from chargehand.agents.schemas import AgentCreate, AgentPatch, AgentPublish
from chargehand.agents.slugs import first_free, slug_of
from chargehand.agents.tables import Agent, AgentVersion
from chargehand.agents.validation import refusal
from chargehand.agents.version_numbers import FIRST
from chargehand.agents.versions import (
    chosen_number,
    new_version,
    open_draft,
    publish_draft,
    require_draft,
)
from chargehand.kernel.clock import now
from chargehand.kernel.errors import Conflict, LimitReached, Violation
from chargehand.kernel.identifiers import AgentId, new_id
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.permissions import check_role
from chargehand.web.etags import require_match

Outcome = Literal["removed", "archived"]

_OUTBOX = table(
    "outbox",
    column("organization_id"),
    column("subject_id"),
    column("type"),
    column("data", JSONB),
    column("at"),
)


class DuplicateAgentName(Conflict):
    """Another agent of the organization has this name."""

    code = "DuplicateAgentName"


class DuplicateAgentSlug(Conflict):
    """Another agent of the organization has this slug."""

    code = "DuplicateAgentSlug"


class AgentArchived(Conflict):
    """An archived agent does not change any more."""

    code = "AgentArchived"


class OrganizationLimitExceeded(LimitReached):
    """The organization's tier allows no more."""

    code = "OrganizationLimitExceeded"


async def create(
    session: AsyncSession, caller: Caller, wanted: AgentCreate, *, installed: Installed
) -> Agent:
    """A new agent with version 1.0.0, a draft unless ``wanted.publish``.

    Raises OrganizationLimitExceeded, DuplicateAgentName, or DuplicateAgentSlug.
    """
    await _one_namer_at_a_time(session, caller)
    await _require_room(session, caller)
    await _require_free_name(session, caller, wanted.name)
    agent_id, at = AgentId(new_id()), now()
    draft = new_version(
        caller.organization_id,
        agent_id,
        FIRST,
        wanted.config,
        changelog=wanted.changelog,
        created_by=caller.user_id,
    )
    agent = Agent(
        id=agent_id,
        organization_id=caller.organization_id,
        slug=await _free_slug(session, caller, wanted),
        name=wanted.name,
        description=wanted.description,
        owner_id=caller.user_id,
        visibility=wanted.visibility,
        active=True,
        tags=wanted.tags,
        metadata_=wanted.metadata,
        current_version_id=draft.id,
        draft_version_id=draft.id,
        revision=1,
        created_at=at,
        updated_at=at,
    )
    session.add_all([agent, draft])
    await _record(session, caller, agent, "AgentCreated")
    if wanted.publish:
        publish_draft(agent, draft, caller.user_id, installed=installed)
        await _record(session, caller, agent, "AgentPublished")
    return await _flushed(session, agent)


async def name_violations(
    session: AsyncSession, caller: Caller, wanted: AgentCreate
) -> tuple[Violation, ...]:
    """Which of the names that ``wanted`` gives are taken now."""
    found = list[Violation]()
    if await _taken(session, caller, name=wanted.name):
        found.append(Violation("/name", f"an agent is named {wanted.name!r} already"))
    if wanted.slug is not None and await _taken(session, caller, slug=wanted.slug):
        found.append(Violation("/slug", f"an agent has the slug {wanted.slug!r} already"))
    return tuple(found)


async def update(
    session: AsyncSession, caller: Caller, ref: str, patch: AgentPatch, if_match: str | None
) -> Agent:
    """Apply a change; what comes out as it was before leaves the revision as it is.

    Raises PreconditionFailed, VersionConflict, DuplicateAgentName, AgentArchived, or
    InvalidAgentConfig where ``changelog``, ``bump`` or ``version`` have no draft to be about.
    """
    agent = await _to_change(session, caller, ref, if_match)
    if patch.name is not None and patch.name != agent.name:
        await _one_namer_at_a_time(session, caller)
        await _require_free_name(session, caller, patch.name)
    changed = _update_fields(agent, patch)
    if not (await _update_draft(session, caller, agent, patch) or changed):
        return agent
    return await _changed(session, caller, agent, "AgentUpdated")


_FIELDS = {
    "name": "name",
    "description": "description",
    "visibility": "visibility",
    "tags": "tags",
    "metadata": "metadata_",
}


def _update_fields(agent: Agent, patch: AgentPatch) -> bool:
    """Set what the patch gives of the agent itself; returns whether anything became different."""
    given = {attribute: getattr(patch, field) for field, attribute in _FIELDS.items()}
    different = {
        attribute: value
        for attribute, value in given.items()
        if value is not None and value != getattr(agent, attribute)
    }
    for attribute, value in different.items():
        setattr(agent, attribute, value)
    return bool(different)


async def _update_draft(
    session: AsyncSession, caller: Caller, agent: Agent, patch: AgentPatch
) -> bool:
    """Make the draft what the patch wants; returns whether anything became different."""
    config = _new_config(agent, patch)
    _require_draft_for(agent, patch, config)
    if agent.draft is None and config is None:
        return False
    number = await chosen_number(session, agent, patch.bump, patch.version)
    draft = agent.draft
    if config is not None:
        draft = open_draft(session, agent, config, number, caller.user_id)
    assert draft is not None
    changelog = draft.changelog if patch.changelog is None else patch.changelog
    if config is None and (number, changelog) == (draft.number, draft.changelog):
        return False
    draft.major, draft.minor, draft.patch = number
    draft.changelog = changelog
    draft.updated_at = now()
    return True


def _new_config(agent: Agent, patch: AgentPatch) -> AgentConfig | None:
    """The patch's configuration, unless the agent's newest is the same."""
    newest = agent.draft or agent.current
    if patch.config is None or patch.config.model_dump(mode="json") == newest.config:
        return None
    return patch.config


def _require_draft_for(agent: Agent, patch: AgentPatch, config: AgentConfig | None) -> None:
    violations = list[Violation]()
    if patch.bump is not None and patch.version is not None:
        violations.append(Violation("/bump", "give bump or version, not both"))
    if agent.draft is None and config is None:
        violations += [
            Violation(f"/{field}", "is about a draft, and none is open; change config with it")
            for field in ("changelog", "bump", "version")
            if getattr(patch, field) is not None
        ]
    if violations:
        raise refusal(tuple(violations))


async def publish(
    session: AsyncSession,
    caller: Caller,
    ref: str,
    wanted: AgentPublish,
    if_match: str | None,
    *,
    installed: Installed,
) -> Agent:
    """Publish the open draft: it becomes the current version.

    Raises PreconditionFailed, AgentArchived, VersionNotFound, VersionConflict, or
    InvalidAgentConfig where what the draft needs is not there any more.
    """
    agent = await _to_change(session, caller, ref, if_match)
    draft = await require_draft(session, agent, wanted.version)
    if wanted.changelog is not None:
        draft.changelog = wanted.changelog
    publish_draft(agent, draft, caller.user_id, installed=installed)
    return await _changed(session, caller, agent, "AgentPublished")


async def set_active(
    session: AsyncSession, caller: Caller, ref: str, active: bool, if_match: str | None
) -> Agent:
    """Switch an agent on or off; done twice it changes nothing."""
    agent = await _to_change(session, caller, ref, if_match)
    if agent.active == active:
        return agent
    agent.active = active
    event = "AgentActivated" if active else "AgentDeactivated"
    return await _changed(session, caller, agent, event)


async def delete(
    session: AsyncSession, caller: Caller, ref: str, if_match: str | None, *, purge: bool
) -> tuple[Agent, Outcome]:
    """Remove an agent without runs, archive one with runs; ``purge`` removes it all the same.

    Purging is for admins and leaves the runs. Raises PreconditionFailed or RoleTooLow.
    """
    if purge:
        check_role(caller, "admin")
    agent = await _locked(session, caller, ref, if_match)
    if purge or not await _has_runs(session, agent):
        await session.delete(agent)
        await _record(session, caller, agent, "AgentDeleted")
        await session.flush()
        return agent, "removed"
    if agent.archived_at is None:
        await _archive(session, agent)
        await _changed(session, caller, agent, "AgentArchived")
    return agent, "archived"


async def _has_runs(session: AsyncSession, agent: Agent) -> bool:
    # Raw, because runs are a stratum above. Other organizations' runs of a public agent do not
    # show here: they carry all they need with them.
    query = text("select exists (select from executions where agent_id = :agent)")
    return bool(await session.scalar(query, {"agent": agent.id}))


async def _archive(session: AsyncSession, agent: Agent) -> None:
    agent.archived_at = now()
    agent.draft_version_id = None
    versions = await session.scalars(select(AgentVersion).where(AgentVersion.agent_id == agent.id))
    for version in versions:
        version.status = "archived"


async def _to_change(
    session: AsyncSession, caller: Caller, ref: str, if_match: str | None
) -> Agent:
    """The agent, locked and not archived."""
    agent = await _locked(session, caller, ref, if_match)
    if agent.archived_at is not None:
        raise AgentArchived(
            f"The agent {agent.slug} is archived and does not change any more. Create another one.",
            agent=agent.slug,
        )
    return agent


async def _locked(
    session: AsyncSession, caller: Caller, ref: str, if_match: str | None, action: Action = "write"
) -> Agent:
    """The agent, on which the caller may do ``action``, held until the transaction ends.

    Read again once it is held: the one who held it before may have changed it.
    """
    agent = await get_agent(session, caller, ref, action)
    held = select(Agent.id).where(
        Agent.id == agent.id, Agent.organization_id == caller.organization_id
    )
    if await session.scalar(held.with_for_update()) is None:
        raise not_found(ref, [])
    agent = await session.get_one(Agent, agent.id, options=LOADED, populate_existing=True)
    require_match(if_match, agent.revision)
    return agent


async def _changed(session: AsyncSession, caller: Caller, agent: Agent, event: str) -> Agent:
    agent.revision += 1
    agent.updated_at = now()
    await _record(session, caller, agent, event)
    return await _flushed(session, agent)


async def _flushed(session: AsyncSession, agent: Agent) -> Agent:
    """The agent as it is stored now, with the versions that its ids name now."""
    await session.flush()
    return await session.get_one(Agent, agent.id, options=LOADED, populate_existing=True)


async def _record(session: AsyncSession, caller: Caller, agent: Agent, event: str) -> None:
    """Leave an event for whoever listens (webhooks, brokers), if the transaction commits."""
    data = {
        "agent_id": str(agent.id),
        "slug": agent.slug,
        "revision": agent.revision,
        "current_version_id": str(agent.current_version_id),
        "user_id": str(caller.user_id),
    }
    await session.execute(
        insert(_OUTBOX).values(
            organization_id=agent.organization_id,
            subject_id=agent.id,
            type=event,
            data=data,
            at=now(),
        )
    )


async def _one_namer_at_a_time(session: AsyncSession, caller: Caller) -> None:
    """So that counting agents and looking for free names stay true until the commit."""
    key = func.hashtextextended(f"chargehand.agents {caller.organization_id}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def _require_room(session: AsyncSession, caller: Caller) -> None:
    query = select(func.count()).where(
        Agent.organization_id == caller.organization_id, Agent.archived_at.is_(None)
    )
    used = await session.scalar(query) or 0
    if used >= caller.tier.agents:
        raise OrganizationLimitExceeded(
            f"Your organization has {used} agents, the limit of tier {caller.tier.name}. "
            "Delete one that is not needed, or move to a higher tier.",
            used=used,
            limit=caller.tier.agents,
            tier=caller.tier.name,
        )


async def _require_free_name(session: AsyncSession, caller: Caller, name: str) -> None:
    if await _taken(session, caller, name=name):
        raise DuplicateAgentName(
            f"An agent of your organization is named {name!r} already. Choose another name, or "
            "delete that agent (an archived one with ?purge=true).",
            name=name,
            violations=[Violation("/name", "taken by another agent").as_json()],
        )


async def _free_slug(session: AsyncSession, caller: Caller, wanted: AgentCreate) -> str:
    """The slug that was asked for, which must be free, or one made of the name."""
    if wanted.slug is not None:
        if await _taken(session, caller, slug=wanted.slug):
            raise DuplicateAgentSlug(
                f"An agent of your organization has the slug {wanted.slug!r} already. Choose "
                "another slug, or leave it out to have one made of the name.",
                slug=wanted.slug,
                violations=[Violation("/slug", "taken by another agent").as_json()],
            )
        return wanted.slug
    base = slug_of(wanted.name)
    query = select(Agent.slug).where(
        Agent.organization_id == caller.organization_id, Agent.slug.startswith(base)
    )
    return first_free(base, set(await session.scalars(query)))


async def _taken(session: AsyncSession, caller: Caller, **by: str) -> bool:
    query = select(Agent.id).where(Agent.organization_id == caller.organization_id)
    return await session.scalar(query.filter_by(**by)) is not None
