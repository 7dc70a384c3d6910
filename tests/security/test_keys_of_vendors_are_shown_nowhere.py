"""A vendor's key is found in no sink, although the vendor repeats it in its errors (TEN-8)."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import structlog
from tests.adapters.test_provider_contract import connection_to, layer_of
from tests.conftest import TestDatabase
from tests.durability.test_killed_provider_calls import MODELS
from tests.factories.commands import chargehand
from tests.factories.executions import Service, running_service
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand import bootstrap, settings
from chargehand.adapters.availability import VendorChecks
from chargehand.kernel.database import Database

CANARY = "sk-canary-7d41f0a9c3e2"
WITH_KEY = sorted(set(MODELS) - {"openai-compatible"})


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path, fake: RunningFakeProvider
) -> AsyncIterator[Service]:
    connections = {name: connection_to(name, fake, api_key=CANARY) for name in WITH_KEY}
    layers = {name: layer_of(name, connection) for name, connection in connections.items()}
    async with running_service(
        database,
        clone.urls.system,
        tmp_path,
        providers=layers,
        availabilities=VendorChecks(connections),
    ) as running:
        yield running
    for layer in layers.values():
        await layer.close()


async def test_answers_events_logs_and_rows_hold_no_key(
    service: Service, clone: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    told = list[Any]()
    with structlog.testing.capture_logs() as logged, caplog.at_level(logging.DEBUG):
        for provider in WITH_KEY:
            model = {"provider": provider, "name": MODELS[provider]}
            done = await service.run(await service.agent(model=model), "@say hi")
            assert done["error"]["code"] == "ModelProviderFailed"
            assert "[key]" in done["error"]["message"] or provider == "azure"
            steps = await service.get(f"/executions/{done['id']}/steps")
            logs = await service.get(f"/executions/{done['id']}/logs")
            told += [done, steps, logs, await service.events(done["id"])]
        told.append(await service.get("/models/providers?check=true"))
    assert CANARY not in orjson.dumps(told).decode()
    assert CANARY not in f"{logged}{caplog.text}"
    assert await tables_that_hold(clone.owner_url, CANARY) == []
    assert await tables_that_hold(clone.owner_url, "ModelProviderFailed") != []


async def tables_that_hold(owner_url: str, text: str) -> list[str]:
    connection = await asyncpg.connect(owner_url)
    try:
        names = await connection.fetch(
            "select oid::regclass::text as name from pg_class where relkind in ('r', 'm') "
            "and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema')"
        )
        query = "select exists (select from {0} as t where strpos(t::text, $1) > 0)"
        return [
            row["name"]
            for row in names
            if await connection.fetchval(query.format(row["name"]), text)
        ]
    finally:
        await connection.close()


def test_settings_and_connections_show_no_key() -> None:
    loaded = settings.load({"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": CANARY})
    made = bootstrap.connections(loaded, concurrency=1)
    assert made["openai"].api_key == CANARY
    assert CANARY not in f"{loaded!r} {loaded} {loaded.model_dump_json()} {made!r}"


@pytest.mark.parametrize("broken", [f"{CANARY} x", f"{CANARY}\nx"])
def test_a_key_that_is_none_is_refused_without_being_shown(broken: str) -> None:
    done = chargehand("doctor", OPENAI_API_KEY=broken)
    assert "OPENAI_API_KEY" in done.stdout
    assert CANARY not in done.stdout + done.stderr


def test_doctor_shows_no_key(fake: RunningFakeProvider) -> None:
    given = {**fake.settings(), "OPENAI_API_KEY": CANARY}
    done = chargehand("doctor", "--check-providers", "--json", **given)
    assert "openai" in done.stdout
    assert CANARY not in done.stdout + done.stderr


def test_a_file_of_credentials_is_read_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "credentials.toml"
    file.write_text(f'OPENAI_API_KEY = "{CANARY}"\nCHARGEHAND_AZURE_URL = "https://a.example"\n')
    loaded = settings.load({"CHARGEHAND_CREDENTIALS_FILE": str(file)})
    assert loaded.providers.connected() == {"openai", "openai-chat"}
    file.write_text(f"OPENAI_API_KEY = {CANARY}\n")
    done = chargehand("doctor", CHARGEHAND_CREDENTIALS_FILE=str(file))
    assert "CHARGEHAND_CREDENTIALS_FILE" in done.stdout
    assert CANARY not in done.stdout + done.stderr
