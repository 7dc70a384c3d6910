"""The composition root: settings → PostgreSQL, adapters → the API, a worker."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from chargehand.adapters import simulated, vendors
from chargehand.adapters.availability import VendorChecks
from chargehand.adapters.vendors import Connection, NotConnected
from chargehand.agents.installed import AVAILABLE, Capability, Installed
from chargehand.catalog.availability import Availabilities
from chargehand.catalog.providers import VENDORS
from chargehand.entrypoints.api import ApiParts, create_app
from chargehand.entrypoints.http_server import allow_many_connections, server_of
from chargehand.entrypoints.worker import Worker, serve
from chargehand.executions.live import Bells, Feed
from chargehand.executions.publishing import Publishing
from chargehand.kernel import schema
from chargehand.kernel.bells import PostgresWire, Wire
from chargehand.kernel.database import Database, connect
from chargehand.kernel.errors import ChargehandError, Invalid, Unavailable
from chargehand.kernel.jobs import Doorbell
from chargehand.kernel.schema import RuntimeUrls
from chargehand.runtime.ports import CallPolicy, ModelProvider
from chargehand.runtime.toolset import TOOLS_OF, CapabilityTools
from chargehand.runtime.workspaces import Workspaces
from chargehand.settings import Settings
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.subscription_tokens import OtherHub
from chargehand.tenancy.tiers import Tiers


class AddressInUse(Unavailable):
    """Another program listens on the address already."""

    code = "AddressInUse"


class AddressUnusable(Invalid):
    """Nobody could listen on the address, or not this user."""

    code = "AddressUnusable"


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the database is; ``owner_url`` is None where only the runtime roles are known."""

    owner_url: str | None
    urls: RuntimeUrls
    embedded: bool


@dataclass(frozen=True, slots=True)
class Extensions:
    """What an installation adds of its own: capabilities with their tools, and providers."""

    capabilities: Mapping[str, Capability] = field(default_factory=dict[str, Capability])
    tools: Mapping[str, CapabilityTools] = field(default_factory=dict[str, CapabilityTools])
    providers: Mapping[str, ModelProvider] = field(default_factory=dict[str, ModelProvider])


NONE = Extensions()


@contextlib.contextmanager
def installation(settings: Settings) -> Generator[Installation]:
    """The configured database, or the embedded server for as long as the context lasts."""
    if settings.database.is_given:
        yield given_installation(settings)
        return
    from chargehand.adapters import embedded_postgres

    data = settings.embedded.data
    with embedded_postgres.start(data, binaries=settings.embedded.binaries) as server:
        yield Installation(server.dsn, schema.runtime_urls(server.dsn), True)


def given_installation(settings: Settings) -> Installation:
    """The database that the settings name; for settings that do (``is_given``)."""
    database = settings.database
    if database.owner_url is not None:
        urls = schema.runtime_urls(
            database.owner_url, app_url=database.app_url, system_url=database.system_url
        )
        return Installation(database.owner_url, urls, False)
    assert database.app_url is not None
    assert database.system_url is not None
    return Installation(None, RuntimeUrls(database.app_url, database.system_url), False)


async def open_database(settings: Settings, urls: RuntimeUrls) -> Database:
    """Both pools, after the checks of the roles and the schema.

    Raises DatabaseUnavailable, UnsafeRole, SchemaMissing, SchemaHalfApplied, SchemaOutdated or
    SchemaNewer.
    """
    database = await connect(
        urls.app,
        urls.system,
        pool_size=settings.database.pool_size,
        idle_in_transaction_timeout_s=max(2, settings.worker.lease_s / 4),
        command_timeout_s=max(10, settings.worker.lease_s),
    )
    try:
        await schema.verify(database.app.acquire())
        await schema.verify(database.system.acquire())
    except BaseException:
        await database.close()
        raise
    return database


