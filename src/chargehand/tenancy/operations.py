"""Organizations, members and keys. Every function takes a session and never commits.

Finding an organization or a user by name comes before the tenant is known: those two take a
connection of the system role (``Database.across``).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.kernel.clock import now
from chargehand.kernel.database import Connection
from chargehand.kernel.errors import Conflict, Invalid, NotFound, Violation
from chargehand.kernel.identifiers import KeyId, OrganizationId, UserId, new_id
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.key_format import mint
from chargehand.tenancy.permissions import check_role, check_scopes, parse_scopes
from chargehand.tenancy.tables import ApiKey, Membership, Organization, User

DEFAULT_KEY_DAYS = 90
_SLUG = re.compile("[a-z0-9]+(-[a-z0-9]+)*")


class DuplicateOrganization(Conflict):
    """The slug is taken."""

    code = "DuplicateOrganization"


class DuplicateUser(Conflict):
    """A user has this email address already."""

    code = "DuplicateUser"


class DuplicateMember(Conflict):
    """The user belongs to the organization already."""

    code = "DuplicateMember"


class MemberNotFound(NotFound):
    """The organization has no such member."""

    code = "MemberNotFound"


class KeyNotFound(NotFound):
    """The organization has no such key, or not for this caller."""

    code = "KeyNotFound"


@dataclass(frozen=True, slots=True)
class MadeKey:
    """``token`` is the key's full text: show it once, store it nowhere."""

    row: ApiKey
    token: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The rows behind a caller."""

    organization: Organization
    user: User
    key: ApiKey


async def find_organization(connection: Connection, slug: str) -> OrganizationId | None:
    return await connection.fetchval("select id from organizations where slug = $1", slug)


async def find_user(connection: Connection, email: str) -> UserId | None:
    return await connection.fetchval("select id from users where email = $1", email.lower())


async def create_organization(
    session: AsyncSession,
    organization_id: OrganizationId,
    *,
    slug: str,
    name: str,
    tier: str,
    owner_id: UserId,
) -> Organization:
    """A new organization and its owner's membership.

    The session is one of ``Database.transaction(organization_id)``, an id that the caller of this
    function made. Raises Invalid for a slug that is none, DuplicateOrganization for one that is
    taken.
    """
    _check_slug(slug)
    row = Organization(id=organization_id, slug=slug, name=name, tier=tier, created_at=now())
    if not await _inserted(session, row):
        raise DuplicateOrganization(
            f"There is an organization with the slug {slug} already. Choose another slug."
        )
    await add_member(session, organization_id, owner_id, "owner")
    return row


async def create_user(session: AsyncSession, *, email: str, name: str) -> UserId:
    """A new user, seen by an organization once a member of it. Raises DuplicateUser."""
    row = User(id=UserId(new_id()), email=email.lower(), name=name, created_at=now())
    if not await _inserted(session, row):
        raise DuplicateUser(
            f"There is a user with the email address {email} already. Add that user as a member "
            "instead of making a new one."
        )
    return row.id


async def add_member(
    session: AsyncSession, organization_id: OrganizationId, user_id: UserId, role: Role
) -> Membership:
    """Raises DuplicateMember."""
    row = Membership(organization_id=organization_id, user_id=user_id, role=role, created_at=now())
    if not await _inserted(session, row):
        raise DuplicateMember("The user is a member of the organization already.")
    return row


async def get_member(
    session: AsyncSession, organization_id: OrganizationId, user_id: UserId
) -> Membership:
    """Raises MemberNotFound."""
    member = await session.get(Membership, (organization_id, user_id))
    if member is None:
        raise MemberNotFound(
            f"Your organization has no member {user_id}. GET /api/v1/members lists its members.",
            violations=[Violation("/user_id", "no member has this id").as_json()],
        )
    return member


async def list_members(
    session: AsyncSession, organization_id: OrganizationId, *, limit: int, after: UUID | None
) -> list[tuple[Membership, User]]:
    """Up to ``limit`` members, oldest user first, behind the user ``after``."""
    query = (
        select(Membership, User)
        .join(User, User.id == Membership.user_id)
        .where(Membership.organization_id == organization_id)
        .order_by(Membership.user_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Membership.user_id > after)
    return [(member, user) for member, user in await session.execute(query)]


async def identify(session: AsyncSession, caller: Caller) -> Identity:
    """The organization, the user and the key of a caller."""
    query = (
        select(Organization, User, ApiKey)
        .join(ApiKey, ApiKey.organization_id == Organization.id)
        .join(User, User.id == ApiKey.user_id)
        .where(Organization.id == caller.organization_id, ApiKey.id == caller.key_id)
    )
    organization, user, key = (await session.execute(query)).one()
    return Identity(organization, user, key)


async def make_key(
    session: AsyncSession,
    caller: Caller,
    *,
    name: str,
    scopes: Iterable[str],
    user_id: UserId | None = None,
    expires_in_days: int = DEFAULT_KEY_DAYS,
) -> MadeKey:
    """A key for the caller, or for another member where the caller is an admin.

    It holds no more than the caller may: scopes of the caller's own key, and a user whose role is
    not above the caller's. Raises UnknownScope, ScopeMissing, RoleTooLow or MemberNotFound.
    """
    wanted = parse_scopes(scopes)
    check_scopes(caller, wanted)
    if user_id is not None and user_id != caller.user_id:
        await _check_may_act_as(session, caller, user_id)
    return await issue_key(
        session,
        caller.organization_id,
        user_id or caller.user_id,
        name=name,
        scopes=wanted,
        expires_at=now() + timedelta(days=expires_in_days),
        created_by=caller.user_id,
    )


async def issue_key(
    session: AsyncSession,
    organization_id: OrganizationId,
    user_id: UserId,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime,
    created_by: UserId,
) -> MadeKey:
    """A key without asking who wants it: for the operator, who makes the first one."""
    presented, token = mint()
    row = ApiKey(
        id=KeyId(new_id()),
        organization_id=organization_id,
        user_id=user_id,
        public_id=presented.public_id,
        secret_hash=presented.secret_hash,
        name=name,
        scopes=list(parse_scopes(scopes)),
        created_by=created_by,
        created_at=now(),
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    return MadeKey(row, token)


async def list_keys(
    session: AsyncSession, caller: Caller, *, limit: int, after: UUID | None
) -> list[ApiKey]:
    """Up to ``limit`` keys, newest first, behind the key ``after``; an admin sees everybody's."""
    query = _visible_keys(caller).order_by(ApiKey.id.desc()).limit(limit)
    if after is not None:
        query = query.where(ApiKey.id < after)
    return list((await session.scalars(query)).all())


