"""The commands that serve: ``up`` (all in one process), ``api`` and ``worker``."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

import chargehand
from chargehand.cli import admin, output, reach

if TYPE_CHECKING:
    from chargehand.kernel.schema import RuntimeUrls
    from chargehand.settings import Settings

Host = Annotated[
    str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")
]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="0: any free one.", show_default="8420")
]

_STOPPING = "Stopping: runs are handed over at their next step. Once more ends it at once."


def up(
    host: Host = None,
    port: Port = None,
    data: reach.Data = None,
    as_json: output.AsJson = False,
) -> None:
    """Start everything: API, worker, PostgreSQL.

    All in this process, with the embedded PostgreSQL, or the server of DATABASE_URL where that is
    set. Migrates by itself. The first start makes an organization, its owner and a key, and shows
    the key, this once.

    Example: chargehand up --port 8420
    """
    from chargehand import bootstrap

    settings = reach.load_settings(CHARGEHAND_HOST=host, CHARGEHAND_PORT=port, CHARGEHAND_DATA=data)
    if not settings.database.is_given:
        reach.check_data_folder(settings)
    # Unless asked for, no line but the start block: whoever runs it sits before it.
    asked = "CHARGEHAND_LOG_LEVEL" in os.environ
    bootstrap.configure_logs(settings.log_level if asked else "warning")
    with bootstrap.installation(settings) as installed:
        _serve(_up(settings, installed.owner_url, installed.urls, as_json))


def api(host: Host = None, port: Port = None, as_json: output.AsJson = False) -> None:
    """Serve the API.

    Any number of processes may, on one database.

    Example: chargehand api --host 0.0.0.0 --port 8420
    """
    settings = reach.load_settings(CHARGEHAND_HOST=host, CHARGEHAND_PORT=port)
    _serve(_api(settings, reach.runtime_urls(settings), as_json))


def worker(
    queues: Annotated[
        str, typer.Option(help="Which queues to serve, with commas.")
    ] = "agents,agents_priority,agents_long,async",
    concurrency: Annotated[
        int | None,
        typer.Option(min=2, max=2000, help="How many runs at a time.", show_default="200"),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Execute runs.

    Any number of processes may, on any number of machines. SIGTERM and Ctrl-C drain it: it claims
    nothing more, and hands its runs over at their next step.

    Example: chargehand worker --queues agents,agents_priority --concurrency 50
    """
    names = _queue_names(queues)
    settings = reach.load_settings(CHARGEHAND_CONCURRENCY=concurrency)
    _serve(_worker(settings, reach.runtime_urls(settings), names, as_json))


async def _api(settings: "Settings", urls: "RuntimeUrls", as_json: bool) -> None:
    from chargehand import bootstrap

    bootstrap.configure_logs(settings.log_level)

    def ready(url: str) -> None:
        _tell({"url": url, "pid": os.getpid()}, f"The API answers at {url}/api/v1.", as_json)

    await bootstrap.serve_api(settings, urls, stop=_stop_on_signals(), on_ready=ready)


async def _worker(
    settings: "Settings", urls: "RuntimeUrls", queues: list[str], as_json: bool
) -> None:
    from chargehand import bootstrap

    bootstrap.configure_logs(settings.log_level)

    def ready(worker_id: str) -> None:
        document = {"worker": worker_id, "pid": os.getpid(), "queues": queues}
        _tell(document, f"Worker {worker_id} serves {', '.join(queues)}.", as_json)

    await bootstrap.serve_worker(
        settings,
        urls,
        queues=queues,
        concurrency=settings.worker.concurrency,
        stop=_stop_on_signals(),
        on_ready=ready,
    )


async def _up(
    settings: "Settings", owner_url: str | None, urls: "RuntimeUrls", as_json: bool
) -> None:
    """Migrate, then serve everything until told to stop."""
    from chargehand import bootstrap
    from chargehand.kernel import jobs, schema

    stop, parts = _stop_on_signals(_STOPPING), Parts()
    if owner_url is not None:
        await schema.migrate(owner_url, urls)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            bootstrap.serve_api(
                settings, urls, stop=stop, on_ready=lambda url: parts.ready("api", url)
            )
        )
        group.create_task(
            bootstrap.serve_worker(
                settings,
                urls,
                queues=jobs.QUEUES,
                concurrency=settings.worker.concurrency,
                stop=stop,
                on_ready=lambda worker_id: parts.ready("worker", worker_id),
            )
        )
        group.create_task(_welcome(settings, urls, parts, stop, as_json))


@dataclass
class Parts:
    """What of ``up`` is ready, by name; ``complete`` is set when all of it is."""

    names: dict[str, str] = field(default_factory=dict[str, str])
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def ready(self, part: str, name: str) -> None:
        self.names[part] = name
        if self.names.keys() == {"api", "worker"}:
            self.complete.set()


async def _welcome(
    settings: "Settings", urls: "RuntimeUrls", parts: Parts, stop: asyncio.Event, as_json: bool
) -> None:
    """Once all is ready, make the first organization if there is none, and tell where things are.

    Not earlier: a key that is made by a start that then fails would never be shown.
    """
    waits = [asyncio.create_task(event.wait()) for event in (parts.complete, stop)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if stop.is_set():
        return
    made = await admin.opened_and_done(settings, urls, admin.make_first_organization)
    url, key = parts.names["api"], made and made.token
    place, another = "the server of DATABASE_URL", "chargehand keys make"
    if not settings.database.is_given:
        folder = reach.data_folder(settings)
        place, another = str(folder), f"{another} --data {shlex.quote(str(folder))}"
    document = {"url": url, "key": key, "database": place}
    _tell(document, start_block(url, key, place, another), as_json)


def start_block(url: str, key: str | None, place: str, another: str) -> str:
    """At most eight lines: where everything is and what to do next.

    ``another`` is the command that makes another key, from any folder.
    """
    first = f"{key}   (shown this once)"
    shown = first if key else f"shown at the first start; make another with `{another}`"
    lines = [
        f"Chargehand {chargehand.__version__} is ready.",
        f"  API    {url}/api/v1   (its OpenAPI: {url}/api/v1/openapi.json)",
        f"  key    {shown}",
        f"  data   {place}",
        f"  try    export CHARGEHAND_URL={url} CHARGEHAND_KEY={key or '…'}",
        '         curl -H "Authorization: Bearer $CHARGEHAND_KEY" $CHARGEHAND_URL/api/v1/me',
        "  stop   Ctrl-C",
    ]
    return "\n".join(lines)


def _queue_names(text: str) -> list[str]:
    """Raises typer.BadParameter for a queue that there is not."""
    from chargehand.kernel import jobs

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in jobs.QUEUES]
    if unknown or not names:
        raise typer.BadParameter(
            f"there is no queue {', '.join(unknown) or 'given'}; the queues are "
            f"{', '.join(jobs.QUEUES)}",
            param_hint="--queues",
        )
    return names


def _serve(work: Coroutine[Any, Any, None]) -> None:
    """Run until stopped; of several failures at once the first is told."""
    import uvloop

    try:
        uvloop.run(work)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _stop_on_signals(told: str | None = None) -> asyncio.Event:
    """Set by SIGTERM or Ctrl-C, which is told; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def begin_to_stop() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        if told is not None:
            print(told, file=sys.stderr, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, begin_to_stop)
    return stop


def _tell(document: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        output.print_document(document)
    else:
        print(text, flush=True)
