"""Row-level security hides other organizations on the runtime pool (SPEC TEN-2)."""

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId

OWN_ROWS = {
    "organizations": "select id from organizations",
    "users": "select organization_id from users left join memberships on user_id = users.id",
    "memberships": "select organization_id from memberships",
    "api_keys": "select organization_id from api_keys",
}


async def check_isolation(database: Database, organization: OrganizationId) -> None:
    """A query that forgot its WHERE finds rows of this organization, and of no other."""
    for table, query in OWN_ROWS.items():
        async with database.hot(organization) as connection:
            found = {row[0] for row in await connection.fetch(query)}
        assert found == {organization}, table


async def organizations_of(database: Database) -> list[OrganizationId]:
    return [(await make_caller(database))[0].organization_id for _ in range(2)]


async def test_a_forgotten_where_leaks_nothing(database: Database) -> None:
    for organization in await organizations_of(database):
        await check_isolation(database, organization)


async def test_without_an_organization_nothing_is_seen(database: Database) -> None:
    await organizations_of(database)
    for table in OWN_ROWS:
        assert await database.app.fetchval(f"select count(*) from {table}") == 0, table


@pytest.mark.parametrize(
    "breach",
    [
        "drop policy tenant on api_keys",
        "drop policy tenant on memberships",
        "drop policy tenant on organizations",
        "drop policy members on users",
        "alter table api_keys disable row level security",
        "create policy everybody on memberships for select using (true)",
        "create policy everybody on organizations for select using (true)",
        "create policy everybody on users for select using (true)",
    ],
)
async def test_the_check_above_fails_once_a_policy_is_gone_or_too_wide(
    database: Database, clone: TestDatabase, breach: str
) -> None:
    organization, _ = await organizations_of(database)
    await check_isolation(database, organization)
    connection = await asyncpg.connect(clone.owner_url)
    try:
        await connection.execute(breach)
    finally:
        await connection.close()
    with pytest.raises(AssertionError):
        await check_isolation(database, organization)
