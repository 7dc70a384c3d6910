"""An API as a process of its own, for those who call it over a socket."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import TestDatabase
from tests.factories.commands import command, environment


@contextmanager
def running_api(database: TestDatabase, **settings: str) -> Iterator[str]:
    """Its base URL; ``settings`` are variables of its environment."""
    with api_process(database, **settings) as (url, _):
        yield url


@contextmanager
def api_process(database: TestDatabase, **settings: str) -> Iterator[tuple[str, int]]:
    """Its base URL and its pid."""
    urls = database.urls
    with subprocess.Popen(
        command("api", "--port", "0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(CHARGEHAND_APP_URL=urls.app, CHARGEHAND_SYSTEM_URL=urls.system, **settings),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield json.loads(line)["url"], process.pid
        finally:
            process.kill()
