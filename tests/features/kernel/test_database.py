"""Transactions on the runtime roles, and the wall that row-level security puts around them."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import text

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database, DatabaseUnavailable, connect
from chargehand.kernel.identifiers import OrganizationId, new_id

NEW_ORGANIZATION = "insert into organizations (id, slug, name, tier) values ($1, $2, $2, 'free')"
SLUGS = "select slug from organizations order by slug"

SAMPLES: dict[str, Callable[[], object]] = {
    "uuid": new_id,
    "text": lambda: "text",
    "int4": lambda: 1,
    "int8": lambda: 1,
    "bool": lambda: True,
    "bytea": lambda: b"bytes",
    "jsonb": lambda: "{}",
    "_text": list,
    "timestamptz": now,
}
"""A value of each type that a column without a default has."""


async def make_organization(database: Database, slug: str) -> OrganizationId:
    organization = OrganizationId(new_id())
    async with database.hot(organization) as connection:
        await connection.execute(NEW_ORGANIZATION, organization, slug)
    return organization


@pytest.fixture
async def owner(clone: Any) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the tables, whom row-level security does not bind."""
    connection = await asyncpg.connect(clone.owner_url)
    yield connection
    await connection.close()


async def test_an_organization_sees_only_its_own_rows(database: Database) -> None:
    first = await make_organization(database, "first")
    await make_organization(database, "second")
    async with database.hot(first) as connection:
        assert [row["slug"] for row in await connection.fetch(SLUGS)] == ["first"]
    async with database.transaction(first) as session:
        assert (await session.execute(text(SLUGS))).scalars().all() == ["first"]
    async with database.across() as connection:
        assert [row["slug"] for row in await connection.fetch(SLUGS)] == ["first", "second"]


async def test_a_pooled_connection_forgets_its_organization(database: Database) -> None:
    await make_organization(database, "first")
    async with database.app.acquire() as connection:
        assert await connection.fetch(SLUGS) == []


@pytest.mark.parametrize("way", ["hot", "transaction"])
async def test_an_error_undoes_the_whole_transaction(database: Database, way: str) -> None:
    organization = await make_organization(database, "kept")
    with pytest.raises(ZeroDivisionError):
        await _rename_and_fail(database, organization, way)
    async with database.across() as connection:
        assert [row["slug"] for row in await connection.fetch(SLUGS)] == ["kept"]


async def _rename_and_fail(database: Database, organization: OrganizationId, way: str) -> None:
    rename = "update organizations set slug = 'lost'"
    if way == "hot":
        async with database.hot(organization) as connection:
            assert await connection.execute(rename) == "UPDATE 1"
            raise ZeroDivisionError
    async with database.transaction(organization) as session:
        raw = await (await session.connection()).get_raw_connection()
        assert await cast(Any, raw.driver_connection).execute(rename) == "UPDATE 1"
        raise ZeroDivisionError


STOPPABLE = "select pg_sleep(60)"
UNSTOPPABLE = """
do $$ begin
    perform pg_sleep(60);
exception when query_canceled then
    perform pg_sleep(60);
end $$"""


# The second stands for a request to cancel that PostgreSQL read before the statement.
@pytest.mark.parametrize("statement", [STOPPABLE, UNSTOPPABLE], ids=["stops", "does not stop"])
async def test_a_cancelled_transaction_is_undone_and_holds_no_lock(
    database: Database, statement: str
) -> None:
    organization = await make_organization(database, "kept")
    began = asyncio.Event()

    async def rename_and_wait() -> None:
        async with database.hot(organization) as connection:
            await connection.execute("update organizations set slug = 'lost'")
            began.set()
            await connection.execute(statement)

    task = asyncio.create_task(rename_and_wait())
    await began.wait()
    task.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.hot(organization) as connection:
            assert await connection.fetchval("select slug from organizations for update") == "kept"


async def test_json_comes_back_as_it_went_in(database: Database) -> None:
    document = {"text": "ü\n", "number": 1.5, "nothing": None, "list": [1, {"a": []}]}
    async with database.hot(OrganizationId(new_id())) as connection:
        assert await connection.fetchval("select $1::jsonb", document) == document


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    url = "postgresql://someone:secret@127.0.0.1:1/nowhere"
    with pytest.raises(DatabaseUnavailable) as caught:
        await connect(url, url)
    assert "127.0.0.1:1/nowhere" in caught.value.message
    assert "DATABASE_URL" in caught.value.message
    assert "secret" not in caught.value.message


