"""From the settings to the vendors: what is connected, how, and what is imported for it (MOD-2)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.settings import ModelSettings
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand import bootstrap, settings
from chargehand.adapters.vendors import Connection
from chargehand.catalog.providers import VENDORS
from chargehand.runtime.ports import ModelCall, ModelCallFailed, ModelProvider

ROOT = Path(__file__).parents[2]
EVERY = {
    "OPENAI_API_KEY": "key-o",
    "CHARGEHAND_OPENAI_URL": "http://openai/v1/",
    "ANTHROPIC_API_KEY": "key-a",
    "CHARGEHAND_ANTHROPIC_URL": "http://anthropic",
    "GOOGLE_AI_API_KEY": "key-g",
    "CHARGEHAND_GOOGLE_URL": "http://google",
    "AZURE_OPENAI_API_KEY": "key-z",
    "CHARGEHAND_AZURE_URL": "http://azure",
    "CHARGEHAND_AZURE_API_VERSION": "2025-04-01-preview",
    "CHARGEHAND_COMPATIBLE_URL": "http://compatible",
    "CHARGEHAND_MODEL_IDLE_TIMEOUT_S": "12.5",
}
REACHED = {
    "openai": ("http://openai/v1", "key-o", None),
    "openai-chat": ("http://openai/v1", "key-o", None),
    "anthropic": ("http://anthropic", "key-a", None),
    "google": ("http://google", "key-g", None),
    "azure": ("http://azure", "key-z", "2025-04-01-preview"),
    "openai-compatible": ("http://compatible", None, None),
}


@pytest.mark.parametrize(
    ("more", "connections"),
    [({"CHARGEHAND_MODEL_CONNECTIONS": "7"}, 7), ({}, 33)],
    ids=["as many as are set", "as many as there are runs"],
)
def test_every_setting_reaches_its_connection(more: dict[str, str], connections: int) -> None:
    loaded = settings.load({**EVERY, **more})
    assert bootstrap.connections(loaded, 33) == {
        name: Connection(
            url=url,
            api_key=key,
            idle_timeout_s=12.5,
            connections=connections,
            api_version=version,
        )
        for name, (url, key, version) in REACHED.items()
    }


def test_a_compatible_server_may_have_a_key() -> None:
    loaded = settings.load({**EVERY, "CHARGEHAND_COMPATIBLE_KEY": "key-c"})
    assert bootstrap.connections(loaded, 1)["openai-compatible"].api_key == "key-c"


async def test_what_is_not_connected_says_how_to_connect_it() -> None:
    async with bootstrap.model_providers(settings.load({}), 1) as providers:
        assert providers.keys() == {"simulated", *VENDORS}
        for name, vendor in VENDORS.items():
            needed = vendor.key_variable if vendor.key_needed else vendor.url_variable
            with pytest.raises(ModelCallFailed, match=needed) as raised:
                await answered(providers[name])
            assert raised.value.remedy == "give_up"
        await answered(providers["simulated"])


async def answered(provider: ModelProvider) -> None:
    call = ModelCall(
        call_id="1.1.1",
        attempt=1,
        model="standard",
        messages=[ModelRequest(parts=[UserPromptPart("@say hi")])],
        instructions=None,
        tools=(),
        settings=ModelSettings(max_tokens=1000),
        output_schema=None,
        timeout_s=20,
    )
    async for _ in provider.stream(call):
        pass


# Imports

PROGRAM = """
import asyncio, json, sys
from tests.adapters.test_vendor_wiring import SDKS, answered
assert not SDKS & sys.modules.keys(), "the test's own imports bring an SDK"
from chargehand import bootstrap, settings

async def main(name):
    async with bootstrap.model_providers(settings.load(), 1) as providers:
        before = SDKS & sys.modules.keys()
        await answered(providers[name])
        return [sorted(before), sorted(SDKS & sys.modules.keys())]

print(json.dumps(asyncio.run(main(sys.argv[1]))))
"""
SDKS = {"openai", "anthropic", "google.genai"}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("simulated", []),
        ("openai", ["openai"]),
        ("openai-chat", ["openai"]),
        ("openai-compatible", ["openai"]),
        ("azure", ["openai"]),
        # Of OpenAI's package comes the transport of all.
        ("anthropic", ["anthropic", "openai"]),
        ("google", ["google.genai", "openai"]),
    ],
)
def test_an_sdk_is_imported_when_its_vendor_is_called_first(
    fake: RunningFakeProvider, name: str, imported: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        env={"PYTHONPATH": f"{Path(bootstrap.__file__).parents[1]}:{ROOT}", **fake.settings()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: Any = json.loads(done.stdout)
    assert told == [[], imported]
