"""HTTP: follow runs as server-sent events, with a key or with a subscription token (EXE-10)."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response, Security
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials

from chargehand.executions.live import Watch
from chargehand.executions.schemas import Subscription
from chargehand.executions.topics import (
    Opened,
    RunTopic,
    Topic,
    Topics,
    UserTopic,
    check_may_follow,
    parse_topic,
)
from chargehand.kernel.database import TROUBLES
from chargehand.kernel.errors import Denied
from chargehand.kernel.identifiers import ExecutionId, UserId
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import (
    DatabaseDep,
    GuardedRoute,
    bearer,
    declare_role,
    require,
)
from chargehand.tenancy.key_format import KeyRefused
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.open_connections import OpenConnections
from chargehand.tenancy.permissions import check_scopes
from chargehand.tenancy.subscription_tokens import Admitted, SubscriptionTokens
from chargehand.web.descriptions import errors, headers
from chargehand.web.requests import check_request
from chargehand.web.streaming import HEARTBEAT, encode_event, encode_position, event_stream

router = APIRouter(prefix="/api/v1", tags=["executions"], route_class=GuardedRoute)
# Its guard is not the others': it knows tokens too.
hub = APIRouter()

_RUN_EVENT = "[0-9]{1,9}[.][0-9]{1,9}"
_USER_EVENT = "[0-9a-f]{16}-[0-9a-f]{32}-[0-7][0-9a-f]{7}"


def _last_event_id(pattern: str) -> Any:
    return Header(
        alias="Last-Event-ID",
        description="Go on behind this event of the stream.",
        json_schema_extra={"pattern": f"^({pattern})?$"},
    )


ExecutionPath = Annotated[UUID, Path(description="The execution's id.")]
LastEventOfRun = Annotated[str | None, _last_event_id(_RUN_EVENT)]
LastEventOfUser = Annotated[str | None, _last_event_id(_USER_EVENT)]
LastEvent = Annotated[str | None, _last_event_id(f"{_RUN_EVENT}|{_USER_EVENT}")]
Reader = Annotated[Caller, Depends(require("executions:read"))]
OfUser = Annotated[
    UUID | None, Query(description="Another member of the organization; for its admins.")
]
STREAM = {200: {"content": {"text/event-stream": {}}, **headers("Cache-Control")}}
OVER = {204: {"description": "It has ended, and nothing is behind Last-Event-ID."}}

log = structlog.get_logger()


def _topics(connection: HTTPConnection) -> Topics:
    return connection.app.state.topics


TopicsDep = Annotated[Topics, Depends(_topics)]


@router.get(
    "/executions/{execution_id}/events",
    operation_id="follow_execution",
    summary="Its events from the beginning, or behind Last-Event-ID, until it is done",
    response_class=StreamingResponse,
    responses={**STREAM, **OVER, **errors("ExecutionNotFound", "InsufficientPermissions")},
)
async def follow_execution(
    execution_id: ExecutionPath,
    request: Request,
    caller: Reader,
    topics: TopicsDep,
    last_event_id: LastEventOfRun = None,
) -> Response:
    topic = RunTopic(ExecutionId(execution_id))
    holder = Admitted(caller)
    opened = await topics.open(holder, topic, last_event_id)
    return stream(request, holder, opened)


@router.get(
    "/me/events",
    operation_id="follow_user",
    summary="The events of all your runs from now on, or behind Last-Event-ID",
    description="Each event's data holds its `execution_id`. All types but `output.delta`, "
    "`output.reset` and `log` are there; the run's own stream carries those.",
    response_class=StreamingResponse,
    responses={**STREAM, **errors("MemberNotFound", "InsufficientPermissions")},
)
async def follow_user(
    request: Request,
    caller: Reader,
    topics: TopicsDep,
    user: OfUser = None,
    last_event_id: LastEventOfUser = None,
) -> Response:
    holder = Admitted(caller)
    opened = await topics.open(holder, _user_topic(caller, user), last_event_id)
    return stream(request, holder, opened)


@router.post(
    "/executions/{execution_id}/subscription-token",
    operation_id="make_execution_subscription_token",
    summary="Let a browser follow the execution for an hour, without a key",
    response_model=Subscription,
    responses={
        200: headers("Cache-Control"),
        **errors("ExecutionNotFound", "InsufficientPermissions"),
    },
)
async def make_execution_token(
    execution_id: ExecutionPath,
    request: Request,
    caller: Reader,
    database: DatabaseDep,
    response: Response,
) -> Subscription:
    topic = RunTopic(ExecutionId(execution_id))
    return await _subscription(request, caller, database, response, topic)


@router.post(
    "/subscription-token",
    operation_id="make_user_subscription_token",
    summary="Let a browser follow all your runs for an hour, without a key",
    response_model=Subscription,
    responses={
        200: headers("Cache-Control"),
        **errors("MemberNotFound", "InsufficientPermissions"),
    },
)
async def make_user_token(
    request: Request,
    caller: Reader,
    database: DatabaseDep,
    response: Response,
    user: OfUser = None,
) -> Subscription:
    return await _subscription(request, caller, database, response, _user_topic(caller, user))


async def _subscription(
    request: Request, caller: Caller, database: DatabaseDep, response: Response, topic: Topic
) -> Subscription:
    async with database.transaction(caller.organization_id) as session:
        await check_may_follow(session, caller, topic)
    tokens: SubscriptionTokens = request.app.state.subscription_tokens
    response.headers["Cache-Control"] = "no-store"
    return Subscription(
        token=await tokens.make(caller, str(topic)),
        hub_url=tokens.other_hub.url if tokens.other_hub is not None else _own_hub(request),
        topic=str(topic),
    )


def _own_hub(request: Request) -> str:
    return str(request.base_url) + router.prefix.removeprefix("/") + "/hub"


def _user_topic(caller: Caller, user: UUID | None) -> UserTopic:
    return UserTopic(caller.user_id if user is None else UserId(user))


async def admitted(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    token: Annotated[
        str | None, Query(description="A subscription token, for who cannot set headers.")
    ] = None,
) -> Admitted:
    """Who may follow. Raises KeyRefused or ScopeMissing."""
    return await admit(request, credentials and credentials.credentials, token)


declare_role(admitted, "viewer")


@hub.get(
    "/hub",
    operation_id="follow_topic",
    summary="A topic as server-sent events, for the holder of a subscription token",
    description="The topics are `agent/{execution id}` and `user/{user id}/agents`. A token opens "
    "its own topic, without `log`; a key, which may only come as a header, those that its holder "
    "may follow.",
    response_class=StreamingResponse,
    responses={
        **STREAM,
        **OVER,
        **errors("ExecutionNotFound", "MemberNotFound", "InsufficientPermissions"),
    },
)
async def follow_topic(
    request: Request,
    holder: Annotated[Admitted, Security(admitted, scopes=["executions:read"])],
    topic: Annotated[str, Query(max_length=200, description="What to follow.")],
    topics: TopicsDep,
    last_event_id: LastEvent = None,
) -> Response:
    await check_request(request)
    wanted = parse_topic(topic)
    check_opens(holder, wanted)
    opened = await topics.open(holder, wanted, last_event_id)
    return stream(request, holder, opened)


async def admit(connection: HTTPConnection, presented: str | None, token: str | None) -> Admitted:
    """Who follows: the holder of a key or token in a header, or of a token in the address.

    A browser's page (it sends its origin) must use a token: whoever reads its key can do all that
    the key can. Raises KeyRefused or ScopeMissing.
    """
    state = connection.app.state
    tokens: SubscriptionTokens = state.subscription_tokens
    if token is not None:
        if token.startswith("chk_"):
            raise KeyRefused(
                "An API key in an address ends up in logs. Send it as the header `Authorization: "
                "Bearer chk_…`, or have a subscription token made; revoke this key.",
                "malformed",
            )
        return await tokens.admit(token)
    if presented is None:
        raise KeyRefused(
            "The request carries neither an API key nor a subscription token. Send one as the "
            "header `Authorization: Bearer …`, or a token as ?token=….",
            "missing",
        )
    if not presented.startswith("chk_"):
        return await tokens.admit(presented)
    if connection.headers.get("origin") is not None:
        raise KeyRefused(
            "A page in a browser must not use an API key. Have your server make it a subscription "
            "token with POST /api/v1/subscription-token.",
            "malformed",
        )
    key_cache: KeyCache = state.key_cache
    caller = await key_cache.caller_of(presented)
    check_scopes(caller, ["executions:read"])
    return Admitted(caller)


def check_opens(holder: Admitted, topic: Topic) -> None:
    """Raise Denied if the holder has a token, and it is for another topic."""
    if holder.topic is not None and holder.topic != str(topic):
        raise Denied(
            f"This subscription token is for the topic {holder.topic}, and for no other. Have one "
            f"made for {topic}.",
            topic=holder.topic,
        )


def stream(
    request: Request, holder: Admitted, opened: Opened, added: Mapping[str, str] | None = None
) -> Response:
    """Answer with the topic's events; 204 where there is nothing more to come."""
    if opened.is_over:
        # An EventSource comes back for ever, unless it is told that there is no more.
        return Response(status_code=204, headers=added)
    return event_stream(_frames(request, holder, opened), added or {})


async def _frames(request: Request, holder: Admitted, opened: Opened) -> AsyncGenerator[bytes]:
    """Ends where the database does: the reader comes back, with its last event's id.

    A topic without an end is ended from time to time, so that readers spread over new processes.
    """
    connections: OpenConnections = request.app.state.open_connections
    longest_s: float = request.app.state.longest_stream_s if opened.endless else math.inf
    if opened.begins_now:
        yield encode_position(opened.behind)
    with (
        opened.watching() as watch,
        connections.kept(holder.caller, watch.end, holder.expires_at),
        _ended_after(longest_s, watch),
    ):
        try:
            async for event in opened.follow(watch):
                if event is None:
                    yield HEARTBEAT
                    continue
                if event.frame is None:
                    event.frame = encode_event(event.id, event.type, event.data)
                yield event.frame
        except TROUBLES as error:
            log.warning("stream_broken", error=str(error))


@contextlib.contextmanager
def _ended_after(timeout_s: float, watch: Watch) -> Generator[None]:
    if timeout_s == math.inf:
        yield
        return
    timer = asyncio.get_running_loop().call_later(timeout_s, watch.end)
    try:
        yield
    finally:
        timer.cancel()


router.include_router(hub)
