"""What an operator does on the database itself: ``migrate``, and keys without having one."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from chargehand.cli import output, reach

if TYPE_CHECKING:
    from chargehand.kernel.database import Database
    from chargehand.kernel.identifiers import OrganizationId, UserId
    from chargehand.kernel.schema import RuntimeUrls
    from chargehand.settings import Settings
    from chargehand.tenancy.caller import Caller
    from chargehand.tenancy.operations import MadeKey

FIRST_ORGANIZATION = "default"
FIRST_OWNER = "owner@localhost"

Result = TypeVar("Result")

_WORDS = {"string_pattern_mismatch": "It must be on one line, without control characters"}
"""Where Pydantic would speak of its own means."""


def migrate(data: reach.Data = None, as_json: output.AsJson = False) -> None:
    """Bring the database up to date.

    Safe to run again, and by several at once.

    Example: DATABASE_URL=postgresql://owner@db/chargehand chargehand migrate
    """
    from chargehand.kernel import schema

    settings = reach.load_settings(CHARGEHAND_DATA=data)
    with reach.owned_server(settings) as (owner_url, urls):
        revision = asyncio.run(schema.migrate(owner_url, urls))
    if as_json:
        output.print_document({"revision": revision})
    else:
        print(f"The database is at revision {revision}.")


def list_keys(data: Path | None, org: str) -> list[dict[str, Any]]:
    """An organization's keys, newest first."""
    return _on_database(data, lambda database: _list(database, org))


def make_key(
    data: Path | None,
    org: str,
    user: str | None,
    scopes: list[str],
    expires_days: int,
    name: str,
) -> dict[str, Any]:
    """A new key of a member, by email, else of the first owner; its text, this once, is ``key``."""
    check_key(name, scopes, expires_days)
    made = _on_database(
        data, lambda database: _make(database, org, user, scopes, expires_days, name)
    )
    return {**_shown(made.row), "key": made.token}


def revoke_key(data: Path | None, org: str, key: str) -> dict[str, Any]:
    """Revoke a key by its id or public id. Raises KeyNotFound."""
    return _on_database(data, lambda database: _revoke(database, org, key))


def check_key(name: str, scopes: list[str], expires_days: int) -> None:
    """Raises Invalid for a key that the HTTP route would refuse too."""
    from pydantic import ValidationError

    from chargehand.kernel.errors import Invalid
    from chargehand.tenancy.schemas import KeyRequest

    try:
        KeyRequest(name=name, scopes=scopes, user_id=None, expires_in_days=expires_days)
    except ValidationError as error:
        wrong = [f"{e['loc'][0]}: {_WORDS.get(e['type'], e['msg'])}" for e in error.errors()]
        raise Invalid(f"No key can be made like this. {'; '.join(wrong)}.") from error


async def make_first_organization(database: "Database") -> "MadeKey | None":
    """The first organization, its owner and a key; None where it is there already (TEN-0)."""
    from chargehand.kernel.identifiers import OrganizationId, new_id
    from chargehand.tenancy import operations

    async with database.across() as connection:
        if await operations.find_organization(connection, FIRST_ORGANIZATION):
            return None
        owner = await operations.find_user(connection, FIRST_OWNER)
    organization = OrganizationId(new_id())
    async with database.transaction(organization) as session:
        owner = owner or await operations.create_user(session, email=FIRST_OWNER, name="Owner")
        await operations.create_organization(
            session,
            organization,
            slug=FIRST_ORGANIZATION,
            name="Default",
            tier="enterprise",
            owner_id=owner,
        )
        return await _issue(session, organization, owner, ["admin"], 90, "first key")


def _on_database(data: Path | None, work: "Callable[[Database], Awaitable[Result]]") -> Result:
    settings = reach.load_settings(CHARGEHAND_DATA=data)
    with reach.server(settings) as (_, urls):
        return asyncio.run(opened_and_done(settings, urls, work))


async def opened_and_done(
    settings: "Settings", urls: "RuntimeUrls", work: "Callable[[Database], Awaitable[Result]]"
) -> Result:
    """Open the database, checked like the service's, for one piece of work."""
    from chargehand import bootstrap

    database = await bootstrap.open_database(settings, urls)
    try:
        return await work(database)
    finally:
        await database.close()


