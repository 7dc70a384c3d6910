"""Row-level security and grants, read from the catalogue of a migrated database."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

UNWALLED = {"alembic_version", "schema_state"}
"""Tables that hold nothing of any tenant."""

NOBODYS = {"organizations", "users", "installation_secrets", "publications"}
"""Walled tables whose rows are not one organization's."""

TABLES = """
select oid, relname as name, relrowsecurity and relforcerowsecurity as walled,
       exists (select from pg_attribute where attrelid = pg_class.oid and not attisdropped
               and attname = 'organization_id' and attnotnull) as of_tenant
  from pg_class
 where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
"""

REACHABLE = """
select relname as name from pg_class
 where oid = any($2) and (has_table_privilege($1, oid, 'select, insert, update, delete, truncate')
                          or has_any_column_privilege($1, oid, 'select, insert, update'))
"""

TO_PUBLIC = """
select relname::text from pg_class cross join aclexplode(relacl) where grantee = 0
   and relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
union all
select attrelid::regclass || '.' || attname from pg_attribute join pg_class on oid = attrelid
 cross join aclexplode(attacl) where grantee = 0
   and relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
union all
select proname::text from pg_proc
 cross join aclexplode(coalesce(proacl, acldefault('f', proowner)))
 where grantee = 0 and prosecdef and pronamespace = 'public'::regnamespace
union all
select nspname || ' ' || privilege_type from pg_namespace cross join aclexplode(nspacl)
 where grantee = 0 and (nspname = 'queue' or nspname = 'public' and privilege_type = 'CREATE')
"""

OURS_ONLY = "(organization_id = ( SELECT current_organization() AS current_organization))"


@pytest.fixture
async def owner(clone: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(clone.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def roles(clone: Any) -> list[str]:
    """The application role and the system role."""
    return [str(make_url(url).username) for url in (clone.urls.app, clone.urls.system)]


async def reachable(owner: asyncpg.Connection, role: str, oids: list[int]) -> set[str]:
    return {row["name"] for row in await owner.fetch(REACHABLE, role, oids)}


async def test_every_table_with_tenants_rows_forces_row_level_security(
    owner: asyncpg.Connection,
) -> None:
    tables = await owner.fetch(TABLES)
    assert {table["name"] for table in tables if not table["walled"]} == UNWALLED
    tenants = {table["name"] for table in tables if table["of_tenant"]}
    assert {table["name"] for table in tables} - tenants == UNWALLED | NOBODYS


async def test_a_role_that_reaches_a_table_has_a_policy_there(
    owner: asyncpg.Connection, roles: list[str]
) -> None:
    tables = {t["name"]: t["oid"] for t in await owner.fetch(TABLES) if t["name"] not in UNWALLED}
    policies = await owner.fetch("select tablename, unnest(roles) as role from pg_policies")
    for role in roles:
        with_policy = {row["tablename"] for row in policies if row["role"] == role}
        assert with_policy == await reachable(owner, role, list(tables.values()))


async def test_the_application_reaches_only_its_own_organizations_rows(
    owner: asyncpg.Connection, roles: list[str]
) -> None:
    tenants = {table["name"] for table in await owner.fetch(TABLES) if table["of_tenant"]}
    policies = await owner.fetch(
        "select tablename, cmd, qual, with_check from pg_policies "
        "where policyname = 'tenant' and roles = array[$1::name] and permissive = 'PERMISSIVE'",
        roles[0],
    )
    found = {row["tablename"]: (row["cmd"], row["qual"], row["with_check"]) for row in policies}
    del found["organizations"]
    assert found == dict.fromkeys(tenants, ("ALL", OURS_ONLY, OURS_ONLY))


async def test_every_other_policy_of_the_application_only_adds_what_may_be_shared(
    owner: asyncpg.Connection, roles: list[str]
) -> None:
    others = await owner.fetch(
        "select tablename, policyname, cmd from pg_policies where roles = array[$1::name] "
        "and policyname <> 'tenant'",
        roles[0],
    )
    assert {tuple(row) for row in others} == {
        ("users", "members", "SELECT"),
        ("users", "newcomers", "INSERT"),
        ("agents", "public_agents", "SELECT"),
        ("agent_versions", "public_versions", "SELECT"),
    }


async def test_nothing_is_granted_to_everyone(owner: asyncpg.Connection) -> None:
    assert await owner.fetch(TO_PUBLIC) == []
    await owner.execute("grant select on agents to public; grant create on schema public to public")
    assert sorted(row[0] for row in await owner.fetch(TO_PUBLIC)) == ["agents", "public CREATE"]


async def test_partitions_are_reached_only_through_their_parents(
    owner: asyncpg.Connection, roles: list[str]
) -> None:
    partitions = await owner.fetch(
        "select oid, relname from pg_class where relispartition and relkind = 'r'"
    )
    oids = [row["oid"] for row in partitions]
    assert len(oids) > 50
    for role in roles:
        assert await reachable(owner, role, oids) == set()
    name = partitions[0]["relname"]
    await owner.execute(f'grant select on "{name}" to "{roles[0]}"')
    assert await reachable(owner, roles[0], oids) == {name}


async def test_the_runtime_roles_own_nothing_and_make_nothing(
    owner: asyncpg.Connection, roles: list[str]
) -> None:
    for role in roles:
        owned = (
            "select count(*) from pg_class join pg_roles r on r.oid = relowner where rolname = $1"
        )
        assert await owner.fetchval(owned, role) == 0
        for schema in ("public", "queue"):
            assert not await owner.fetchval(
                "select has_schema_privilege($1, $2, 'create')", role, schema
            )
