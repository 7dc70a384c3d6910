"""HTTP: start runs and look at them (SPEC API-5); ``control_routes`` steers them."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BeforeValidator, Field

from chargehand.agents.installed import Installed
from chargehand.agents.lookup import get_agent
from chargehand.executions import listing, views
from chargehand.executions.listing import Filters
from chargehand.executions.live import Feed, wait_until_done
from chargehand.executions.live_routes import stream
from chargehand.executions.operations import Started, start
from chargehand.executions.schemas import ExecuteRequest, ExecutionView, LogView, StepView
from chargehand.executions.states import Status
from chargehand.executions.topics import Topics
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import ExecutionId
from chargehand.kernel.jobs import Doorbell
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import DatabaseDep, GuardedRoute, SessionDep, require
from chargehand.tenancy.subscription_tokens import Admitted
from chargehand.web.descriptions import errors, headers
from chargehand.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from chargehand.web.texts import NO_NUL, written_out

router = APIRouter(prefix="/api/v1", tags=["executions"], route_class=GuardedRoute)

EPOCH, FAR = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same body within 24 h gives the same execution.",
    ),
]
EndUser = Annotated[str, Field(max_length=200), NO_NUL] | None
ErrorCode = Annotated[str, Field(max_length=100), NO_NUL] | None
# A year before 1970 or after 10889 has no place in an id.
Moment = Annotated[AwareDatetime, Field(ge=EPOCH, lt=FAR), BeforeValidator(written_out)] | None
Behind = Annotated[
    int, Query(ge=0, le=2**31 - 1, description="Only what comes behind the one of this number.")
]
AgentName = Annotated[str, Path(description="The agent's id or slug.")]
ExecutionPath = Annotated[UUID, Path(description="The execution's id.")]
Reader = Annotated[Caller, Depends(require("executions:read"))]
Starter = Annotated[Caller, Depends(require("agents:execute", role="member"))]
Writer = Annotated[Caller, Depends(require("executions:write", role="member"))]
"""For the routes that steer a run: ``control_routes``."""
Tester = Annotated[Caller, Depends(require("agents:write", role="member"))]

STARTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The run has ended, or its events follow as a stream.",
        "content": {"text/event-stream": {}},
        **headers("X-Execution-Id", "Location", "Idempotency-Replayed", "Cache-Control"),
    },
    202: {
        "model": ExecutionView,
        "description": "The run goes on; ask for it by its id.",
        **headers("X-Execution-Id", "Location", "Idempotency-Replayed"),
    },
    **errors(
        "InvalidInput",
        "AgentNotFound",
        "VisibilityViolation",
        "AgentAccessDenied",
        "VersionNotFound",
        "AgentNotExecutable",
        "UploadNotFound",
        "IdempotencyKeyReused",
        "RateLimitExceeded",
    ),
}


def _feed(request: Request) -> Feed:
    return request.app.state.feed


FeedDep = Annotated[Feed, Depends(_feed)]


@router.post(
    "/agents/{agent}/execute",
    operation_id="execute_agent",
    summary="Run an agent",
    response_model=ExecutionView,
    responses=STARTED,
)
async def execute_agent(
    agent: AgentName,
    body: ExecuteRequest,
    request: Request,
    caller: Starter,
    database: DatabaseDep,
    feed: FeedDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    return await _start(agent, body, request, caller, database, feed, idempotency_key, draft=False)


@router.post(
    "/agents/{agent}/test",
    operation_id="test_agent",
    summary="Run an agent's draft; the run is marked as a test",
    response_model=ExecutionView,
    responses=STARTED,
)
async def start_test(
    agent: AgentName,
    body: ExecuteRequest,
    request: Request,
    caller: Tester,
    database: DatabaseDep,
    feed: FeedDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    return await _start(agent, body, request, caller, database, feed, idempotency_key, draft=True)


async def _start(
    agent: str,
    body: ExecuteRequest,
    request: Request,
    caller: Caller,
    database: Database,
    feed: Feed,
    idempotency_key: str | None,
    *,
    draft: bool,
) -> Response:
    installed: Installed = request.app.state.installed
    async with database.hot(caller.organization_id) as connection:
        started = await start(
            connection,
            caller,
            agent,
            body,
            idempotency_key=idempotency_key,
            draft=draft,
            capabilities=installed.capabilities,
        )
    doorbell: Doorbell = request.app.state.doorbell
    if not started.replayed:
        doorbell.ring()
    headers = headers_of(started)
    if body.mode == "stream":
        topics: Topics = request.app.state.topics
        holder = Admitted(caller)
        opened = topics.open_started(holder, started.execution_id)
        return stream(request, holder, opened, headers)
    if body.mode == "wait":
        await wait_until_done(
            database, feed, caller.organization_id, started.execution_id, body.timeout_s
        )
    return await answer(database, caller, started.execution_id, headers)


def headers_of(started: Started) -> dict[str, str]:
    headers = {
        "X-Execution-Id": str(started.execution_id),
        "Location": f"/api/v1/executions/{started.execution_id}",
    }
    if started.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


async def answer(
    database: Database,
    caller: Caller,
    execution: ExecutionId,
    headers: dict[str, str],
    *,
    status: int | None = None,
) -> Response:
    """The execution as it is now: with 200 where it has ended, else 202, or as ``status`` says."""
    async with database.transaction(caller.organization_id) as session:
        found = await views.view(session, caller, execution)
    status = status or (200 if views.is_over(found.status) else 202)
    return JSONResponse(found.model_dump(mode="json"), status, headers=headers)


@router.get(
    "/executions",
    operation_id="list_executions",
    summary="The executions that you may see, newest first",
    response_model=Page[ExecutionView],
    responses=errors("AgentNotFound", "VisibilityViolation"),
)
async def list_executions(
    caller: Reader,
    session: SessionDep,
    status: Annotated[Status | None, Query(description="In this state.")] = None,
    agent: Annotated[str | None, Query(description="Of the agent with this id or slug.")] = None,
    user: Annotated[UUID | None, Query(description="Who started it.")] = None,
    end_user: Annotated[EndUser, Query(description="Whom it was for.")] = None,
    error_code: Annotated[ErrorCode, Query(description="The code of its error.")] = None,
    is_test: Annotated[bool | None, Query(description="True: runs of drafts only.")] = None,
    created_after: Annotated[Moment, Query(description="At that moment or later.")] = None,
    created_before: Annotated[Moment, Query(description="Before that moment.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ExecutionView]:
    filters = Filters(
        status=status,
        agent_id=(await get_agent(session, caller, agent)).id if agent is not None else None,
        user_id=user,
        end_user=end_user,
        error_code=error_code,
        is_test=is_test,
        created_after=created_after,
        created_before=created_before,
    )
    after = decode_cursor("executions", cursor)
    items = await listing.list_executions(session, caller, filters, after=after, limit=limit + 1)
    more = encode_cursor("executions", items[limit - 1].id) if len(items) > limit else None
    return Page[ExecutionView](items=items[:limit], next_cursor=more)


@router.get(
    "/executions/{execution_id}",
    operation_id="get_execution",
    summary="One execution",
    response_model=ExecutionView,
    responses=errors("ExecutionNotFound"),
)
async def get_execution(
    execution_id: ExecutionPath, caller: Reader, session: SessionDep
) -> ExecutionView:
    return await views.view(session, caller, execution_id)


@router.get(
    "/executions/{execution_id}/steps",
    operation_id="list_execution_steps",
    summary="Its steps, in order",
    response_model=list[StepView],
    responses=errors("ExecutionNotFound"),
)
async def list_execution_steps(
    execution_id: ExecutionPath,
    caller: Reader,
    session: SessionDep,
    after_seq: Behind = 0,
    limit: Limit = 100,
) -> list[StepView]:
    execution, _, agent = await views.find(session, caller, execution_id)
    return await views.list_steps(
        session,
        execution_id,
        after=after_seq,
        limit=limit,
        whole=views.may_control(caller, execution, agent),
    )


@router.get(
    "/executions/{execution_id}/logs",
    operation_id="list_execution_logs",
    summary="Its log, in order",
    response_model=list[LogView],
    responses=errors("ExecutionNotFound", "InsufficientPermissions"),
)
async def list_execution_logs(
    execution_id: ExecutionPath,
    caller: Reader,
    session: SessionDep,
    after_id: Behind = 0,
    limit: Limit = 100,
) -> list[LogView]:
    await views.find_controlled(session, caller, execution_id)
    return await views.list_logs(session, execution_id, after=after_id, limit=limit)
