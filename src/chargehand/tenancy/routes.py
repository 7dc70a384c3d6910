"""The caller, the organization's keys and its members."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from chargehand.kernel.identifiers import KeyId, UserId
from chargehand.tenancy import operations
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import DatabaseDep, GuardedRoute, SessionDep, require
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.schemas import Key, KeyRequest, Me, Member, NewKey
from chargehand.web.descriptions import errors, headers
from chargehand.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["tenancy"], route_class=GuardedRoute)

# A weaker key that could make keys would outlive its own expiry, and revoke stronger ones.
KeyAdmin = Annotated[Caller, Depends(require("admin", role="member"))]


@router.get("/me", operation_id="get_me", response_model=Me, summary="Who am I")
async def get_me(caller: Annotated[Caller, Depends(require())], session: SessionDep) -> Me:
    return Me.of(await operations.identify(session, caller), caller.role, caller.tier)


@router.get(
    "/keys",
    operation_id="list_keys",
    response_model=Page[Key],
    summary="Your keys, newest first; an admin sees the organization's",
)
async def list_keys(
    caller: Annotated[Caller, Depends(require())],
    session: SessionDep,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[Key]:
    rows = await operations.list_keys(
        session, caller, limit=limit + 1, after=decode_cursor("keys", cursor)
    )
    more = encode_cursor("keys", rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[Key.of(row) for row in rows[:limit]], next_cursor=more)


@router.post(
    "/keys",
    operation_id="make_key",
    response_model=NewKey,
    status_code=201,
    summary="Make a key; its text is shown only in this answer",
    responses={201: headers("Cache-Control"), **errors("MemberNotFound")},
)
async def make_key(
    body: KeyRequest,
    caller: KeyAdmin,
    session: SessionDep,
    response: Response,
) -> NewKey:
    made = await operations.make_key(
        session,
        caller,
        name=body.name,
        scopes=body.scopes,
        user_id=None if body.user_id is None else UserId(body.user_id),
        expires_in_days=body.expires_in_days,
    )
    response.headers["Cache-Control"] = "no-store"
    return NewKey.made(made)


@router.delete(
    "/keys/{key_id}",
    operation_id="revoke_key",
    response_model=Key,
    summary="Revoke a key: refused here at once, and by other processes within 5 seconds",
    responses=errors("KeyNotFound"),
)
async def revoke_key(
    key_id: Annotated[UUID, Path(description="The key's id.")],
    caller: KeyAdmin,
    database: DatabaseDep,
    request: Request,
) -> Key:
    async with database.transaction(caller.organization_id) as session:
        revoked = await operations.revoke_key(session, caller, KeyId(key_id))
    key_cache: KeyCache = request.app.state.key_cache
    await key_cache.forget(revoked.public_id)
    return Key.of(revoked)


@router.get(
    "/members",
    operation_id="list_members",
    response_model=Page[Member],
    summary="The members of the organization",
)
async def list_members(
    caller: Annotated[Caller, Depends(require("admin", role="admin"))],
    session: SessionDep,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[Member]:
    rows = await operations.list_members(
        session, caller.organization_id, limit=limit + 1, after=decode_cursor("members", cursor)
    )
    more = encode_cursor("members", rows[limit - 1][0].user_id) if len(rows) > limit else None
    return Page(items=[Member.of(*row) for row in rows[:limit]], next_cursor=more)
