"""HTTP: agents and their versions (SPEC AGT-1 to AGT-6)."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import Field, SkipValidation

from chargehand.agents import lookup, operations, versions
from chargehand.agents.access import Visibility
from chargehand.agents.installed import Installed
from chargehand.agents.lookup import Filters, get_agent
from chargehand.agents.schemas import (
    AgentCreate,
    AgentDeletion,
    AgentPatch,
    AgentPublish,
    AgentSummary,
    AgentValidation,
    AgentView,
    Notice,
    VersionSummary,
    VersionView,
    summary_of,
    version_summary_of,
    version_view_of,
    view_of,
)
from chargehand.agents.tables import Agent, Status
from chargehand.agents.validation import check, parse
from chargehand.kernel.errors import Violation
from chargehand.kernel.identifiers import VersionId
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import GuardedRoute, SessionDep, require
from chargehand.web.descriptions import errors, headers
from chargehand.web.etags import IfMatch, etag_of
from chargehand.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from chargehand.web.texts import NO_NUL

router = APIRouter(prefix="/api/v1", tags=["agents"], route_class=GuardedRoute)

Reader = Annotated[Caller, Depends(require("agents:read"))]
Writer = Annotated[Caller, Depends(require("agents:write", role="member"))]
Text = Annotated[str, Field(max_length=200), NO_NUL] | None
AgentName = Annotated[str, Path(description="The agent's id or slug.")]
Number = Annotated[str, Path(description="The version's number, like `1.1.0`.")]

# Described to callers as what they are, but taken as they come: ``validation`` tells all that is
# wrong with a document at once, which FastAPI's own check of its shape would forestall.
CreateDocument = Annotated[AgentCreate, SkipValidation, Body(title="AgentCreate")]
PatchDocument = Annotated[AgentPatch, SkipValidation, Body(title="AgentPatch")]


FOUND = ("AgentNotFound", "VisibilityViolation")
CHANGED = (*FOUND, "AgentAccessDenied", "AgentArchived", "PreconditionFailed")
ETAG = {200: headers("ETag")}


async def _installed(request: Request) -> Installed:
    return request.app.state.installed


InstalledDep = Annotated[Installed, Depends(_installed)]


@router.post(
    "/agents",
    operation_id="create_agent",
    response_model=AgentView,
    status_code=201,
    summary="Create an agent: a draft, or published at once",
    responses={
        201: headers("ETag", "Location"),
        **errors(
            "InvalidAgentConfig",
            "DuplicateAgentName",
            "DuplicateAgentSlug",
            "OrganizationLimitExceeded",
        ),
    },
)
async def create_agent(
    document: CreateDocument,
    caller: Writer,
    session: SessionDep,
    installed: InstalledDep,
    response: Response,
) -> AgentView:
    wanted, warnings = parse(AgentCreate, document, installed=installed)
    agent = await operations.create(session, caller, wanted, installed=installed)
    response.headers["Location"] = f"/api/v1/agents/{agent.id}"
    return _answer(response, agent, warnings)


@router.post(
    "/agents/validate",
    operation_id="validate_agent",
    response_model=AgentValidation,
    summary="Say what creating this agent would say, and save nothing",
)
async def validate_agent(
    document: CreateDocument, caller: Reader, session: SessionDep, installed: InstalledDep
) -> AgentValidation:
    checked = check(AgentCreate, document, installed=installed)
    violations = checked.violations
    if checked.value is not None:
        violations = await operations.name_violations(session, caller, checked.value)
    return AgentValidation(
        valid=not violations,
        violations=[Notice.of(violation) for violation in violations],
        warnings=[Notice.of(warning) for warning in checked.warnings],
    )


@router.get(
    "/agents",
    operation_id="list_agents",
    response_model=Page[AgentSummary],
    summary="The agents that you may read, newest first",
)
async def list_agents(
    caller: Reader,
    session: SessionDep,
    status: Annotated[Status | None, Query(description="Of the current version.")] = None,
    visibility: Annotated[Visibility | None, Query(description="Shown to these.")] = None,
    tag: Annotated[Text, Query(description="One of its tags, whole.")] = None,
    owner: Annotated[UUID | None, Query(description="A user's id.")] = None,
    provider: Annotated[Text, Query(description="The provider of its model.")] = None,
    model: Annotated[Text, Query(description="Its model, as the provider names it.")] = None,
    text: Annotated[Text, Query(description="Found in slug, name or description.")] = None,
    active: Annotated[bool | None, Query(description="False: those that refuse runs.")] = None,
    shared: Annotated[
        bool, Query(description="Also the public agents of other organizations.")
    ] = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[AgentSummary]:
    filters = Filters(
        status=status,
        visibility=visibility,
        tag=tag,
        owner_id=owner,
        provider=provider,
        model=model,
        text=text,
        active=active,
        shared=shared,
    )
    agents = await lookup.list_agents(
        session, caller, filters, limit=limit + 1, after=decode_cursor("agents", cursor)
    )
    more = encode_cursor("agents", agents[limit - 1].id) if len(agents) > limit else None
    return Page(items=[summary_of(agent) for agent in agents[:limit]], next_cursor=more)


@router.get(
    "/agents/{agent}",
    operation_id="get_agent",
    response_model=AgentView,
    summary="One agent, by id or slug",
    responses={**ETAG, **errors(*FOUND)},
)
async def show_agent(
    agent: AgentName, caller: Reader, session: SessionDep, response: Response
) -> AgentView:
    return _answer(response, await get_agent(session, caller, agent))


@router.patch(
    "/agents/{agent}",
    operation_id="update_agent",
    response_model=AgentView,
    summary="Change an agent; a new configuration goes to its draft",
    responses={
        **ETAG,
        **errors(*CHANGED, "InvalidAgentConfig", "DuplicateAgentName", "VersionConflict"),
    },
)
async def update_agent(
    agent: AgentName,
    document: PatchDocument,
    caller: Writer,
    session: SessionDep,
    installed: InstalledDep,
    response: Response,
    if_match: IfMatch = None,
) -> AgentView:
    patch, warnings = parse(AgentPatch, document, installed=installed)
    changed = await operations.update(session, caller, agent, patch, if_match)
    return _answer(response, changed, warnings)


@router.delete(
    "/agents/{agent}",
    operation_id="delete_agent",
    response_model=AgentDeletion,
    summary="Delete an agent; one with runs is archived, unless an admin purges it",
    responses=errors(*FOUND, "AgentAccessDenied", "PreconditionFailed"),
)
async def delete_agent(
    agent: AgentName,
    caller: Writer,
    session: SessionDep,
    purge: Annotated[bool, Query(description="Remove it although it has runs.")] = False,
    if_match: IfMatch = None,
) -> AgentDeletion:
    deleted, outcome = await operations.delete(session, caller, agent, if_match, purge=purge)
    return AgentDeletion(id=deleted.id, slug=deleted.slug, outcome=outcome)


@router.post(
    "/agents/{agent}/publish",
    operation_id="publish_agent",
    response_model=AgentView,
    summary="Publish the draft: it becomes the current version",
    responses={
        **ETAG,
        **errors(*CHANGED, "InvalidAgentConfig", "VersionNotFound", "VersionConflict"),
    },
)
async def publish_agent(
    agent: AgentName,
    caller: Writer,
    session: SessionDep,
    installed: InstalledDep,
    response: Response,
    body: AgentPublish | None = None,
    if_match: IfMatch = None,
) -> AgentView:
    published = await operations.publish(
        session, caller, agent, body or AgentPublish(), if_match, installed=installed
    )
    return _answer(response, published)


@router.post(
    "/agents/{agent}/activate",
    operation_id="activate_agent",
    response_model=AgentView,
    summary="Let a deactivated agent run again",
    responses={**ETAG, **errors(*CHANGED)},
)
async def activate_agent(
    agent: AgentName,
    caller: Writer,
    session: SessionDep,
    response: Response,
    if_match: IfMatch = None,
) -> AgentView:
    return _answer(response, await operations.set_active(session, caller, agent, True, if_match))


@router.post(
    "/agents/{agent}/deactivate",
    operation_id="deactivate_agent",
    response_model=AgentView,
    summary="Let an agent refuse new runs",
    responses={**ETAG, **errors(*CHANGED)},
)
async def deactivate_agent(
    agent: AgentName,
    caller: Writer,
    session: SessionDep,
    response: Response,
    if_match: IfMatch = None,
) -> AgentView:
    return _answer(response, await operations.set_active(session, caller, agent, False, if_match))


@router.get(
    "/agents/{agent}/versions",
    operation_id="list_agent_versions",
    response_model=Page[VersionSummary],
    summary="The versions of an agent, newest first",
    responses=errors(*FOUND),
)
async def list_agent_versions(
    agent: AgentName,
    caller: Reader,
    session: SessionDep,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[VersionSummary]:
    found = await get_agent(session, caller, agent)
    this_list = f"agents/{found.id}/versions"
    after = decode_cursor(this_list, cursor)
    rows = await versions.list_versions(
        session, found, limit=limit + 1, after=None if after is None else VersionId(after)
    )
    more = encode_cursor(this_list, rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[version_summary_of(found, row) for row in rows[:limit]], next_cursor=more)


@router.get(
    "/agents/{agent}/versions/{number}",
    operation_id="get_agent_version",
    response_model=VersionView,
    summary="One version, by its full number",
    responses=errors(*FOUND, "VersionNotFound"),
)
async def get_agent_version(
    agent: AgentName, number: Number, caller: Reader, session: SessionDep
) -> VersionView:
    found = await get_agent(session, caller, agent)
    return version_view_of(found, await versions.get_version(session, found, number))


def _answer(response: Response, agent: Agent, warnings: tuple[Violation, ...] = ()) -> AgentView:
    response.headers["ETag"] = etag_of(agent.revision)
    return view_of(agent, warnings)
