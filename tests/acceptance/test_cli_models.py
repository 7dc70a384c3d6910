"""``chargehand models`` and the client's lists of models and providers, against a real API."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.api_process import running_api
from tests.factories.commands import chargehand
from tests.factories.fake_provider import running_fake_provider
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database
from chargehand_client import ArgumentRefused, Chargehand, Invalid

NOBODY = "http://user:secret@127.0.0.1:1/v1"
SCRIPT = "@say Hello."


@dataclass(frozen=True)
class Service:
    """An API that is connected to a fake OpenAI, and to a server that does not answer."""

    url: str
    key: str
    vendor_key: str

    def models(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return chargehand("models", *arguments, CHARGEHAND_URL=self.url, CHARGEHAND_KEY=self.key)


@pytest.fixture
async def service(
    clone: TestDatabase, database: Database, tmp_path: Path
) -> AsyncIterator[Service]:
    _, key = await make_caller(database, "viewer", ("agents:read",))
    with (
        running_fake_provider(tmp_path, script=SCRIPT) as fake,
        running_api(
            clone,
            OPENAI_API_KEY=fake.key,
            CHARGEHAND_OPENAI_URL=f"{fake.url}/v1",
            CHARGEHAND_COMPATIBLE_URL=NOBODY,
        ) as url,
    ):
        yield Service(url, key, fake.key)


def rows(stdout: str) -> list[list[str]]:
    return [line.split("  ") for line in stdout.splitlines()]


async def test_the_table_has_each_model_with_its_price(service: Service) -> None:
    done = await asyncio.to_thread(service.models)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in done.stdout.splitlines()}
    assert lines["provider", "model"][0] == "context"
    assert lines["simulated", "standard"] == ["200,000", "1.00", "USD", "4.00", "USD"]
    assert lines["simulated", "unpriced"] == ["200,000", "unpriced", "unpriced"]
    assert {provider for provider, _ in lines} == {
        "provider",
        "openai",
        "openai-chat",
        "simulated",
    }


async def test_json_is_one_document_of_the_same(service: Service) -> None:
    done = await asyncio.to_thread(service.models, "--provider", "simulated", "--json")
    document = json.loads(done.stdout)
    assert document.keys() == {"items"}
    assert [item["name"] for item in document["items"]] == ["standard", "text", "unpriced"]


async def test_a_check_tells_who_answers_and_never_a_secret(service: Service) -> None:
    done = await asyncio.to_thread(service.models, "--check", "--json")
    plain = await asyncio.to_thread(service.models, "--check")
    assert (done.returncode, plain.returncode) == (0, 0)
    found = {one["name"]: one for one in json.loads(done.stdout)["providers"]}
    assert found["openai"]["availability"]["available"], found["openai"]
    assert found["openai"]["availability"]["models"]
    silent = found["openai-compatible"]["availability"]
    assert (silent["available"], bool(silent["problem"])) == (False, True)
    assert found["anthropic"]["availability"] is None
    first = {line.split()[0]: line.split()[1:3] for line in plain.stdout.splitlines()[:8]}
    assert first["provider"] == ["connected", "available"]
    assert first["openai"] == ["yes", "yes"]
    assert first["openai-compatible"] == ["yes", "no"]
    assert first["anthropic"] == ["no", "-"]
    assert "ANTHROPIC_API_KEY" in plain.stdout
    for secret in ("secret", service.vendor_key):
        assert secret not in done.stdout + plain.stdout


async def test_where_there_is_no_model_it_says_why(service: Service) -> None:
    unconnected = await asyncio.to_thread(service.models, "--provider", "google")
    unknown = await asyncio.to_thread(service.models, "--provider", "openai-compatible")
    misspelt = await asyncio.to_thread(service.models, "--provider", "opnai")
    assert (unconnected.returncode, unknown.returncode, misspelt.returncode) == (0, 0, 2)
    assert "google is not connected: set GOOGLE_AI_API_KEY" in unconnected.stdout
    assert "No model of openai-compatible is known beforehand" in unknown.stdout
    assert "did you mean 'openai'?" in misspelt.stderr


async def test_the_client_lists_all_pages_and_filters(service: Service) -> None:
    def listed(**filters: Any) -> list[str]:
        with Chargehand(service.url, service.key) as client:
            return [f"{one['provider']}:{one['name']}" for one in client.models(**filters)]

    everything = await asyncio.to_thread(listed)
    wanted = await asyncio.to_thread(listed, provider="openai", text="gpt", capability="tools")
    assert everything == sorted(everything)
    assert 0 < len(wanted) < len([one for one in everything if one.startswith("openai:")])
    assert set(wanted) < set(everything)
    with pytest.raises(Invalid, match="did you mean"):
        await asyncio.to_thread(listed, provider="simulatd")
    with pytest.raises(ArgumentRefused):
        await asyncio.to_thread(listed, text="\udcff")


async def test_doctor_asks_the_vendors_only_where_that_is_wanted(
    clone: TestDatabase, tmp_path: Path
) -> None:
    def doctor(*arguments: str, **settings: str) -> dict[str, dict[str, Any]]:
        urls = {"CHARGEHAND_APP_URL": clone.urls.app, "CHARGEHAND_SYSTEM_URL": clone.urls.system}
        done = chargehand("doctor", *arguments, "--json", **urls, **settings)
        assert "secret" not in done.stdout
        return {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    with running_fake_provider(tmp_path, script=SCRIPT) as fake:
        settings = {
            "OPENAI_API_KEY": fake.key,
            "CHARGEHAND_OPENAI_URL": f"{fake.url}/v1",
            "CHARGEHAND_COMPATIBLE_URL": NOBODY,
        }
        quiet = await asyncio.to_thread(doctor, **settings)
        asked = await asyncio.to_thread(doctor, "--check-providers", **settings)
    assert quiet["provider openai"]["state"] == "ok"
    assert quiet["provider openai"]["found"] == f"key set, {fake.url}/v1"
    assert quiet["provider openai-compatible"]["found"] == "no key set, http://127.0.0.1:1/v1"
    assert quiet["provider azure"]["state"] == "skipped"
    assert "CHARGEHAND_AZURE_URL" in quiet["provider azure"]["remedy"]
    assert "answers in" in asked["provider openai"]["found"]
    assert asked["provider openai-compatible"]["state"] == "wrong"
    assert asked["provider azure"]["state"] == "skipped"
