"""What every process asks before it serves: the schema is ours, and no role escapes the wall."""

import asyncpg
import pytest
from tests.conftest import TestDatabase

from chargehand import bootstrap, settings
from chargehand.kernel import schema
from chargehand.kernel.schema import RuntimeUrls

PLAIN = settings.load({})


async def open_and_close(urls: RuntimeUrls) -> int:
    """Start up as every process does; returns what the application role then reads.

    Pools that were opened although they ought not to be are closed too: open ones would keep the
    test from ending, and so from failing.
    """
    database = await bootstrap.open_database(PLAIN, urls)
    try:
        return await database.app.fetchval("select count(*) from agents")
    finally:
        await database.close()


async def test_a_whole_schema_under_bound_roles_is_served(clone: TestDatabase) -> None:
    assert await open_and_close(clone.urls) == 0


@pytest.mark.parametrize("role", ["app", "system"])
async def test_the_owner_may_not_serve(clone: TestDatabase, role: str) -> None:
    urls = {"app": clone.urls.app, "system": clone.urls.system, role: clone.owner_url}
    with pytest.raises(schema.UnsafeRole, match="CHARGEHAND_APP_URL"):
        await open_and_close(RuntimeUrls(**urls))


@pytest.mark.parametrize(
    ("damage", "refusal"),
    [
        ("drop table alembic_version", schema.SchemaMissing),
        ("update alembic_version set version_num = '9999'", schema.SchemaNewer),
        ("insert into schema_state (migrating_to) values ('0001')", schema.SchemaHalfApplied),
    ],
)
async def test_a_schema_that_is_not_ours_is_not_served(
    clone: TestDatabase, damage: str, refusal: type[Exception]
) -> None:
    owner = await asyncpg.connect(clone.owner_url)
    await owner.execute(damage)
    await owner.close()
    with pytest.raises(refusal):
        await open_and_close(clone.urls)
