"""What a thousand listeners on one run cost one API process: CPU, memory, delay.

``PYTHONPATH=.:src python bench/listeners.py [LISTENERS] [EVENTS]`` starts a PostgreSQL and a
``chargehand api``; the listeners and the worker are this process. The run streams ten pieces of
text a second. It prints a Markdown table.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import uvloop
from tests.conftest import TestDatabase
from tests.factories.api_process import api_process
from tests.factories.listeners import measure

from chargehand.adapters import embedded_postgres
from chargehand.kernel import schema
from chargehand.kernel.database import connect


async def main(folder: Path, listeners: int, deltas: int) -> None:
    with embedded_postgres.start(folder) as server:
        urls = schema.runtime_urls(server.dsn)
        await schema.migrate(server.dsn, urls)
        database = await connect(urls.app, urls.system, pool_size=4)
        with api_process(TestDatabase(server.dsn, urls)) as (url, pid):
            costs = await measure(database, url, pid, listeners, deltas)
        await database.close()
    assert costs.counts == {costs.events}, costs.counts
    print(costs.table())


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    place = Path(tempfile.mkdtemp(prefix="chargehand-bench-"))
    # As root the server runs as another user, which must be able to reach its cluster.
    place.chmod(0o711)
    uvloop.run(main(place, *given, *(1000, 100)[len(given) :]))
    shutil.rmtree(place, ignore_errors=True)
