"""A whole service in processes of its own, each of which can be killed and started again."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import TestDatabase
from tests.factories.commands import command, environment
from tests.factories.fleet import Fleet, fleet_on
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import connect


@dataclass
class RestartableService:
    """An API on one port, and a worker that gives up its runs' leases after 2 s."""

    database: TestDatabase
    fleet: Fleet
    port: int
    settings: dict[str, str]
    api: subprocess.Popen[str] | None = None
    workers: list[int] = field(default_factory=list[int])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_api(self) -> None:
        urls = self.database.urls
        self.api = subprocess.Popen(
            command("api", "--port", str(self.port), "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(
                CHARGEHAND_APP_URL=urls.app, CHARGEHAND_SYSTEM_URL=urls.system, **self.settings
            ),
        )
        assert self.api.stdout is not None
        line = self.api.stdout.readline()
        assert line, "the API did not start"
        assert json.loads(line)["url"] == self.url

    def stop_api(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.api is not None:
            self.api.send_signal(number)
            self.api.wait(20)
            assert self.api.stdout is not None
            self.api.stdout.close()
            self.api = None

    def start_worker(self) -> None:
        self.workers.append(self.fleet.start())

    def kill_worker(self) -> None:
        self.fleet.signal(self.workers.pop(), signal.SIGKILL)


def owner_key(database: TestDatabase) -> str:
    """The key of a new organization's owner, for tests without a loop of their own."""

    async def made() -> str:
        opened = await connect(database.urls.app, database.urls.system, pool_size=2)
        try:
            return (await make_caller(opened))[1]
        finally:
            await opened.close()

    return asyncio.run(made())


@contextmanager
def restartable_service(
    database: TestDatabase, folder: Path, **settings: str
) -> Generator[RestartableService]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with fleet_on(database, folder) as fleet:
        service = RestartableService(database, fleet, port, settings)
        try:
            service.start_api()
            service.start_worker()
            yield service
        finally:
            service.stop_api()
