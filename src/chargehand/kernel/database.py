"""Connections and transactions: the only module that commits.

Two runtime roles, each with a pool of its own (SET ROLE would cost a round trip a transaction):
the application role, bound to one organization by row-level security, and the system role, which
sees the few columns that are needed to find a key or a due run across organizations.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from chargehand.kernel.errors import Unavailable
from chargehand.kernel.identifiers import OrganizationId
from chargehand.kernel.storable import cleaned

Connection: TypeAlias = PoolConnectionProxy


class Row(DeclarativeBase):
    """Base of every mapped table; its metadata must equal what the migrations make."""


TROUBLES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What is raised when the database, not the statement, is at fault: trying again may help."""

_ROLLBACK_TIMEOUT_S = 3

_SESSION_SETTINGS = {
    "application_name": "chargehand",
    # How soon a statement ends, and lets go of its locks, whose client has gone.
    "client_connection_check_interval": "2s",
}


class DatabaseUnavailable(Unavailable):
    """PostgreSQL could not be reached or refused the connection."""

    code = "DatabaseUnavailable"


class Database:
    """Both pools and the ORM's engine; make it with ``connect``."""

    def __init__(self, app: asyncpg.Pool, system: asyncpg.Pool, engine: AsyncEngine) -> None:
        self.app = app
        self.system = system
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def close(self) -> None:
        await self._engine.dispose()
        await self.app.close()
        await self.system.close()

    @asynccontextmanager
    async def transaction(self, organization: OrganizationId) -> AsyncGenerator[AsyncSession]:
        """An ORM session inside one transaction of one organization.

        Its first statement binds row-level security, which also makes SQLAlchemy send BEGIN, so
        that a raw statement on the same connection is undone by a rollback.
        """
        async with self._sessions() as session, session.begin():
            await session.execute(
                text("select set_config('chargehand.organization', :organization, true)"),
                {"organization": str(organization)},
            )
            yield session

    @asynccontextmanager
    async def hot(self, organization: OrganizationId) -> AsyncGenerator[Connection]:
        """A raw connection inside one transaction of one organization, for the hot path.

        BEGIN and the row-level security setting go in one round trip; ``organization`` is a UUID
        by type and by ``UUID.__str__``, so nothing of a caller's reaches the string.
        """
        async with self.app.acquire() as connection:
            await connection.execute(
                f"begin; set local chargehand.organization = '{organization.hex}'"
            )
            try:
                yield connection
            except BaseException:
                await _roll_back(connection)
                raise
            await connection.execute("commit")

    @asynccontextmanager
    async def across(self) -> AsyncGenerator[Connection]:
        """A raw connection of the system role inside one transaction."""
        async with self.system.acquire() as connection, connection.transaction():
            yield connection


async def _roll_back(connection: Connection) -> None:
    """Leave the connection clean, or not at all; what went wrong first is what is told.

    A request to cancel that overtakes its statement is lost, and the statement goes on: then the
    connection is given up instead, which PostgreSQL sees (``client_connection_check_interval``).
    """
    if connection.is_closed():
        return
    try:
        await connection.execute("rollback", timeout=_ROLLBACK_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        # One that broke meanwhile has left the pool, and its proxy refuses even this.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


async def connect(
    app_url: str,
    system_url: str,
    *,
    pool_size: int = 10,
    idle_in_transaction_timeout_s: float = 10,
    command_timeout_s: float = 30,
) -> Database:
    """Open both pools. Raises DatabaseUnavailable with the reason and the remedy.

    ``idle_in_transaction_timeout_s`` bounds how long a process that stopped in the middle of a
    transaction can hold its locks; PostgreSQL then ends its connection. ``command_timeout_s``
    bounds how long we wait for a server that does not answer.
    """
    server_settings = {
        **_SESSION_SETTINGS,
        "idle_in_transaction_session_timeout": str(int(idle_in_transaction_timeout_s * 1000)),
    }
    app = await _pool(app_url, pool_size, server_settings, command_timeout_s)
    try:
        system = await _pool(system_url, max(2, pool_size // 2), server_settings, command_timeout_s)
    except BaseException:
        await app.close()
        raise
    engine = create_async_engine(
        make_url(app_url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        connect_args={"server_settings": server_settings, "command_timeout": command_timeout_s},
    )
    return Database(app, system, engine)


async def _pool(
    url: str, size: int, server_settings: dict[str, str], command_timeout_s: float
) -> asyncpg.Pool:
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            init=_use_orjson,
            reset=_keep,
            server_settings=server_settings,
            command_timeout=command_timeout_s,
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unreachable(url, error) from error


def unreachable(url: str, error: Exception) -> DatabaseUnavailable:
    """The error for a connection that failed; never shows the password."""
    parsed = make_url(url).difference_update_query(["password"])
    target = parsed.render_as_string(hide_password=True)
    return DatabaseUnavailable(
        f"PostgreSQL at {target} cannot be used: {error}. "
        "Check DATABASE_URL, or unset it to run the embedded server with `chargehand up`."
    )


async def _use_orjson(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_to_json,
        decoder=orjson.loads,
    )


def _to_json(value: Any) -> str:
    """JSON that PostgreSQL can store: it has neither NUL nor half a surrogate pair."""
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(cleaned(value)).decode()
    if rb"\u0000" in encoded:
        encoded = orjson.dumps(cleaned(value))
    return encoded.decode()


async def _keep(_connection: Any) -> None:
    """All our state is transaction-local: asyncpg's own reset would be one more round trip."""
