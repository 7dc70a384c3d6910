"""From an agent's name to what a run needs, in one query on the hot path (SPEC AGT-3, TEN-5)."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chargehand.agents.access import require_access
from chargehand.agents.configuration import AgentConfig, stored_config
from chargehand.agents.lookup import SLUGS_COMPARED, AgentNotFound, not_found, parse_ref
from chargehand.agents.version_numbers import Number, find_number
from chargehand.agents.versions import version_not_found
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import Conflict
from chargehand.kernel.identifiers import AgentId, OrganizationId, VersionId
from chargehand.tenancy.caller import Caller


class AgentNotExecutable(Conflict):
    """The agent, or the version, is in a state in which it does not run."""

    code = "AgentNotExecutable"


@dataclass(frozen=True, slots=True)
class RunnableVersion:
    """``organization_id`` is the agent's; ``warnings`` are for the caller of the run."""

    agent_id: AgentId
    agent_slug: str
    organization_id: OrganizationId
    version_id: VersionId
    number: str
    config: AgentConfig
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """The agent's half of the row, as ``access`` asks for it."""

    slug: str
    organization_id: UUID
    owner_id: UUID
    visibility: str


# $1 id, $2 slug (one of them null), $3 the caller's organization, $4 whether the draft is meant,
# $5 to $7 the number (null for the current version).
_RESOLVE = """
select agent.id, agent.slug, agent.organization_id, agent.owner_id, agent.visibility, agent.active,
       agent.archived_at, version.id as version_id, version.major, version.minor, version.patch,
       version.status, version.config::text as config
  from agents agent
  left join agent_versions version on version.agent_id = agent.id and case
       when $4 then version.id = agent.draft_version_id
       when $5::integer is null then version.id = agent.current_version_id
       else (version.major, version.minor, version.patch) = ($5, $6, $7) end
 where (agent.id = $1 and (agent.organization_id = $3 or agent.visibility = 'public'))
    or (agent.slug = $2 and agent.organization_id = $3)
"""

_SLUGS = """
select slug from agents
 where organization_id = $1 and archived_at is null
   and ($2 or owner_id = $3 or visibility in ('organization', 'public'))
 limit $4
"""

_NUMBERS = """
select major, minor, patch from agent_versions where agent_id = $1 order by id desc limit 20
"""


async def resolve_for_run(
    connection: Connection,
    caller: Caller,
    ref: str,
    *,
    version: str | None = None,
    draft: bool = False,
) -> RunnableVersion:
    """The version to run: the current one, the one of this full number, or the open draft.

    The connection is one of ``Database.hot``; a draft is for those who may write. Raises
    AgentNotFound, VisibilityViolation, AgentAccessDenied, VersionNotFound, or AgentNotExecutable.
    """
    row = await _find(connection, caller, ref, version, draft)
    if row is None:
        raise await _not_found(connection, caller, ref)
    agent = _Found(row["slug"], row["organization_id"], row["owner_id"], row["visibility"])
    require_access(caller, agent, "write" if draft else "execute")
    _require_runnable(row)
    if row["version_id"] is None:
        raise await _no_version(connection, row, version, draft)
    if not draft:
        _require_executable(row)
    return RunnableVersion(
        row["id"],
        row["slug"],
        row["organization_id"],
        row["version_id"],
        str(_number(row)),
        stored_config(row["config"]),
        _warnings(row),
    )


async def _find(
    connection: Connection, caller: Caller, ref: str, version: str | None, draft: bool
) -> Any:
    parsed = parse_ref(ref)
    if parsed is None:
        return None
    identifier, slug = (parsed, None) if isinstance(parsed, UUID) else (None, parsed)
    # No version has the number -1: what is no number gives the agent without a version.
    number = (None,) * 3 if version is None else find_number(version) or (-1, -1, -1)
    return await connection.fetchrow(
        _RESOLVE, identifier, slug, caller.organization_id, draft, *number
    )


async def _not_found(connection: Connection, caller: Caller, ref: str) -> AgentNotFound:
    rows = await connection.fetch(
        _SLUGS, caller.organization_id, caller.is_admin, caller.user_id, SLUGS_COMPARED
    )
    return not_found(ref, [row["slug"] for row in rows])


async def _no_version(
    connection: Connection, row: Any, version: str | None, draft: bool
) -> Exception:
    if draft:
        return AgentNotExecutable(
            f"The agent {row['slug']} has no draft to test. Change its configuration, which opens "
            "one, or run its current version.",
            agent=row["slug"],
        )
    if version is None:
        # Another organization's agent that was made public before anything of it was published.
        return not_found(row["slug"], [])
    numbers = await connection.fetch(_NUMBERS, row["id"])
    return version_not_found(row["slug"], version, [str(_number(one)) for one in numbers])


def _require_runnable(row: Any) -> None:
    slug = row["slug"]
    if row["archived_at"] is not None:
        raise AgentNotExecutable(
            f"The agent {slug} is archived and does not run any more. Run another one.",
            agent=slug,
            status="archived",
        )
    if not row["active"]:
        raise AgentNotExecutable(
            f"The agent {slug} is deactivated. Activate it: POST /api/v1/agents/{slug}/activate.",
            agent=slug,
            status="inactive",
        )


def _require_executable(row: Any) -> None:
    slug, number, status = row["slug"], _number(row), row["status"]
    if status == "draft":
        raise AgentNotExecutable(
            f"Version {number} of {slug} is a draft, and drafts do not run. Publish it: POST "
            f"/api/v1/agents/{slug}/publish; or try it: POST /api/v1/agents/{slug}/test.",
            agent=slug,
            version=str(number),
            status=status,
        )
    if status == "archived":
        raise AgentNotExecutable(
            f"Version {number} of {slug} is archived and does not run any more. Leave the version "
            "out for the current one.",
            agent=slug,
            version=str(number),
            status=status,
        )


def _warnings(row: Any) -> tuple[str, ...]:
    if row["status"] != "deprecated":
        return ()
    return (f"Version {_number(row)} of {row['slug']} is deprecated; move to its current version.",)


def _number(row: Any) -> Number:
    return Number(row["major"], row["minor"], row["patch"])
