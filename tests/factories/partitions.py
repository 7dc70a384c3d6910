"""Partitions that are missing, as after a long stand-still."""

import asyncpg


async def drop_future_partitions(owner: asyncpg.Connection, parent: str) -> None:
    children = await owner.fetch(
        "select inhrelid::regclass::text as name, "
        "pg_get_expr(relpartbound, oid) as bound from pg_inherits join pg_class on oid = inhrelid "
        "where inhparent = $1::regclass order by 1",
        parent,
    )
    floor = await owner.fetchval("select uuid7_floor(now())::text")
    for child in children:
        if child["bound"].split("'")[1] > floor:
            await owner.execute(f"drop table {child['name']}")
