"""Versions of an agent: drafts, publication, numbers (SPEC AGT-3, AGT-4).

Every function takes a session and never commits; the agent it is given is locked by the caller.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.agents.configuration import CONFIG_SCHEMA, AgentConfig
from chargehand.agents.installed import Installed
from chargehand.agents.tables import Agent, AgentVersion
from chargehand.agents.validation import parse
from chargehand.agents.version_numbers import FIRST, Number, Part, find_number
from chargehand.kernel.clock import now
from chargehand.kernel.errors import Conflict, NotFound, Violation
from chargehand.kernel.identifiers import AgentId, OrganizationId, UserId, VersionId, new_id


class VersionNotFound(NotFound):
    """The agent has no such version; ``details['versions']`` are the newest that it has."""

    code = "VersionNotFound"


class VersionConflict(Conflict):
    """The versions of the agent do not allow the change."""

    code = "VersionConflict"


def new_version(
    organization: OrganizationId,
    agent: AgentId,
    number: Number,
    config: AgentConfig,
    *,
    changelog: str,
    created_by: UserId,
) -> AgentVersion:
    """A draft."""
    at = now()
    return AgentVersion(
        id=VersionId(new_id()),
        organization_id=organization,
        agent_id=agent,
        **number._asdict(),
        status="draft",
        config=config.model_dump(mode="json"),
        config_schema=CONFIG_SCHEMA,
        changelog=changelog,
        created_by=created_by,
        created_at=at,
        updated_at=at,
    )


def open_draft(
    session: AsyncSession, agent: Agent, config: AgentConfig, number: Number, author: UserId
) -> AgentVersion:
    """The open draft with this configuration; a new one, of this number, where none is open."""
    if agent.draft is not None:
        agent.draft.config = config.model_dump(mode="json")
        agent.draft.config_schema = CONFIG_SCHEMA
        return agent.draft
    draft = new_version(
        agent.organization_id, agent.id, number, config, changelog="", created_by=author
    )
    session.add(draft)
    agent.draft_version_id = draft.id
    return draft


async def chosen_number(
    session: AsyncSession, agent: Agent, bump: Part | None, version: str | None
) -> Number:
    """The number of the draft, open or to be opened. Raises VersionConflict for one too low."""
    highest = await _highest(session, agent)
    if highest is None:
        if bump is not None:
            raise VersionConflict(
                f"Nothing of {agent.slug} is published yet, so there is nothing to count from. "
                "Give `version` in full, or publish first.",
                agent=agent.slug,
                violations=[Violation("/bump", "nothing to count from").as_json()],
            )
        return _full(version) or (agent.draft.number if agent.draft else FIRST)
    number = _full(version)
    if number is None:
        keep = agent.draft is not None and bump is None
        return agent.draft.number if agent.draft and keep else highest.bumped(bump or "patch")
    if number <= highest:
        raise VersionConflict(
            f"The next version of {agent.slug} must come after {highest}; {number} does not. "
            f"Leave `version` out for {highest.bumped('patch')}.",
            agent=agent.slug,
            highest=str(highest),
            violations=[Violation("/version", f"must come after {highest}").as_json()],
        )
    return number


def _full(version: str | None) -> Number | None:
    return None if version is None else find_number(version)


async def _highest(session: AsyncSession, agent: Agent) -> Number | None:
    """The highest number, not counting the draft's."""
    row = (
        await session.execute(
            select(AgentVersion.major, AgentVersion.minor, AgentVersion.patch)
            .where(AgentVersion.agent_id == agent.id, AgentVersion.status != "draft")
            .order_by(*_NEWEST_FIRST)
            .limit(1)
        )
    ).first()
    return None if row is None else Number(*row)


_NEWEST_FIRST = (
    AgentVersion.major.desc(),
    AgentVersion.minor.desc(),
    AgentVersion.patch.desc(),
)


def publish_draft(
    agent: Agent, draft: AgentVersion, publisher: UserId, *, installed: Installed
) -> None:
    """Make the draft the current version.

    Raises InvalidAgentConfig where the catalogue or what is installed no longer allows it.
    """
    parse(AgentConfig, draft.config, installed=installed)
    draft.status = "published"
    draft.published_at = draft.updated_at = now()
    draft.published_by = publisher
    agent.current_version_id = draft.id
    agent.draft_version_id = None


async def require_draft(session: AsyncSession, agent: Agent, version: str | None) -> AgentVersion:
    """The open draft. Raises VersionNotFound, or VersionConflict if ``version`` is no draft."""
    if version is not None and (agent.draft is None or str(agent.draft.number) != version):
        found = await get_version(session, agent, version)
        raise VersionConflict(
            f"Version {version} of {agent.slug} is {found.status} and never changes. "
            "Change the configuration (PATCH), which opens a new draft, and publish that.",
            agent=agent.slug,
            version=version,
            status=found.status,
            violations=[Violation("/version", f"is {found.status}, and no draft").as_json()],
        )
    if agent.draft is None:
        raise VersionConflict(
            f"{agent.slug} has no draft to publish: {agent.current.number} is its newest version. "
            "Change the configuration (PATCH) first, which opens one.",
            agent=agent.slug,
        )
    return agent.draft


async def get_version(session: AsyncSession, agent: Agent, version: str) -> AgentVersion:
    """Raises VersionNotFound with the numbers that there are."""
    number = find_number(version)
    if number is not None:
        found = await session.scalar(
            select(AgentVersion).where(
                AgentVersion.agent_id == agent.id,
                AgentVersion.major == number.major,
                AgentVersion.minor == number.minor,
                AgentVersion.patch == number.patch,
            )
        )
        if found is not None:
            return found
    newest = await list_versions(session, agent, limit=20)
    raise version_not_found(agent.slug, version, [str(one.number) for one in newest])


def version_not_found(slug: str, version: str, existing: list[str]) -> VersionNotFound:
    return VersionNotFound(
        f"The agent {slug} has no version {version[:50]!r}. "
        f"Its newest are {', '.join(existing[:5])}.",
        agent=slug,
        versions=existing,
    )


async def list_versions(
    session: AsyncSession, agent: Agent, *, limit: int, after: VersionId | None = None
) -> Sequence[AgentVersion]:
    """Versions by the time they were opened, newest first, behind the version ``after``."""
    query = (
        select(AgentVersion)
        .where(AgentVersion.agent_id == agent.id)
        .order_by(AgentVersion.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(AgentVersion.id < after)
    return (await session.scalars(query)).all()