async def serve_api(
    settings: Settings,
    urls: RuntimeUrls,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    extensions: Extensions = NONE,
) -> None:
    """Answer HTTP until ``stop``; ``on_ready`` gets the base URL once it does.

    Raises AddressInUse, AddressUnusable, and what ``open_database`` raises.
    """
    async with contextlib.AsyncExitStack() as held:
        listening = held.enter_context(_listen(settings.api.host, settings.api.port))
        database = await open_database(settings, urls)
        held.push_async_callback(database.close)
        wire = wire_of(settings, database, urls)
        held.push_async_callback(wire.close)
        feed = Feed(wire, database)
        app = create_app(
            ApiParts(
                database=database,
                tiers=(tiers := Tiers.load(settings.api.tiers_file)),
                key_cache=KeyCache(database, tiers),
                installed=installed(settings, extensions),
                max_upload_bytes=settings.api.max_upload_bytes,
                feed=feed,
                bells=Bells(wire),
                cors_origins=settings.api.origins,
                doorbell=Doorbell(database.system),
                availabilities=availabilities(settings),
                other_hub=other_hub(settings),
            )
        )
        allow_many_connections()
        server = server_of(app)
        serving = asyncio.create_task(server.serve([listening]))
        await server.answering(serving)
        on_ready(_address(listening))
        await _first_of(serving, stop)
        feed.close()
        server.should_exit = True
        await serving


async def serve_worker(
    settings: Settings,
    urls: RuntimeUrls,
    *,
    queues: Sequence[str],
    concurrency: int,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    extensions: Extensions = NONE,
) -> None:
    """Run what the queues hold until ``stop``, then drain; housekeeping goes on meanwhile.

    ``on_ready`` gets the worker's name. Raises what ``open_database`` raises.
    """
    async with contextlib.AsyncExitStack() as held:
        database = await open_database(settings, urls)
        held.push_async_callback(database.close)
        providers = await held.enter_async_context(model_providers(settings, concurrency))
        wire = wire_of(settings, database, urls)
        held.push_async_callback(wire.close)
        worker = Worker(
            database=database,
            bells=Bells(wire),
            doorbell=Doorbell(database.system),
            providers={**providers, **extensions.providers},
            tools={**TOOLS_OF, **extensions.tools},
            workspaces=Workspaces(_workspaces_folder(settings)),
            lease_s=settings.worker.lease_s,
            max_losses=settings.worker.max_losses,
            call_policy=CallPolicy(settings.model_calls.timeout_s, settings.model_calls.retries),
            publishing=await held.enter_async_context(
                publishing(settings, wire, _listen_url(settings, urls))
            ),
        )
        await serve(
            worker,
            url=_listen_url(settings, urls),
            queues=queues,
            concurrency=concurrency,
            stop=stop,
            on_ready=on_ready,
        )


def installed(settings: Settings, extensions: Extensions) -> Installed:
    """What agents can name here: the built-in, the connected, and what extensions add."""
    return Installed(
        capabilities={**AVAILABLE, **extensions.capabilities},
        providers=settings.providers.connected() | extensions.providers.keys(),
    )


def availabilities(settings: Settings) -> Availabilities:
    """Checks of the vendors that the settings connect."""
    return VendorChecks(connections(settings, settings.worker.concurrency))


def connections(settings: Settings, concurrency: int) -> dict[str, Connection]:
    """How each vendor that the settings connect is reached, by its name."""
    ours, calls = settings.providers, settings.model_calls
    found = dict[str, Connection]()
    for name in sorted(ours.connected()):
        url, key = ours.url_of(name), ours.key_of(name)
        assert url is not None, "what is connected has an address"
        found[name] = Connection(
            url=url,
            api_key=None if key is None else key.get_secret_value(),
            idle_timeout_s=calls.idle_timeout_s,
            # As many as there are runs: a run would wait for a connection, not for the vendor.
            connections=calls.connections or concurrency,
            api_version=ours.azure_api_version if name == "azure" else None,
        )
    return found


