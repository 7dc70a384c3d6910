"""Where the database is, for commands: a given server, or this installation's embedded one."""

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.kernel.errors import Invalid

if TYPE_CHECKING:
    from chargehand.kernel.schema import RuntimeUrls
    from chargehand.settings import Settings


class NoDatabase(Invalid):
    code = "NoDatabase"


class NoOwner(Invalid):
    code = "NoOwner"


class DataFolderUnusable(Invalid):
    code = "DataFolderUnusable"


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        file_okay=False,
        metavar="DIR",
        help="The folder of the embedded PostgreSQL.",
        show_default="./.chargehand",
    ),
]


def load_settings(**given: object) -> "Settings":
    """The environment's settings; what is given (by variable, None: not given) goes before it.

    Raises Invalid naming each variable that is wrong.
    """
    from chargehand import settings

    chosen = {name: str(value) for name, value in given.items() if value is not None}
    loaded = settings.load({**os.environ, **chosen})
    given_urls = {
        "DATABASE_URL": loaded.database.owner_url,
        "CHARGEHAND_APP_URL": loaded.database.app_url,
        "CHARGEHAND_SYSTEM_URL": loaded.database.system_url,
        "CHARGEHAND_LISTEN_URL": loaded.database.listen_url,
    }
    for variable, url in given_urls.items():
        if url is not None:
            check_database_url(variable, url)
    return loaded


def check_database_url(variable: str, url: str) -> None:
    """Raises Invalid where a URL is none of PostgreSQL's; never shows it, for its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url.encode()
        parsed = make_url(url)
        (parsed.host or "").encode("idna")
        good = parsed.drivername in ("postgresql", "postgres") and 0 <= (parsed.port or 0) < 65536
    except (ArgumentError, ValueError):
        good = False
    if not good:
        raise Invalid(
            f"{variable} is not the URL of a PostgreSQL database. Set it to one, as in: "
            f"export {variable}=postgresql://user:password@host:5432/database",
            code="InvalidSettings",
        )


def unwritable(folder: Path) -> str | None:
    """Why nobody could make files in a folder, which need not be there yet; None: one can."""
    try:
        # Who needs the folder makes it; so what counts is the nearest one that is there.
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not existing.is_dir():
            return f"{existing.absolute()} is not a folder"
        with tempfile.TemporaryDirectory(dir=existing):
            return None
    except OSError as error:
        return f"{folder.absolute()}: {error.strerror}"


def data_folder(settings: "Settings") -> Path:
    """The embedded server's, absolute.

    Raises DataFolderUnusable for ``~`` of nobody, and for a path that is not UTF-8: PostgreSQL's
    own files, and URLs, would hold it.
    """
    try:
        folder = settings.embedded.data.expanduser().absolute()
        str(folder).encode()
    except RuntimeError as error:
        raise _unusable(f"{settings.embedded.data}: {str(error).rstrip('.')}") from error
    except UnicodeEncodeError as error:
        raise _unusable(f"{settings.embedded.data}: its path is not UTF-8") from error
    return folder


def check_data_folder(settings: "Settings") -> None:
    """Raises DataFolderUnusable where the embedded server could not keep its files."""
    if problem := unwritable(data_folder(settings)):
        raise _unusable(problem)


def _unusable(problem: str) -> DataFolderUnusable:
    return DataFolderUnusable(
        f"The embedded PostgreSQL cannot keep its data there. {problem}. Name another folder "
        "with --data or CHARGEHAND_DATA, give this user access, or set DATABASE_URL."
    )


def running_embedded_url(data: Path) -> str | None:
    """The owner's URL of the embedded server that a data folder's files speak of, if any.

    They stay behind where everything was killed, so that a connection may still be refused.
    ``postmaster.pid`` is PostgreSQL's own: line 4 is the port, line 5 the socket's folder.
    """
    from chargehand.adapters.embedded_postgres import DATABASE, OWNER

    try:
        lines = (data / "postgres" / "postmaster.pid").read_text().splitlines()
        password = (data / "postgres.password").read_text().strip()
    except OSError:
        return None
    if len(lines) < 5:
        return None
    return f"postgresql://{OWNER}:{password}@/{DATABASE}?host={lines[4]}&port={lines[3]}"


def has_cluster(settings: "Settings") -> bool:
    return os.path.lexists(data_folder(settings) / "postgres")


def runtime_urls(settings: "Settings") -> "RuntimeUrls":
    """The runtime roles' URLs, for a process that joins a server that runs already.

    Raises NoDatabase where none is set and ``up`` does not run here.
    """
    from chargehand.kernel import schema

    given = settings.database
    if given.app_url and given.system_url:
        return schema.RuntimeUrls(given.app_url, given.system_url)
    owner_url = given.owner_url or running_embedded_url(data_folder(settings))
    if owner_url is None:
        raise NoDatabase(
            "There is no database to join: DATABASE_URL is not set, and no `chargehand up` runs on "
            f"{data_folder(settings)}. Set DATABASE_URL to a PostgreSQL server (15 or "
            "later), or start `chargehand up`."
        )
    return schema.runtime_urls(owner_url, app_url=given.app_url, system_url=given.system_url)


@contextmanager
def server(settings: "Settings") -> "Generator[tuple[str | None, RuntimeUrls]]":
    """The owner's URL, where it is known, and the runtime roles', for an operator's command.

    The embedded server is started for the command unless ``up`` runs it. Raises NoDatabase where
    there is none: it is made by ``up``, and never by looking at it.
    """
    from chargehand import bootstrap
    from chargehand.adapters.embedded_postgres import EmbeddedPostgresInUse

    if not settings.database.is_given and not has_cluster(settings):
        raise NoDatabase(
            f"There is nothing in {data_folder(settings)} yet. Run `chargehand up` "
            "there first, or say where it runs with --data or CHARGEHAND_DATA, or set DATABASE_URL."
        )
    with ExitStack() as held:
        try:
            installed = held.enter_context(bootstrap.installation(settings))
            found = installed.owner_url, installed.urls
        except EmbeddedPostgresInUse:
            found = running_embedded_url(data_folder(settings)), runtime_urls(settings)
        yield found


@contextmanager
def owned_server(settings: "Settings") -> "Generator[tuple[str, RuntimeUrls]]":
    """Like ``server``, for what only the owner may do. Raises NoOwner."""
    with server(settings) as (owner_url, urls):
        if owner_url is None:
            raise NoOwner(
                "Only the owner of the database may migrate it. Set DATABASE_URL to the owner's "
                "URL, beside CHARGEHAND_APP_URL and CHARGEHAND_SYSTEM_URL."
            )
        yield owner_url, urls
