"""Organizations, users and memberships (SPEC TEN-1)."""

from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tests.conftest import TestDatabase
from tests.factories.tenancy import make_caller, make_organization

from chargehand.kernel.database import Database, Row
from chargehand.kernel.errors import Invalid
from chargehand.kernel.identifiers import OrganizationId, UserId, new_id
from chargehand.tenancy import operations, tables
from chargehand.tenancy.permissions import ScopeMissing


async def create(database: Database, slug: str, owner_id: UserId) -> OrganizationId:
    organization_id = OrganizationId(new_id())
    async with database.transaction(organization_id) as session:
        await operations.create_organization(
            session, organization_id, slug=slug, name=slug, tier="free", owner_id=owner_id
        )
    return organization_id


async def test_an_organization_is_found_by_its_slug_across_organizations(
    database: Database,
) -> None:
    organization = await make_organization(database, "acme")
    async with database.across() as connection:
        assert await operations.find_organization(connection, "acme") == organization.id
        assert await operations.find_organization(connection, "acm") is None
        owner_id = await operations.find_user(connection, "ACME@example.com")
        assert owner_id is not None
        assert await operations.find_user(connection, "nobody@example.com") is None
    async with database.transaction(organization.id) as session:
        assert (await operations.get_member(session, organization.id, owner_id)).role == "owner"


async def test_a_slug_is_taken_although_its_organization_is_hidden(database: Database) -> None:
    caller, _ = await make_caller(database, organization=await make_organization(database, "acme"))
    with pytest.raises(operations.DuplicateOrganization, match="acme already"):
        await create(database, "acme", caller.user_id)
    async with database.across() as connection:
        assert await connection.fetchval("select count(*) from organizations") == 1


@pytest.mark.parametrize("slug", ["", "Acme", "a--b", "-a", "a b", "é", "a" * 64])
async def test_a_text_that_is_no_slug_is_refused(database: Database, slug: str) -> None:
    with pytest.raises(Invalid) as refused:
        await create(database, slug, UserId(new_id()))
    assert refused.value.details["violations"][0]["pointer"] == "/slug"


async def test_a_user_can_belong_to_two_organizations(database: Database) -> None:
    caller, _ = await make_caller(database, "member")
    second = await create(database, "second", caller.user_id)
    async with database.transaction(second) as session:
        assert [
            (member.role, user.id)
            for member, user in await operations.list_members(session, second, limit=5, after=None)
        ] == [("owner", caller.user_id)]
    async with database.transaction(caller.organization_id) as session:
        member = await operations.get_member(session, caller.organization_id, caller.user_id)
    assert member.role == "member"


async def test_an_email_address_belongs_to_one_user_whatever_its_case(database: Database) -> None:
    first, second = await make_organization(database), await make_organization(database)
    async with database.transaction(first.id) as session:
        await operations.create_user(session, email="Ada@example.com", name="Ada")
    with pytest.raises(operations.DuplicateUser, match="Add that user as a member"):
        async with database.transaction(second.id) as session:
            await operations.create_user(session, email="ada@EXAMPLE.com", name="Ada")


async def test_nobody_is_a_member_twice(database: Database) -> None:
    caller, _ = await make_caller(database, "viewer")
    with pytest.raises(operations.DuplicateMember):
        async with database.transaction(caller.organization_id) as session:
            await operations.add_member(session, caller.organization_id, caller.user_id, "owner")
    async with database.transaction(caller.organization_id) as session:
        member = await operations.get_member(session, caller.organization_id, caller.user_id)
    assert member.role == "viewer"


async def test_a_transaction_of_one_organization_cannot_write_into_another(
    database: Database,
) -> None:
    mine, theirs = await make_caller(database), await make_caller(database)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.hot(mine[0].organization_id) as connection:
            await connection.execute(
                "insert into memberships (organization_id, user_id, role) values ($1, $2, 'owner')",
                theirs[0].organization_id,
                mine[0].user_id,
            )


async def test_a_key_is_given_no_scope_that_its_maker_lacks(database: Database) -> None:
    """By the operation itself, whatever the route has asked for before it."""
    caller, _ = await make_caller(database, scopes=("agents:read", "executions:read"))
    with pytest.raises(ScopeMissing) as refused:
        async with database.transaction(caller.organization_id) as session:
            await operations.make_key(
                session, caller, name="more", scopes=("agents:read", "agents:write")
            )
    assert refused.value.details["missing_scopes"] == ["agents:write"]
    async with database.transaction(caller.organization_id) as session:
        made = await operations.make_key(session, caller, name="less", scopes=("agents:read",))
        keys = await operations.list_keys(session, caller, limit=5, after=None)
    assert made.row.scopes == ["agents:read"]
    assert [key.name for key in keys] == ["less", "key of a owner"]


async def test_the_mapping_is_what_the_migrations_make(clone: TestDatabase) -> None:
    engine = create_async_engine(make_url(clone.owner_url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(_differences) == []
    finally:
        await engine.dispose()


def _differences(connection: Connection) -> list[Any]:
    """Tables, columns, types, defaults, keys and indexes of this feature that differ."""
    mapped = (tables.Organization, tables.User, tables.Membership, tables.ApiKey)
    names = {table.__tablename__ for table in mapped}
    options = {
        "include_name": lambda name, kind, _: kind != "table" or name in names,
        "include_object": lambda _, name, kind, *__: kind != "table" or name in names,
        "compare_server_default": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    return compare_metadata(context, Row.metadata)
