"""With a Mercure hub, subscription tokens are for it, and our own hub takes them too (EXE-10)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from tests.conftest import TestDatabase
from tests.factories.api_process import running_api
from tests.factories.commands import chargehand
from tests.factories.mercure import SECRET, running_hub
from tests.factories.streams import events_of
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database

PUBLIC = "https://hub.example/.well-known/mercure"
SETTINGS = {
    "MERCURE_URL": "http://127.0.0.1:1/.well-known/mercure",
    "MERCURE_JWT_SECRET": SECRET,
    "MERCURE_PUBLIC_URL": PUBLIC,
}


@pytest.fixture
async def key(database: Database) -> str:
    _, made = await make_caller(database)
    return made


@pytest.fixture
async def url(clone: TestDatabase) -> AsyncIterator[str]:
    with running_api(clone, **SETTINGS) as running:
        yield running


async def subscription(url: str, key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        answer = await client.post("/api/v1/subscription-token")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_token_is_one_that_a_mercure_hub_takes(url: str, key: str) -> None:
    made = await subscription(url, key)
    assert made["hub_url"] == PUBLIC
    # As a hub reads it: it has the key, and asks for no audience.
    claims = jwt.decode(made["token"], SECRET, algorithms=["HS256"], options={"verify_aud": False})
    assert claims["mercure"] == {"subscribe": [made["topic"]]}
    assert claims["exp"] - claims["iat"] == 3600


async def test_our_own_hub_takes_it_too(url: str, key: str) -> None:
    made = await subscription(url, key)
    path = f"/api/v1/hub?topic={made['topic']}&token={made['token']}"
    async with asyncio.timeout(10), aclosing(events_of(url, path)) as stream:
        assert (await anext(stream)).id


async def test_without_a_mercure_hub_all_is_as_it_was(clone: TestDatabase, key: str) -> None:
    with running_api(clone) as url:
        made = await subscription(url, key)
    assert made["hub_url"] == f"{url}/api/v1/hub"
    assert "mercure" not in jwt.decode(made["token"], options={"verify_signature": False})


def test_doctor_says_whether_the_hub_lets_us_publish(tmp_path: Path) -> None:
    def found(**settings: str) -> dict[str, Any] | None:
        told = chargehand("doctor", "--json", **settings)
        assert SECRET not in told.stdout + told.stderr
        checks = json.loads(told.stdout)["checks"]
        return next((one for one in checks if one["name"] == "mercure hub"), None)

    assert found() is None
    with running_hub(tmp_path) as hub:
        good = found(**hub.settings())
        bad = found(**hub.settings() | {"MERCURE_JWT_SECRET": SECRET[::-1]})
    gone = found(**hub.settings())
    assert good is not None
    assert bad is not None
    assert gone is not None
    assert good["state"] == "ok"
    assert (bad["state"], "401" in bad["found"]) == ("wrong", True)
    assert "MERCURE_JWT_SECRET" in bad["remedy"]
    assert (gone["state"], "cannot be reached" in gone["found"]) == ("wrong", True)
