"""One PostgreSQL for the whole run, one template database per test process, a copy for each test.

``DATABASE_URL`` names a server where the tests may make databases and roles; where it is not set,
the embedded server is started in a temporary folder, with fsync off.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy.engine import make_url
from tests.factories.databases import Databases, on, statements

from chargehand.bootstrap import configure_logs
from chargehand.kernel import schema
from chargehand.kernel.database import Database, connect

# The same examples every time: who breaks nothing is told of nothing. Others are drawn with
# `pytest --hypothesis-profile default`.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    configure_logs("warning")
    # Where the run was started in the background SIGINT is ignored, and would be by every child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput") or "DATABASE_URL" in os.environ:
        return
    from chargehand.adapters import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="chargehand-tests-"))
    # As root the server runs as another user, which must be able to reach its cluster.
    folder.chmod(0o711)
    server = embedded_postgres.start(folder, durable=False)
    os.environ["DATABASE_URL"] = server.dsn

    def stop() -> None:
        server.stop()
        del os.environ["DATABASE_URL"]
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(stop)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REQUIRE_SERVICES=1 a skipped test is a failure: CI has all that a test can need."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("REQUIRE_SERVICES") == "1" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"REQUIRE_SERVICES=1, and {len(skipped)} tests were skipped", red=True)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass(frozen=True)
class TestDatabase:
    """One migrated database of a test's own: the owner's URL and the runtime roles' URLs."""

    __test__ = False

    owner_url: str
    urls: schema.RuntimeUrls


@pytest.fixture(scope="session")
def template() -> Iterator[TestDatabase]:
    server = os.environ["DATABASE_URL"]
    name = f"chargehand_test_{os.getpid()}"
    asyncio.run(statements(server, f'create database "{name}"'))
    owner_url = on(server, name)
    urls = schema.runtime_urls(owner_url)
    asyncio.run(schema.migrate(owner_url, urls))
    yield TestDatabase(owner_url, urls)
    roles = [f'drop role "{make_url(url).username}"' for url in (urls.app, urls.system)]
    asyncio.run(statements(server, f'drop database "{name}" with (force)', *roles))


@pytest.fixture(scope="session")
def databases(template: TestDatabase) -> Iterator[Databases]:
    made = Databases(template.owner_url, template.urls)
    yield made
    made.close()


@pytest.fixture
def clone(databases: Databases) -> Iterator[TestDatabase]:
    """A database like the migrated template."""
    owner_url, urls = databases.take()
    yield TestDatabase(owner_url, urls)
    databases.give_back(owner_url)


@pytest.fixture
async def database(clone: TestDatabase) -> AsyncIterator[Database]:
    """Both runtime pools on a database of this test's own."""
    opened = await connect(clone.urls.app, clone.urls.system, pool_size=4)
    yield opened
    await opened.close()