async def _list(database: "Database", org: str) -> list[dict[str, Any]]:
    from chargehand.tenancy import operations

    async with _as_operator(database, org) as (session, caller):
        rows = await operations.list_keys(session, caller, limit=1000, after=None)
        return [_shown(row) for row in rows]


async def _make(
    database: "Database",
    org: str,
    email: str | None,
    scopes: list[str],
    expires_days: int,
    name: str,
) -> "MadeKey":
    from chargehand.kernel.errors import NotFound
    from chargehand.tenancy import operations

    user: UserId | None = None
    if email is not None:
        async with database.across() as connection:
            user = await operations.find_user(connection, email)
        if user is None:
            raise NotFound(f"There is no user with the email address {email}.", code="UserNotFound")
    async with _as_operator(database, org) as (session, caller):
        organization = caller.organization_id
        if user is None:
            user = await _first_owner(session, organization)
        await operations.get_member(session, organization, user)
        return await _issue(session, organization, user, scopes, expires_days, name)


async def _revoke(database: "Database", org: str, key: str) -> dict[str, Any]:
    from chargehand.kernel.identifiers import KeyId
    from chargehand.tenancy import operations

    async with _as_operator(database, org) as (session, caller):
        rows = await operations.list_keys(session, caller, limit=1000, after=None)
        found = next((row.id for row in rows if key in (str(row.id), row.public_id)), None)
        if found is None:
            raise operations.KeyNotFound(
                f"Organization {org} has no key {key}. List its keys with "
                f"`chargehand keys list --org {org}`."
            )
        return _shown(await operations.revoke_key(session, caller, KeyId(found)))


@asynccontextmanager
async def _as_operator(database: "Database", org: str) -> "AsyncGenerator[tuple[Any, Caller]]":
    """A transaction of an organization and a caller who may do everything in it.

    Whoever can connect to the database needs no key. Raises NotFound for an unknown slug.
    """
    from chargehand.kernel.errors import NotFound
    from chargehand.kernel.identifiers import KeyId, UserId
    from chargehand.tenancy.caller import Caller
    from chargehand.tenancy.operations import find_organization
    from chargehand.tenancy.tiers import ENTERPRISE

    nobody = UUID(int=0)
    async with database.across() as connection:
        organization = await find_organization(connection, org)
        slugs = [row["slug"] for row in await connection.fetch("select slug from organizations")]
    if organization is None:
        raise NotFound(_no_organization(org, slugs), code="OrganizationNotFound")
    caller = Caller(
        organization, UserId(nobody), KeyId(nobody), "owner", frozenset({"admin"}), ENTERPRISE
    )
    async with database.transaction(organization) as session:
        yield session, caller


def _no_organization(slug: str, slugs: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(slug, slugs, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`chargehand up` makes the first one, `default`."
    return f"There is no organization {slug}. {hint}"


async def _first_owner(session: Any, organization: "OrganizationId") -> "UserId":
    from chargehand.tenancy import operations

    members = await operations.list_members(session, organization, limit=1000, after=None)
    owners = [member.user_id for member, _ in members if member.role == "owner"]
    if not owners:
        raise operations.MemberNotFound(
            "The organization has no owner. Name one of its members with --user EMAIL."
        )
    return owners[0]


async def _issue(
    session: Any,
    organization: "OrganizationId",
    user: "UserId",
    scopes: list[str],
    expires_days: int,
    name: str,
) -> "MadeKey":
    from datetime import timedelta

    from chargehand.kernel.clock import now
    from chargehand.tenancy.operations import issue_key

    return await issue_key(
        session,
        organization,
        user,
        name=name,
        scopes=scopes,
        expires_at=now() + timedelta(days=expires_days),
        created_by=user,
    )


def _shown(row: Any) -> dict[str, Any]:
    """What may be shown of a key."""
    from chargehand.kernel.clock import now

    return {
        "id": str(row.id),
        "public_id": row.public_id,
        "name": row.name,
        "scopes": row.scopes,
        "user_id": str(row.user_id),
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "expires_at": row.expires_at.isoformat(timespec="seconds"),
        "state": state_of(bool(row.revoked_at), row.expires_at <= now()),
    }


def state_of(revoked: bool, expired: bool) -> str:
    return "revoked" if revoked else "expired" if expired else "active"