async def test_the_wall_stands_around_every_tenant_table(
    database: Database, owner: asyncpg.Connection
) -> None:
    tables = await tenant_tables(owner)
    assert {"agents", "executions", "live_executions", "steps", "outbox"} <= set(tables)
    assert await breaches(database, owner, tables) == []


@pytest.mark.parametrize(
    ("breach", "expected"),
    [
        ("alter table steps disable row level security", ["read", "write"]),
        ("create policy hole on steps for select using (true)", ["read"]),
        ("create policy hole on steps for insert with check (true)", ["write"]),
    ],
)
async def test_a_hole_in_the_wall_is_found(
    database: Database, owner: asyncpg.Connection, breach: str, expected: list[str]
) -> None:
    await owner.execute(breach)
    found = await breaches(database, owner, ["steps", "logs"])
    assert found == [("steps", way) for way in expected]


async def tenant_tables(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch(
        "select relname from pg_class join pg_attribute on attrelid = pg_class.oid "
        "where attname = 'organization_id' and relnamespace = 'public'::regnamespace "
        "and relkind in ('r', 'p') and not relispartition order by relname"
    )
    return [row["relname"] for row in rows]


async def breaches(
    database: Database, owner: asyncpg.Connection, tables: list[str]
) -> list[tuple[str, str]]:
    """Each (table, way) in which the application reaches a row of another organization.

    Fails where it does not even reach its own row, because then nothing would be proven.
    """
    ours, theirs = OrganizationId(new_id()), OrganizationId(new_id())
    found = list[tuple[str, str]]()
    # The sample rows point at nothing; only the owner may leave foreign keys unchecked.
    await owner.execute("set session_replication_role = replica")
    for table in tables:
        await _insert(owner, table, ours)
        if await _may(owner, database, table, "select"):
            assert await _visible(database, table, ours) == 1, table
            if await _visible(database, table, theirs):
                found.append((table, "read"))
        if not await _refused(database, owner, table, ours, caller=theirs):
            found.append((table, "write"))
    return found


async def _may(owner: asyncpg.Connection, database: Database, table: str, right: str) -> bool:
    async with database.app.acquire() as connection:
        role = await connection.fetchval("select current_user")
    return await owner.fetchval("select has_table_privilege($1, $2, $3)", role, table, right)


async def _visible(database: Database, table: str, caller: OrganizationId) -> int:
    async with database.hot(caller) as connection:
        return await connection.fetchval(f"select count(*) from {table}")


async def _refused(
    database: Database,
    owner: asyncpg.Connection,
    table: str,
    organization: OrganizationId,
    caller: OrganizationId,
) -> bool:
    statement, values = await _sample(owner, table, organization)
    try:
        async with database.hot(caller) as connection:
            await connection.execute(statement, *values)
    except asyncpg.InsufficientPrivilegeError as error:
        return "row-level security" in str(error)
    return False


async def _insert(owner: asyncpg.Connection, table: str, organization: OrganizationId) -> None:
    statement, values = await _sample(owner, table, organization)
    await owner.execute(statement, *values)


async def _sample(
    owner: asyncpg.Connection, table: str, organization: OrganizationId
) -> tuple[str, list[object]]:
    """An insert of a row that the table's own checks accept."""
    columns = await owner.fetch(
        "select attname as name, typname as type from pg_attribute "
        "join pg_type on pg_type.oid = atttypid where attrelid = $1::regclass and attnum > 0 "
        "and attnotnull and not atthasdef and attidentity = '' and not attisdropped",
        table,
    )
    definitions = await owner.fetch(
        "select pg_get_constraintdef(oid) as check from pg_constraint "
        "where contype = 'c' and conrelid = $1::regclass",
        table,
    )
    allowed = dict[str, object](
        match.groups()
        for row in definitions
        for match in re.finditer(r"\((\w+) = ANY \(ARRAY\['([^']+)'", row["check"])
    )
    values = [allowed.get(c["name"], SAMPLES[c["type"]]()) for c in columns]
    names = [column["name"] for column in columns]
    values[names.index("organization_id")] = organization
    places = ", ".join(f"${i}" for i in range(1, len(names) + 1))
    return f"insert into {table} ({', '.join(names)}) values ({places})", values
