"""The tests' own databases: what a test leaves behind, the next one does not find."""

import asyncio
import os
from collections.abc import Iterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from tests.conftest import TestDatabase
from tests.factories.databases import Databases, statements
from tests.factories.executions import running_service
from tests.factories.tenancy import make_organization

from chargehand.kernel.database import connect


@pytest.fixture
def databases(template: TestDatabase) -> Iterator[Databases]:
    made = Databases(template.owner_url, template.urls)
    yield made
    made.close()


async def rows(url: str) -> dict[str, str]:
    """Every table's contents, without those that the migrations fill."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "select c.oid::regclass::text from pg_class c join pg_namespace n"
            " on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname !~ '^pg_|^information_'"
        )
        found = {
            table: await connection.fetchval(f"select string_agg(t::text, ' ') from {table} t")
            for (table,) in tables
        }
        sequences = await connection.fetch("select sequencename, last_value from pg_sequences")
        return {**found, **{f"{name}()": last for name, last in sequences}}
    finally:
        await connection.close()


def test_rows_of_a_whole_run_are_gone(databases: Databases, tmp_path: object) -> None:
    owner, urls = databases.take()
    before = asyncio.run(rows(owner))

    async def work() -> None:
        database = await connect(urls.app, urls.system, pool_size=4)
        async with running_service(database, urls.system, tmp_path) as service:  # type: ignore[arg-type]
            await service.run(await service.agent(), "@say Hello.")
        await database.close()

    asyncio.run(work())
    assert asyncio.run(rows(owner)) != before
    databases.give_back(owner)
    again, _ = databases.take()
    assert again == owner
    assert asyncio.run(rows(again)) == before
    databases.give_back(again)


@pytest.mark.parametrize(
    "left",
    [
        "alter table steps disable row level security",
        "create policy hole on steps for select using (true)",
        "drop function partitions_ahead()",
        "create table more (id int)",
        "drop table alembic_version",
        "update alembic_version set version_num = 'later'",
    ],
)
def test_one_that_is_another_than_the_template_is_thrown_away(
    databases: Databases, left: str
) -> None:
    owner, _ = databases.take()
    asyncio.run(statements(owner, left))
    databases.give_back(owner)
    again, _ = databases.take()
    assert again != owner
    databases.give_back(again)
    assert make_url(owner).database not in asyncio.run(names(again))


async def names(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch("select datname from pg_database")]
    finally:
        await connection.close()


async def test_a_transaction_that_is_left_open_holds_nothing_up(databases: Databases) -> None:
    owner, urls = await asyncio.to_thread(databases.take)
    database = await connect(urls.app, urls.system, pool_size=2)
    await make_organization(database, "left")
    await database.close()
    connection = await asyncpg.connect(owner)
    await connection.execute("begin; lock table organizations in access exclusive mode")
    async with asyncio.timeout(20):
        await asyncio.to_thread(databases.give_back, owner)
    connection.terminate()
    again, _ = await asyncio.to_thread(databases.take)
    assert again == owner
    assert (await rows(again))["organizations"] is None
    await asyncio.to_thread(databases.give_back, again)


def test_those_that_are_in_use_together_are_different(databases: Databases) -> None:
    (first, _), (second, _) = databases.take(), databases.take()
    assert first != second
    databases.give_back(first)
    databases.give_back(second)
    assert {databases.take()[0], databases.take()[0]} == {first, second}
    databases.give_back(first)
    databases.give_back(second)
    databases.close()
    left = asyncio.run(names(os.environ["DATABASE_URL"]))
    assert not {make_url(url).database for url in (first, second)} & set(left)
