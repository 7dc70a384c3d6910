"""A key revoked through one process stops in all of them within 5 s (SPEC TEN-3)."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
from tests.conftest import TestDatabase
from tests.factories.tenancy import make_caller, make_organization

from chargehand.kernel.database import Database

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@asynccontextmanager
async def api_process(clone: TestDatabase) -> AsyncIterator[str]:
    """The base URL of a process of its own that serves the tenancy routes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "key_server.py"),
        clone.urls.app,
        clone.urls.system,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def seconds_until_refused(client: httpx2.AsyncClient, url: str, since: float) -> float:
    """Asks all the time, so that the answer is as warm in its cache as it can be."""
    while (status := (await client.get(f"{url}/me")).status_code) == 200:
        assert time.monotonic() - since < 20
        await asyncio.sleep(0.05)
    assert status == 401
    return time.monotonic() - since


async def test_a_revoked_key_stops_in_every_process_within_5_seconds(
    database: Database, clone: TestDatabase
) -> None:
    organization = await make_organization(database)
    caller, key = await make_caller(database, "member", organization=organization)
    _, admin_key = await make_caller(database, "admin", organization=organization)
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(api_process(clone)) for _ in range(3)]
        client = await stack.enter_async_context(
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"})
        )
        for url in urls[:2]:
            assert (await client.get(f"{url}/me")).status_code == 200
        revoked = await client.delete(
            f"{urls[2]}/keys/{caller.key_id}", headers={"Authorization": f"Bearer {admin_key}"}
        )
        assert revoked.status_code == 200
        since = time.monotonic()
        taken_s = await asyncio.gather(
            *(seconds_until_refused(client, url, since) for url in urls[:2])
        )
    print(f"refused after {taken_s} s")
    assert max(taken_s) < 5