async def revoke_key(session: AsyncSession, caller: Caller, key_id: KeyId) -> ApiKey:
    """The key, revoked now or before.

    Raises KeyNotFound for one that the caller does not see, RoleTooLow for one of a user whose
    role is above the caller's.
    """
    row = await session.scalar(_visible_keys(caller).where(ApiKey.id == key_id).with_for_update())
    if row is None:
        raise KeyNotFound(f"There is no key {key_id}. GET /api/v1/keys lists those that you see.")
    holder = await session.get(Membership, (caller.organization_id, row.user_id))
    if holder is not None:
        check_role(caller, holder.role)
    if row.revoked_at is None:
        row.revoked_at = now()
        await session.flush()
    return row


def _visible_keys(caller: Caller) -> Select[ApiKey]:
    query = select(ApiKey).where(ApiKey.organization_id == caller.organization_id)
    if caller.is_admin and "admin" in caller.scopes:
        return query
    return query.where(ApiKey.user_id == caller.user_id)


async def _check_may_act_as(session: AsyncSession, caller: Caller, user_id: UserId) -> None:
    check_scopes(caller, ("admin",))
    check_role(caller, "admin")
    member = await get_member(session, caller.organization_id, user_id)
    check_role(caller, member.role)


def _check_slug(slug: str) -> None:
    if len(slug) > 63 or not _SLUG.fullmatch(slug):
        reason = "small letters, digits and single hyphens, at most 63 characters"
        raise Invalid(
            f"The slug {slug!r} is not one: use {reason}.",
            violations=[Violation("/slug", reason).as_json()],
        )


async def _inserted(session: AsyncSession, row: Organization | User | Membership) -> bool:
    """Whether the row is new; one that is there already may be hidden from this organization.

    Without a conflict target: with one PostgreSQL would also ask the policy for *reading*, which a
    user who is not a member yet does not pass.
    """
    table = type(row)
    values: dict[str, Any] = {column.key: getattr(row, column.key) for column in table.__table__.c}
    result = await session.execute(insert(table).values(values).on_conflict_do_nothing())
    assert isinstance(result, CursorResult)
    return result.rowcount == 1
