"""HTTP: steer runs, answer what they wait for, begin anew from them (SPEC EXE-6, EXE-7, API-5)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from chargehand.executions import answers, lineage, signals, views
from chargehand.executions.live import Bells
from chargehand.executions.operations import Started
from chargehand.executions.routes import (
    ExecutionPath,
    IdempotencyKey,
    Starter,
    Writer,
    answer,
    headers_of,
)
from chargehand.executions.schemas import (
    DecisionRequest,
    EventDelivered,
    EventRequest,
    ExecutionView,
    ForkRequest,
    InputRequest,
    PauseRequest,
)
from chargehand.executions.states import Status
from chargehand.kernel.database import Connection, Database
from chargehand.kernel.errors import Denied
from chargehand.kernel.identifiers import ExecutionId, UserId
from chargehand.kernel.jobs import Doorbell
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import DatabaseDep, GuardedRoute, require
from chargehand.web.descriptions import errors, headers

router = APIRouter(prefix="/api/v1", tags=["executions"], route_class=GuardedRoute)

EventSender = Annotated[Caller, Depends(require("events:write", role="member"))]

_REFUSED = ("ExecutionNotFound", "InsufficientPermissions", "InvalidTransition")
_NOT_BEGUN = (
    *_REFUSED,
    "AgentNotFound",
    "VisibilityViolation",
    "AgentAccessDenied",
    "VersionNotFound",
    "AgentNotExecutable",
    "IdempotencyKeyReused",
    "RateLimitExceeded",
)
STEERED = errors(*_REFUSED)
SIGNALLED: dict[int | str, dict[str, Any]] = {
    202: {"model": ExecutionView, "description": "Its worker has been told, and is at it."},
    **STEERED,
}
BEGUN: dict[int | str, dict[str, Any]] = {
    202: {
        "model": ExecutionView,
        "description": "The new run.",
        **headers("X-Execution-Id", "Location", "Idempotency-Replayed"),
    }
}

Steer = Callable[[Connection, Caller, ExecutionId], Awaitable[Status | None]]


async def _steer(
    request: Request,
    caller: Caller,
    database: Database,
    execution_id: UUID,
    steer: Steer,
    *,
    killing: bool = False,
) -> Response:
    """Do it for one who may; then ring for workers, the owner and whoever watches."""
    async with database.transaction(caller.organization_id) as session:
        run, _, _ = await views.find_controlled(session, caller, execution_id)
    if killing and not (caller.is_admin or run.user_id == caller.user_id):
        raise Denied(
            f"Execution {execution_id} is killed only by who started it and by admins. Cancel it.",
            execution_id=str(execution_id),
        )
    execution = ExecutionId(execution_id)
    async with database.hot(caller.organization_id) as connection:
        status = await steer(connection, caller, execution)
    bells: Bells = request.app.state.bells
    doorbell: Doorbell = request.app.state.doorbell
    if status == "running" or killing:
        bells.wake_owner(execution)
    # Where its owner is still to act, no event has been written yet.
    bells.new_events(execution, None if status == "running" else UserId(run.user_id))
    doorbell.ring()
    return await answer(database, caller, execution, {}, status=202 if status == "running" else 200)


@router.post(
    "/executions/{execution_id}/pause",
    operation_id="pause_execution",
    summary="Pause it: at once, or after the step in hand where it runs",
    response_model=ExecutionView,
    responses=SIGNALLED,
)
async def pause_execution(
    execution_id: ExecutionPath,
    body: PauseRequest,
    request: Request,
    caller: Writer,
    database: DatabaseDep,
) -> Response:
    steer = partial(signals.pause, reason=body.reason)
    return await _steer(request, caller, database, execution_id, steer)


@router.post(
    "/executions/{execution_id}/resume",
    operation_id="resume_execution",
    summary="Let it go on where it was paused",
    response_model=ExecutionView,
    responses=SIGNALLED,
)
async def resume_execution(
    execution_id: ExecutionPath, request: Request, caller: Writer, database: DatabaseDep
) -> Response:
    return await _steer(request, caller, database, execution_id, signals.resume)


@router.post(
    "/executions/{execution_id}/cancel",
    operation_id="cancel_execution",
    summary="Cancel it: at once, or within 2 s where it runs",
    response_model=ExecutionView,
    responses=SIGNALLED,
)
async def cancel_execution(
    execution_id: ExecutionPath, request: Request, caller: Writer, database: DatabaseDep
) -> Response:
    return await _steer(request, caller, database, execution_id, signals.request_cancel)


@router.post(
    "/executions/{execution_id}/kill",
    operation_id="kill_execution",
    summary="End it at once, whatever its worker does",
    response_model=ExecutionView,
    responses=STEERED,
)
async def kill_execution(
    execution_id: ExecutionPath, request: Request, caller: Writer, database: DatabaseDep
) -> Response:
    return await _steer(request, caller, database, execution_id, signals.kill, killing=True)


@router.delete(
    "/executions/{execution_id}",
    operation_id="delete_execution",
    summary="The same as kill",
    response_model=ExecutionView,
    responses=STEERED,
)
async def delete_execution(
    execution_id: ExecutionPath, request: Request, caller: Writer, database: DatabaseDep
) -> Response:
    return await _steer(request, caller, database, execution_id, signals.kill, killing=True)


@router.post(
    "/executions/{execution_id}/input",
    operation_id="send_input",
    summary="Answer its question, or the calls of your tools",
    response_model=ExecutionView,
    responses=errors(*_REFUSED, "WaitClosed", "InvalidInput"),
)
async def send_input(
    execution_id: ExecutionPath,
    body: InputRequest,
    request: Request,
    caller: Writer,
    database: DatabaseDep,
) -> Response:
    if body.tool_results is None:
        steer: Steer = partial(answers.give_input, answer=body.input, wait=body.wait)
    else:
        results = [one.model_dump(exclude_unset=True) for one in body.tool_results]
        steer = partial(answers.give_results, results=results, wait=body.wait)
    return await _steer(request, caller, database, execution_id, steer)


@router.post(
    "/executions/{execution_id}/approve",
    operation_id="approve_call",
    summary="Approve the call that it waits with; it is made when enough persons have",
    response_model=ExecutionView,
    responses=errors(*_REFUSED, "WaitClosed", "AlreadyApproved"),
)
async def approve_call(
    execution_id: ExecutionPath,
    body: DecisionRequest,
    request: Request,
    caller: Writer,
    database: DatabaseDep,
) -> Response:
    steer = partial(answers.approve, wait=body.wait, comment=body.comment)
    return await _steer(request, caller, database, execution_id, steer)


@router.post(
    "/executions/{execution_id}/deny",
    operation_id="deny_call",
    summary="Deny the call that it waits with; its model is told so",
    response_model=ExecutionView,
    responses=errors(*_REFUSED, "WaitClosed"),
)
async def deny_call(
    execution_id: ExecutionPath,
    body: DecisionRequest,
    request: Request,
    caller: Writer,
    database: DatabaseDep,
) -> Response:
    steer = partial(answers.deny, wait=body.wait, comment=body.comment)
    return await _steer(request, caller, database, execution_id, steer)


@router.post(
    "/executions/{execution_id}/retry",
    operation_id="retry_execution",
    summary="Go on, as a new run, from the last checkpoint of one that failed or was cancelled",
    status_code=202,
    response_model=ExecutionView,
    responses={**BEGUN, **errors(*_NOT_BEGUN)},
)
async def retry_execution(
    execution_id: ExecutionPath,
    request: Request,
    caller: Starter,
    database: DatabaseDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    begin = partial(lineage.retry, idempotency_key=idempotency_key)
    return await _begin(request, caller, database, execution_id, begin)


@router.post(
    "/executions/{execution_id}/fork",
    operation_id="fork_execution",
    summary="A new run from one of its steps, with another input, model or instructions",
    status_code=202,
    response_model=ExecutionView,
    responses={
        **BEGUN,
        **errors(*_NOT_BEGUN, "InvalidInput", "InvalidAgentConfig", "UploadNotFound"),
    },
)
async def fork_execution(
    execution_id: ExecutionPath,
    body: ForkRequest,
    request: Request,
    caller: Starter,
    database: DatabaseDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    begin = partial(
        lineage.fork,
        asked=body,
        idempotency_key=idempotency_key,
        installed=request.app.state.installed,
    )
    return await _begin(request, caller, database, execution_id, begin)


async def _begin(
    request: Request,
    caller: Caller,
    database: Database,
    execution_id: UUID,
    begin: Callable[[Connection, Caller, ExecutionId], Awaitable[Started]],
) -> Response:
    async with database.transaction(caller.organization_id) as session:
        await views.find_controlled(session, caller, execution_id)
    async with database.hot(caller.organization_id) as connection:
        started = await begin(connection, caller, ExecutionId(execution_id))
    doorbell: Doorbell = request.app.state.doorbell
    doorbell.ring()
    return await answer(database, caller, started.execution_id, headers_of(started), status=202)


@router.post(
    "/events",
    operation_id="send_event",
    summary="Tell of something that happened; each run that waits for it goes on, once",
    response_model=EventDelivered,
    responses=errors("InvalidInput"),
)
async def send_event(
    body: EventRequest, request: Request, caller: EventSender, database: DatabaseDep
) -> EventDelivered:
    async with database.hot(caller.organization_id) as connection:
        woken = await answers.deliver_event(
            connection, caller, body.event_type, body.payload, body.user
        )
    bells: Bells = request.app.state.bells
    doorbell: Doorbell = request.app.state.doorbell
    for execution, user in woken:
        bells.new_events(execution, user)
    doorbell.ring()
    return EventDelivered(woken=[execution for execution, _ in woken])
