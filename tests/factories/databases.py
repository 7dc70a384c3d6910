"""Databases for tests: copies of a migrated template, used again while they are like new.

To copy the template takes longer than most tests do. So what a test has written is deleted behind
it, and only where something else is another than in the template (a table, a policy, a row that
the migrations made), or where much was written, the copy is thrown away.
"""

import asyncio
import os
from itertools import count

import asyncpg
from sqlalchemy.engine import make_url

from chargehand.kernel.schema import RuntimeUrls

_MOST_BYTES = 4_000_000
_numbers = count()

# Whatever changes a definition leaves a row in one of these that no transaction before it made.
_DEFINITIONS = " union all ".join(
    f"select count(*), max(xmin::text::bigint) from {catalog}"
    for catalog in (
        "pg_class",
        "pg_attribute",
        "pg_constraint",
        "pg_index",
        "pg_namespace",
        "pg_policy",
        "pg_proc",
        "pg_trigger",
    )
)
_FILLED = """
select c.oid::regclass::text as name, pg_relation_size(c.oid) as bytes
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname !~ '^pg_|^information_schema' and pg_relation_size(c.oid) > 0
"""
_END_OTHERS = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid()
"""
_RESTART_SEQUENCES = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
  from pg_sequences
"""


class Databases:
    """Copies of one template."""

    def __init__(self, template_url: str, urls: RuntimeUrls) -> None:
        self._server = os.environ["DATABASE_URL"]
        self._template_url = template_url
        self._template = str(make_url(template_url).database)
        self._urls = urls
        self._spare = list[str]()
        self._like_new: object = None

    def take(self) -> tuple[str, RuntimeUrls]:
        """The owner's URL of a database that is like the template, and the runtime roles'."""
        name = self._spare.pop() if self._spare else asyncio.run(self._copied())
        urls = RuntimeUrls(on(self._urls.app, name), on(self._urls.system, name))
        return on(self._template_url, name), urls

    def give_back(self, owner_url: str) -> None:
        """Keep it for the next, or drop it."""
        if asyncio.run(self._cleaned(owner_url)):
            self._spare.append(str(make_url(owner_url).database))
        else:
            asyncio.run(self._drop(str(make_url(owner_url).database)))

    def close(self) -> None:
        while self._spare:
            asyncio.run(self._drop(self._spare.pop()))

    async def _copied(self) -> str:
        name = f"{self._template}_{next(_numbers)}"
        await statements(
            self._server,
            # Copied as files: a third of the time that going through the log takes.
            f'create database "{name}" template "{self._template}" strategy file_copy',
            # A server that the tests did not start flushes to disk; no test needs it to wait.
            f'alter database "{name}" set synchronous_commit = off',
        )
        if self._like_new is None:
            connection = await asyncpg.connect(on(self._template_url, name))
            try:
                self._made = {row["name"] for row in await connection.fetch(_FILLED)}
                self._like_new = await self._state(connection)
            finally:
                await connection.close()
        return name

    async def _cleaned(self, owner_url: str) -> bool:
        """Whether it is like new, once what was written to it is deleted."""
        connection = await asyncpg.connect(owner_url)
        try:
            await connection.execute(_END_OTHERS)
            if await self._state(connection) != self._like_new:
                return False
            filled = await connection.fetch(_FILLED)
            if sum(row["bytes"] for row in filled) > _MOST_BYTES:
                return False
            written = [row["name"] for row in filled if row["name"] not in self._made]
            # Without foreign keys and triggers, which only a superuser may leave out.
            await connection.execute(
                "; ".join(
                    [
                        "set session_replication_role = replica",
                        *(f"delete from {name}" for name in written),
                    ]
                )
            )
            await connection.execute(_RESTART_SEQUENCES)
        except asyncpg.PostgresError:
            # What it looks for is not there any more, or is not for this user to do.
            return False
        finally:
            await connection.close()
        return True

    async def _state(self, connection: asyncpg.Connection) -> object:
        """All definitions, and the rows that the migrations made, as something to compare."""
        rows = [
            await connection.fetch(f"select t::text from {name} t order by 1")
            for name in sorted(self._made)
        ]
        return await connection.fetch(_DEFINITIONS), rows

    async def _drop(self, name: str) -> None:
        await statements(self._server, f'drop database "{name}" with (force)')


def on(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


async def statements(url: str, *texts: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for text in texts:
            await connection.execute(text)
    finally:
        await connection.close()
