"""Runs on each vendor: retried, billed and recorded like any other (MOD-1, MOD-4, USE-1)."""

import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_provider_contract import PNG, connection_to, layer_of, until
from tests.conftest import TestDatabase
from tests.durability.test_killed_provider_calls import MODELS
from tests.factories.executions import Service, running_service
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider
from tests.factories.steered import begin, told
from tests.features.executions.test_inputs_and_outputs import upload

from chargehand.adapters.vendors import NotConnected
from chargehand.kernel.database import Database


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path, fake: RunningFakeProvider
) -> AsyncIterator[Service]:
    fake.forget()
    layers = {name: layer_of(name, connection_to(name, fake)) for name in MODELS}
    async with running_service(
        database,
        clone.urls.system,
        tmp_path,
        providers={**layers, "azure": NotConnected("azure")},
        connected=frozenset(MODELS),
        lease_s=10,
    ) as running:
        yield running
    for layer in layers.values():
        await layer.close()


async def run(service: Service, provider: str, script: str, **config: Any) -> dict[str, Any]:
    model = {"provider": provider, "name": MODELS[provider]}
    return await service.run(await service.agent(model=model, **config), script)


async def attempts_of(service: Service, execution: dict[str, Any]) -> list[dict[str, Any]]:
    steps = await service.get(f"/executions/{execution['id']}/steps")
    return [attempt for step in steps for attempt in step["attempts"]]


@pytest.mark.parametrize("provider", sorted(set(MODELS) - {"azure"}))
async def test_what_may_heal_is_tried_again_and_all_of_it_is_on_record(
    service: Service, provider: str
) -> None:
    script = "@fail 429 retry_after=0.4 times=1\n@tokens 12\n@pace 2ms\n@wire eof 6 times=2"
    done = await run(service, provider, script)
    assert (done["status"], done["output"][:12]) == ("completed", "lor ips dol "), done["error"]
    limited, cut, whole = await attempts_of(service, done)
    assert (limited["status"], limited["remedy"], limited["retry_after_s"]) == (429, "retry", 0.4)
    assert (cut["remedy"], whole["error"]) == ("retry", None)
    assert 0 < cut["tokens"] < whole["tokens"]
    waited = seconds(cut["started_at"]) - seconds(limited["started_at"])
    assert waited >= 0.4
    assert done["usage"]["total_tokens"] == cut["tokens"] + whole["tokens"]
    resets = [event for event in await service.events(done["id"]) if event[1] == "output.reset"]
    assert len(resets) == 1


@pytest.mark.parametrize("provider", sorted(set(MODELS) - {"azure"}))
async def test_what_is_the_callers_fault_ends_the_run_at_once(
    service: Service, provider: str
) -> None:
    done = await run(service, provider, "@fail 400\n@say never")
    assert (done["status"], done["error"]["code"]) == ("failed", "ModelProviderFailed")
    (attempt,) = await attempts_of(service, done)
    assert (attempt["status"], attempt["remedy"]) == (400, "give_up")


@pytest.mark.parametrize("provider", sorted(set(MODELS) - {"azure"}))
async def test_instructions_go_along_with_every_call(
    service: Service, fake: RunningFakeProvider, provider: str
) -> None:
    script = '@call todo_write {"todos": []}\n@then\n@say Done.'
    config = {"instructions": "Answer like a pirate.", "capabilities": {"todo": {}}}
    done = await run(service, provider, script, **config)
    assert (done["status"], done["output"]) == ("completed", "Done."), done["error"]
    told = [call["instructions"] for call in fake.calls("started")]
    assert told == ["Answer like a pirate.", "Answer like a pirate."]


@pytest.mark.parametrize("provider", sorted(set(MODELS) - {"azure"}))
async def test_an_uploaded_image_reaches_the_vendor(
    service: Service, fake: RunningFakeProvider, provider: str
) -> None:
    image = await upload(service, "file", PNG, "image/png")
    agent = await service.agent(model={"provider": provider, "name": MODELS[provider]})
    blocks = [{"type": "text", "text": "@say Seen."}, {"type": "image", "upload_id": image}]
    done = await service.run(agent, blocks)
    assert (done["status"], done["output"]) == ("completed", "Seen."), done["error"]
    assert [call["files"] for call in fake.calls("started")] == [["image/png"]]


async def test_no_call_may_use_more_tokens_than_the_run_has_left(
    service: Service, fake: RunningFakeProvider
) -> None:
    model = {"provider": "openai", "name": "gpt-4o", "max_tokens": 4000}
    limits, capabilities = {"tokens": 5000}, {"todo": {}}
    agent = await service.agent(model=model, limits=limits, capabilities=capabilities)
    first = '@call todo_write {"todos": []}\n@usage input=3000 output=100'
    done = await service.run(agent, f"{first}\n@then\n@say Done.")
    assert done["output"] == "Done.", done["error"]
    allowed = [call["settings"]["max_tokens"] for call in fake.calls("started")]
    assert allowed == [4000, 5000 - 3100]


async def test_a_known_model_is_billed_at_its_price(service: Service) -> None:
    script = "@say hi\n@usage input=1000000 output=100000"
    done = await run(service, "openai", script, limits={"tokens": 5_000_000})
    assert Decimal(done["cost"]) == Decimal("2.50") + Decimal("1.00")
    assert done["unpriced"] is False


async def test_a_model_without_a_price_is_unpriced(service: Service) -> None:
    done = await run(service, "openai-compatible", "@say hi")
    assert (done["status"], done["unpriced"]) == ("completed", True)


async def test_a_worker_without_the_connection_says_how_to_get_one(service: Service) -> None:
    done = await run(service, "azure", "@say hi")
    assert (done["status"], done["error"]["code"]) == ("failed", "ModelProviderFailed")
    assert "AZURE_OPENAI_API_KEY" in done["error"]["message"]


def seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


@pytest.mark.parametrize(
    ("provider", "verb"),
    [("anthropic", "kill"), *((name, "cancel") for name in sorted(set(MODELS) - {"azure"}))],
)
async def test_a_call_in_flight_is_aborted_on_the_wire(
    service: Service, fake: RunningFakeProvider, provider: str, verb: str
) -> None:
    model = {"provider": provider, "name": MODELS[provider]}
    execution = await begin(service, await service.agent(model=model), "@tokens 500\n@pace 50ms")
    await until(lambda: fake.calls("started"))
    asked_at = time.monotonic()
    await told(service, execution, verb)
    await until(lambda: fake.calls("aborted"))
    assert time.monotonic() - asked_at < 2
    await service.until(execution, "cancelled")
