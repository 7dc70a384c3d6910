"""What routes ask for: the caller with enough rights, and the caller's transaction."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.kernel.database import Database
from chargehand.tenancy.caller import Caller, Role, Scope
from chargehand.tenancy.key_format import KeyRefused
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.permissions import check_role, check_scopes
from chargehand.web.requests import check_request

_ROLES: dict[Callable[..., Any], Role] = {}
"""What the guards ask for, for the description of the routes."""

bearer = HTTPBearer(
    scheme_name="ApiKey",
    bearerFormat="chk_<public id>_<secret>_<checksum>",
    description="An API key of your organization; its scopes and its user's role say what it may. "
    "The scope `admin` implies all others.",
    auto_error=False,
)


async def authenticated(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> Caller:
    """Who calls. Raises KeyRefused."""
    if credentials is None:
        raise KeyRefused(
            "The request carries no API key. Send it as the header `Authorization: Bearer chk_…`.",
            "missing",
        )
    key_cache: KeyCache = request.app.state.key_cache
    return await key_cache.caller_of(credentials.credentials)


class GuardedRoute(APIRoute):
    """A route that knows who calls before it reads what is sent.

    FastAPI reads a body before it asks for dependencies, and would answer a stranger what is wrong
    with it. For routers: ``APIRouter(route_class=GuardedRoute)``.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await authenticated(request, await bearer(request))
            return await handle(request)

        return guarded


def require(*scopes: Scope, role: Role = "viewer") -> Callable[..., Awaitable[Caller]]:
    """A dependency that returns the caller, whose key holds the scopes and whose role is enough.

    It raises KeyRefused, ScopeMissing, RoleTooLow, and for those who may call the route what
    ``check_request`` raises.
    """

    async def guard(
        request: Request, caller: Annotated[Caller, Security(authenticated, scopes=scopes)]
    ) -> Caller:
        check_scopes(caller, scopes)
        check_role(caller, role)
        await check_request(request)
        return caller

    _ROLES[guard] = role
    return guard


def declare_role(call: Callable[..., Any], role: Role) -> None:
    """Say of a guard that ``require`` has not made what it asks for."""
    _ROLES[call] = role


def role_needed(call: Callable[..., Any]) -> Role | None:
    """The least role that a guard lets pass; None for what is no guard."""
    return _ROLES.get(call)


async def _database(request: Request) -> Database:
    return request.app.state.database


DatabaseDep = Annotated[Database, Depends(_database)]


async def _session(
    database: DatabaseDep, caller: Annotated[Caller, Depends(authenticated)]
) -> AsyncGenerator[AsyncSession]:
    async with database.transaction(caller.organization_id) as session:
        yield session


# "function": committed before the answer leaves, so that a failed commit is an error and no answer
SessionDep = Annotated[AsyncSession, Depends(_session, scope="function")]
"""One transaction of the caller's organization per request."""
