"""The database schema: make it, and refuse to run on one that is not exactly ours.

Three roles. The owner (``DATABASE_URL``) only migrates. The application and the system role run
the service; neither owns a table, is a superuser, or bypasses row-level security.
"""

import hashlib
import hmac
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

import chargehand
from chargehand.kernel.database import unreachable
from chargehand.kernel.errors import Unavailable

PARTITIONS_AHEAD = 2
"""Fewer partitions than this ahead of now is an alarm: a missing one refuses new runs."""


class SchemaMissing(Unavailable):
    code = "SchemaMissing"


class SchemaHalfApplied(Unavailable):
    code = "SchemaHalfApplied"


class SchemaOutdated(Unavailable):
    code = "SchemaOutdated"


class SchemaNewer(Unavailable):
    code = "SchemaNewer"


class UnsafeRole(Unavailable):
    code = "UnsafeRole"


class RoleUnusable(Unavailable):
    code = "RoleUnusable"


@dataclass(frozen=True, slots=True)
class RuntimeUrls:
    """Where the service connects: as the application role and as the system role."""

    app: str
    system: str


def runtime_urls(
    owner_url: str, *, app_url: str | None = None, system_url: str | None = None
) -> RuntimeUrls:
    """The runtime roles' URLs: what is given, else derived from the owner's.

    A derived role is named after the database (roles are shared by a whole server) and its
    password is an HMAC of the owner's, so that every process that knows the owner's URL agrees on
    it and nothing has to be stored. Without an owner's password the roles get none either.
    """
    return RuntimeUrls(
        app_url or _derived(owner_url, "app"), system_url or _derived(owner_url, "system")
    )


def _derived(owner_url: str, kind: str) -> str:
    url = make_url(owner_url)
    role = f"{url.database}_{kind}"
    password = None
    if url.password:
        key = str(url.password).encode()
        password = hmac.new(key, f"chargehand {role}".encode(), hashlib.sha256).hexdigest()
    return url.set(username=role, password=password).render_as_string(hide_password=False)


def migrations_folder() -> Path:
    """Where the migration scripts are: inside an installed wheel, or beside ``src``."""
    package = Path(chargehand.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parents[1] / "migrations"


async def migrate(owner_url: str, urls: RuntimeUrls) -> str:
    """Make the roles, bring the schema up to date, make partitions ahead; returns the revision.

    Safe to run again, and by several processes at once: they wait for one another.
    Raises DatabaseUnavailable, or RoleUnusable where the owner may not make the roles.
    """
    try:
        guard = await asyncpg.connect(owner_url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unreachable(owner_url, error) from error
    try:
        await guard.execute("select pg_advisory_lock(hashtext('chargehand.migrate'))")
        await _ensure_roles(guard, urls)
        await guard.execute(
            "create table if not exists schema_state (migrating_to text not null, "
            "started_at timestamptz not null default now())"
        )
        head = _head()
        await guard.execute("delete from schema_state")
        await guard.execute("insert into schema_state (migrating_to) values ($1)", head)
        await _upgrade(owner_url, urls)
        await guard.execute("select ensure_partitions()")
        await guard.execute("delete from schema_state")
        return head
    finally:
        await guard.close()


async def _ensure_roles(connection: asyncpg.Connection, urls: RuntimeUrls) -> None:
    for url in map(make_url, (urls.app, urls.system)):
        role = _quote(str(url.username))
        exists = await connection.fetchval(
            "select true from pg_roles where rolname = $1", url.username
        )
        verb = "alter" if exists else "create"
        password = f"password '{url.password}'" if url.password else "password null"
        if url.password and "'" in str(url.password):
            raise RoleUnusable(f"The password of role {role} holds a quote; choose another.")
        try:
            await connection.execute(f"{verb} role {role} login {password}")
            await connection.execute(
                f"grant connect on database {_quote(str(url.database))} to {role}"
            )
        except asyncpg.InsufficientPrivilegeError as error:
            if not exists:
                raise RoleUnusable(
                    f"The owner may not create role {role}: {error}. Create it by hand (LOGIN, no "
                    "SUPERUSER, no BYPASSRLS) and set CHARGEHAND_APP_URL and CHARGEHAND_SYSTEM_URL."
                ) from error


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _upgrade(owner_url: str, urls: RuntimeUrls) -> None:
    engine = create_async_engine(make_url(owner_url).set(drivername="postgresql+asyncpg"))
    roles = tuple(_quote(str(make_url(url).username)) for url in (urls.app, urls.system))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run_alembic, roles)
            await connection.commit()
    finally:
        await engine.dispose()


def _run_alembic(connection: SyncConnection, roles: tuple[str, ...]) -> None:
    config = _config()
    config.attributes.update(connection=connection, roles=roles)
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _head() -> str:
    head = _scripts().get_current_head()
    assert head is not None
    return head


async def verify_schema(connection: Any) -> None:
    """Refuse a schema that is missing, half applied, older or newer than this program.

    ``connection`` is an asyncpg connection of a runtime role. Raises SchemaMissing,
    SchemaHalfApplied, SchemaOutdated or SchemaNewer, each with the remedy.
    """
    try:
        revisions = [row[0] for row in await connection.fetch("select * from alembic_version")]
        state = await connection.fetchrow("select * from schema_state")
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
        raise SchemaMissing(
            "The database has no Chargehand schema. Run `chargehand migrate`."
        ) from error
    if state is not None or len(revisions) != 1:
        raise SchemaHalfApplied(
            "A migration of this database began and did not end. Run `chargehand migrate` again "
            "and wait until it is done."
        )
    _compare(revisions[0])


def _compare(revision: str) -> None:
    head = _head()
    if revision == head:
        return
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision in known:
        raise SchemaOutdated(
            f"The database is at revision {revision}, this program needs {head}. "
            "Run `chargehand migrate`."
        )
    raise SchemaNewer(
        f"The database is at revision {revision}, which this program (revision {head}) does not "
        "know. Upgrade Chargehand to the version that migrated it."
    )


async def verify_role(connection: Any) -> None:
    """Refuse a role that row-level security would not bind. Raises UnsafeRole."""
    row = await connection.fetchrow(
        "select current_user as name, rolsuper or rolbypassrls as unbound, "
        "exists (select from pg_class where relname = 'executions' "
        "and pg_has_role(current_user, relowner, 'member')) as owner "
        "from pg_roles where rolname = current_user"
    )
    if row["unbound"] or row["owner"]:
        raise UnsafeRole(
            f"Role {row['name']} is a superuser, bypasses row-level security, or owns the tables: "
            "it must not run the service. Set CHARGEHAND_APP_URL and CHARGEHAND_SYSTEM_URL to "
            "the roles that `chargehand migrate` made."
        )


async def verify(acquire: AbstractAsyncContextManager[Any]) -> None:
    """Both checks on one connection of a runtime pool."""
    async with acquire as connection:
        await verify_role(connection)
        await verify_schema(connection)


async def lacking_partitions(connection: Any) -> list[str]:
    """Partitioned tables with fewer than PARTITIONS_AHEAD partitions ahead of now."""
    rows = await connection.fetch(
        "select parent from partitions_ahead() where ahead < $1 order by parent", PARTITIONS_AHEAD
    )
    return [row["parent"] for row in rows]
