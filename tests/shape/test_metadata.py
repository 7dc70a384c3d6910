"""The mapped tables equal the migrated schema, column by column."""

import importlib
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

import chargehand
from chargehand.kernel.database import Row

PACKAGE = Path(chargehand.__file__).parent
READ_IN_PART = {"live_executions"}
"""Tables that raw SQL writes and the ORM reads some columns of."""

PARTITIONS = "select relname from pg_class where relispartition"


def mapped() -> MetaData:
    """The metadata of every feature's tables."""
    for module in PACKAGE.glob("*/tables.py"):
        importlib.import_module(f"chargehand.{module.parent.name}.tables")
    return Row.metadata


async def differences(owner_url: str) -> list[str]:
    """What alembic would change of mapped tables and columns; other tables serve raw SQL only."""
    engine = create_async_engine(make_url(owner_url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare, mapped())
    finally:
        await engine.dispose()


def compare(connection: Connection, metadata: MetaData) -> list[str]:
    partitions = set(connection.scalars(text(PARTITIONS)))

    def include_name(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or (name in metadata.tables and name not in partitions)

    def include_object(_object: object, _name: object, kind: str, *_: object) -> bool:
        return kind in ("table", "column")

    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_name": include_name,
            "include_object": include_object,
        },
    )
    changes = [
        str(change)
        for change in compare_metadata(context, metadata)
        if not (change[0] == "remove_column" and change[2] in READ_IN_PART)
    ]
    return changes + primary_key_differences(connection, metadata)


def primary_key_differences(connection: Connection, metadata: MetaData) -> list[str]:
    """Alembic does not compare primary keys, and the ORM finds rows by them."""
    found = inspect(connection)
    return [
        f"primary key of {name}"
        for name, table in metadata.tables.items()
        if found.has_table(name)
        and found.get_pk_constraint(name)["constrained_columns"]
        != [column.name for column in table.primary_key]
    ]


async def test_every_mapped_table_equals_the_migrated_one(template: Any) -> None:
    assert {"organizations", "agents", "uploads", "executions"} <= set(mapped().tables)
    assert await differences(template.owner_url) == []


@pytest.mark.parametrize(
    "change",
    [
        "alter table organizations drop column name",
        "alter table organizations add column added text",
        "alter table organizations alter column name type varchar(20)",
        "alter table organizations alter column name drop not null",
        "alter table organizations drop constraint organizations_pkey cascade",
        "drop table organizations cascade",
    ],
)
async def test_a_difference_is_found(clone: Any, change: str) -> None:
    connection = await asyncpg.connect(clone.owner_url)
    await connection.execute(change)
    await connection.close()
    assert any("organizations" in difference for difference in await differences(clone.owner_url))