@contextlib.asynccontextmanager
async def model_providers(
    settings: Settings, concurrency: int
) -> AsyncGenerator[dict[str, ModelProvider]]:
    """Every provider by its name, their connections closed with the context."""
    layers = {
        name: vendors.provider(name, connection)
        for name, connection in connections(settings, concurrency).items()
    }
    others = {name: NotConnected(name) for name in VENDORS}
    try:
        yield {
            **others,
            **layers,
            "simulated": simulated.provider(settings.simulated.call_log),
        }
    finally:
        for layer in layers.values():
            await layer.close()


def configure_logs(level: str) -> None:
    """One JSON line per event on standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Plain: a traceback with local variables could show a secret.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(name)s: %(message)s"))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler])
    # What it has to tell, kernel.jobs tells.
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)


class _OneLine(logging.Formatter):
    """Libraries' log lines, an exception as its name and message."""

    def formatException(self, ei: Any) -> str:
        return f"{ei[0].__name__}: {ei[1]}"

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())


async def _first_of(serving: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


def _listen(host: str, port: int) -> socket.socket:
    """Raises AddressInUse or AddressUnusable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:
        try:
            listening = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(2048)
        except (OSError, TypeError) as error:  # TypeError: no encoding for the host
            raise _cannot_listen(host, port, error) from error
        held.pop_all()
        return listening


def _cannot_listen(host: str, port: int, error: OSError | TypeError) -> ChargehandError:
    where = f"Cannot listen on {host}:{port}"
    if isinstance(error, TypeError | socket.gaierror):
        return AddressUnusable(
            f"{where}: there is no host {host!r}. Give an address of this machine with --host or "
            "CHARGEHAND_HOST: 127.0.0.1 for itself only, 0.0.0.0 for everybody."
        )
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"{where}: {error.strerror}. Stop the program that uses it, or choose another port "
            "with --port or CHARGEHAND_PORT."
        )
    if isinstance(error, PermissionError):
        return AddressUnusable(
            f"{where}: this user may not. Choose a port above 1023 with --port or CHARGEHAND_PORT."
        )
    return AddressUnusable(
        f"{where}: {error.strerror}. Give an address of this machine with --host or "
        "CHARGEHAND_HOST."
    )


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def wire_of(settings: Settings, database: Database, urls: RuntimeUrls) -> Wire:
    """What carries rings: Redis where it is set, else PostgreSQL. Raises Invalid without redis."""
    if settings.redis_url is not None:
        from chargehand.adapters.redis_bells import RedisWire

        return RedisWire(settings.redis_url)
    return PostgresWire(database.system, _listen_url(settings, urls))


@contextlib.asynccontextmanager
async def publishing(settings: Settings, wire: Wire, url: str) -> AsyncGenerator[Publishing | None]:
    """What tells the Mercure hub of all runs, where one is set."""
    url_of_hub, secret = settings.mercure.url, settings.mercure.secret
    if url_of_hub is None or secret is None:
        yield None
        return
    from chargehand.adapters.mercure import Mercure

    hub = Mercure(url_of_hub, secret.get_secret_value())
    try:
        yield Publishing("mercure", hub, wire, url)
    finally:
        await hub.close()


def other_hub(settings: Settings) -> OtherHub | None:
    """The Mercure hub as browsers reach it, where one is set."""
    url, secret = settings.mercure.public_url or settings.mercure.url, settings.mercure.secret
    if settings.mercure.url is None or url is None or secret is None:
        return None
    return OtherHub(url, secret.get_secret_value().encode())


def _listen_url(settings: Settings, urls: RuntimeUrls) -> str:
    return settings.database.listen_url or urls.system


def _workspaces_folder(settings: Settings) -> Path:
    """The setting, or a folder of this user's under the temporary files."""
    if settings.worker.workspaces is not None:
        return settings.worker.workspaces
    return Path(tempfile.gettempdir()) / f"chargehand-workspaces-{os.getuid()}"
