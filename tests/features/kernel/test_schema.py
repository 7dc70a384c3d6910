"""Migrating, and refusing to run on a schema or a role that is not as it must be."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from tests.factories.partitions import drop_future_partitions

from chargehand.kernel import schema
from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.kernel.errors import ChargehandError
from chargehand.kernel.identifiers import OrganizationId, new_id

ROOT = Path(__file__).parents[3]
_names = count()


@pytest.fixture
async def owner(clone: Any) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a migrated database."""
    connection = await asyncpg.connect(clone.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def empty() -> AsyncIterator[str]:
    """The owner's URL of a database with nothing in it."""
    server = os.environ["DATABASE_URL"]
    name = f"chargehand_empty_{os.getpid()}_{next(_names)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f'create database "{name}"')
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    await connection.execute(f'drop database "{name}" with (force)')
    for kind in ("app", "system"):
        await connection.execute(f'drop role if exists "{name}_{kind}"')
    await connection.close()


async def test_an_empty_database_is_refused(empty: str) -> None:
    assert await refusal(empty) == "SchemaMissing"


async def test_a_migrated_database_is_accepted(database: Database) -> None:
    await schema.verify(database.app.acquire())
    await schema.verify(database.system.acquire())


async def test_a_migration_that_fails_half_way_leaves_a_database_that_is_refused(
    clone: Any, owner: asyncpg.Connection
) -> None:
    revision = await owner.fetchval("delete from alembic_version returning version_num")
    with pytest.raises(Exception, match="already exists"):
        await schema.migrate(clone.owner_url, clone.urls)
    assert await refusal(clone.urls.app) == "SchemaHalfApplied"
    await owner.execute("insert into alembic_version values ($1)", revision)
    await schema.migrate(clone.owner_url, clone.urls)
    assert await refusal(clone.urls.app) is None


async def test_an_unknown_revision_is_newer(clone: Any, owner: asyncpg.Connection) -> None:
    await owner.execute("update alembic_version set version_num = 'from_the_future'")
    assert await refusal(clone.urls.app) == "SchemaNewer"


async def test_a_newer_program_refuses_an_older_database_until_it_is_migrated(
    clone: Any, tmp_path: Path
) -> None:
    newer = program_with_one_more_revision(tmp_path)
    assert run(newer, VERIFY, clone.urls.app) == "SchemaOutdated"
    assert run(newer, MIGRATE, clone.owner_url) == "9999"
    assert run(newer, VERIFY, clone.urls.app) == "None"
    assert await refusal(clone.urls.app) == "SchemaNewer"


async def refusal(url: str) -> str | None:
    """The code with which a connection of this role is refused."""
    connection = await asyncpg.connect(url)
    try:
        await schema.verify_schema(connection)
    except ChargehandError as error:
        return error.code
    finally:
        await connection.close()
    return None


VERIFY = """
import asyncio, sys
import asyncpg
from chargehand.kernel import schema
from chargehand.kernel.errors import ChargehandError

async def verify(url):
    connection = await asyncpg.connect(url)
    try:
        print(await schema.verify_schema(connection))
    except ChargehandError as error:
        print(error.code)
    finally:
        await connection.close()

asyncio.run(verify(sys.argv[1]))
"""

MIGRATE = """
import asyncio, sys
from chargehand.kernel import schema

print(asyncio.run(schema.migrate(sys.argv[1], schema.runtime_urls(sys.argv[1]))))
"""

REVISION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{newest}", None, None

def upgrade():
    op.execute("create table added ()")
"""


def program_with_one_more_revision(folder: Path) -> Path:
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    versions = folder / "migrations/versions"
    newest = max(path.name for path in versions.glob("*.py")).partition("_")[0]
    (versions / "9999_added.py").write_text(REVISION.format(newest=newest))
    shutil.copytree(ROOT / "src/chargehand/kernel", folder / "src/chargehand/kernel")
    shutil.copy(ROOT / "src/chargehand/__init__.py", folder / "src/chargehand")
    return folder / "src"


def run(source: Path, program: str, url: str) -> str:
    """What ``program`` prints when it runs on that source tree."""
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


RELATIONS = "select oid, relname::text, relacl::text from pg_class order by oid"


async def test_migrating_again_changes_nothing(clone: Any, owner: asyncpg.Connection) -> None:
    before = await owner.fetch(RELATIONS)
    revision = await schema.migrate(clone.owner_url, clone.urls)
    assert await owner.fetchval("select version_num from alembic_version") == revision
    assert await owner.fetch(RELATIONS) == before


async def test_two_processes_may_migrate_an_empty_database_at_once(empty: str) -> None:
    urls = schema.runtime_urls(empty)
    first, second = await asyncio.gather(schema.migrate(empty, urls), schema.migrate(empty, urls))
    assert first == second
    assert await refusal(urls.app) is None
    assert await refusal(urls.system) is None


def test_derived_roles_are_named_after_the_database_and_share_no_password() -> None:
    urls = schema.runtime_urls("postgresql://boss:secret@db.example:5433/factory")
    app, system = make_url(urls.app), make_url(urls.system)
    assert (app.username, system.username) == ("factory_app", "factory_system")
    assert (app.host, app.port, app.database) == ("db.example", 5433, "factory")
    assert len({app.password, system.password, "secret", None}) == 4
    assert urls == schema.runtime_urls("postgresql://boss:secret@db.example:5433/factory")
    assert urls != schema.runtime_urls("postgresql://boss:changed@db.example:5433/factory")


def test_given_runtime_urls_win_and_an_owner_without_password_gives_none() -> None:
    urls = schema.runtime_urls("postgresql://boss@/factory", app_url="postgresql://mine@/factory")
    assert urls.app == "postgresql://mine@/factory"
    assert make_url(urls.system).password is None


async def test_the_runtime_roles_are_safe_and_the_owner_is_not(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with database.app.acquire() as app, database.system.acquire() as system:
        await schema.verify_role(app)
        await schema.verify_role(system)
    with pytest.raises(schema.UnsafeRole, match="CHARGEHAND_APP_URL"):
        await schema.verify_role(owner)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("alter role {role} superuser", "a superuser"),
        ("alter role {role} bypassrls", "bypassing row-level security"),
        ("alter table executions owner to {role}", "owning the tables"),
        ("grant {owner} to {role}", "a member of the owner"),
    ],
)
async def test_a_role_that_row_level_security_would_not_bind_is_refused(
    clone: Any, owner: asyncpg.Connection, harm: str, reason: str
) -> None:
    role = f'"chargehand_role_{os.getpid()}_{next(_names)}"'
    boss = f'"{make_url(clone.owner_url).username}"'
    await owner.execute(f"create role {role}")
    try:
        await owner.execute(f"set role {role}")
        await schema.verify_role(owner)
        await owner.execute("reset role")
        await owner.execute(harm.format(role=role, owner=boss))
        await owner.execute(f"set role {role}")
        with pytest.raises(schema.UnsafeRole):
            await schema.verify_role(owner)
    finally:
        await owner.execute("reset role")
        await owner.execute(f"reassign owned by {role} to {boss}")
        await owner.execute(f"drop role {role}")


async def test_lacking_partitions_alarm_and_the_system_role_makes_them(
    database: Database, owner: asyncpg.Connection
) -> None:
    await drop_future_partitions(owner, "steps")
    await drop_future_partitions(owner, "logs")
    async with database.across() as connection:
        assert await schema.lacking_partitions(connection) == ["logs", "steps"]
        assert await connection.fetchval("select ensure_partitions()") == 3 + 7
        assert await schema.lacking_partitions(connection) == []
        assert await connection.fetchval("select ensure_partitions()") == 0


async def test_the_application_may_not_make_partitions(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="ensure_partitions"):
        await database.app.execute("select ensure_partitions()")


CLAIM = """
insert into claims (execution_id, epoch, event, organization_id, worker, at)
values (uuid7_floor($1), 1, 'claimed', $2, 'worker', $1) returning tableoid::regclass::text
"""


async def test_a_row_beyond_the_last_partition_is_an_error(database: Database) -> None:
    organization = OrganizationId(new_id())
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        async with database.hot(organization) as connection:
            await connection.execute(CLAIM, now() + timedelta(days=400), organization)


async def test_a_partition_begins_with_the_first_millisecond_of_its_month(
    database: Database,
) -> None:
    organization = OrganizationId(new_id())
    today = now()
    turn = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    last, first = turn - timedelta(milliseconds=1), turn
    async with database.hot(organization) as connection:
        for moment in (last, first):
            partition = await connection.fetchval(CLAIM, moment, organization)
            assert partition == f"claims_p{moment:%Y%m}"
