"""Models and providers over HTTP (SPEC MOD-2, MOD-3, API-1)."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import httpx2
import pytest
from tests.factories.tenancy import client_of, make_app, make_caller

from chargehand.agents.configuration import ModelChoice
from chargehand.catalog.availability import Availabilities, Availability, NothingConnected
from chargehand.catalog.checks import RecentChecks
from chargehand.catalog.providers import VENDORS
from chargehand.catalog.routes import router
from chargehand.kernel.database import Database

SIMULATED = ["simulated:standard", "simulated:text", "simulated:unpriced"]


class Counting:
    """Answers what it is given, when it is let; counts how often it is asked."""

    def __init__(self, **found: Availability) -> None:
        self.found = found
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def check(self) -> Mapping[str, Availability]:
        self.asked += 1
        await self.may_answer.wait()
        return self.found


async def client(
    database: Database,
    *,
    connected: Collection[str] = (),
    availabilities: Availabilities | None = None,
    scopes: Collection[str] = ("agents:read",),
) -> httpx2.AsyncClient:
    _, key = await make_caller(database, "viewer", list(scopes))
    app = make_app(database, router)
    app.state.connected = connected
    app.state.checks = RecentChecks(availabilities or NothingConnected())
    return client_of(app, key)


async def models(caller: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await caller.get("/api/v1/models", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None or len(answer.json()["items"]) == 100
    return answer.json()["items"]


async def providers(caller: httpx2.AsyncClient, **query: Any) -> dict[str, dict[str, Any]]:
    answer = await caller.get("/api/v1/models/providers", params=query)
    assert answer.status_code == 200, answer.text
    return {item["name"]: item for item in answer.json()["items"]}


def identifiers(items: list[dict[str, Any]]) -> list[str]:
    return [f"{item['provider']}:{item['name']}" for item in items]


async def test_where_nothing_is_connected_only_simulated_models_are_listed(
    database: Database,
) -> None:
    async with await client(database) as caller:
        found = await models(caller)
    assert identifiers(found) == SIMULATED
    assert all(model["simulated"] for model in found)


async def test_a_model_is_told_with_limits_parameters_and_todays_prices(database: Database) -> None:
    async with await client(database) as caller:
        standard, text, unpriced = await models(caller)
    assert (standard["context_window"], standard["max_output_tokens"]) == (200_000, 32_000)
    assert standard["capabilities"] == ["image", "pdf", "streaming", "structured_output", "tools"]
    assert text["capabilities"] == ["streaming"]
    assert standard["parameters"]["temperature"] == {
        "kind": "number",
        "minimum": 0,
        "maximum": 2,
        "default": 0.7,
        "choices": [],
    }
    assert {"stop", "seed", "max_tokens"} < standard["parameters"].keys()
    assert standard["prices"] == {
        "input_per_million": "1.00",
        "cache_read_per_million": "0.10",
        "cache_write_per_million": "1.25",
        "output_per_million": "4.00",
        "currency": "USD",
        "valid_from": "2026-01-01",
        "source": "simulated",
    }
    assert unpriced["prices"] is None


async def test_every_parameter_is_one_that_a_configuration_takes(database: Database) -> None:
    async with await client(database, connected=list(VENDORS)) as caller:
        found = await models(caller)
    assert {name for model in found for name in model["parameters"]} <= set(
        ModelChoice.model_fields
    )


async def test_a_connected_vendors_models_are_listed_and_no_others(database: Database) -> None:
    async with await client(database, connected=["anthropic"]) as caller:
        found = await models(caller)
        (one,) = (model for model in found if model["name"] == "claude-haiku-4-5")
    assert {model["provider"] for model in found} == {"anthropic", "simulated"}
    assert identifiers(found) == sorted(identifiers(found))
    assert (one["simulated"], one["context_window"] > 100_000) == (False, True)
    assert one["prices"]["source"].startswith("genai-prices")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"provider": "simulated"}, SIMULATED),
        ({"provider": "openai-compatible"}, []),
        ({"text": "TEXT"}, ["simulated:text"]),
        ({"text": "simulated:u"}, ["simulated:unpriced"]),
        ({"text": "no such model"}, []),
        ({"capability": "tools"}, ["simulated:standard", "simulated:unpriced"]),
        ({"capability": "tools", "text": "priced"}, ["simulated:unpriced"]),
    ],
)
async def test_filters_narrow_the_list(
    database: Database, query: dict[str, str], expected: list[str]
) -> None:
    async with await client(database) as caller:
        assert identifiers(await models(caller, **query)) == expected


async def test_pages_follow_one_another_without_a_gap_or_a_double(database: Database) -> None:
    async with await client(database, connected=list(VENDORS)) as caller:
        whole, pages, cursor = await models(caller, text="e"), list[dict[str, Any]](), {}
        for _ in range(len(whole)):
            answer = await caller.get("/api/v1/models", params={"limit": 1, "text": "e", **cursor})
            pages += answer.json()["items"]
            if answer.json()["next_cursor"] is None or len(pages) == 100:
                break
            cursor = {"cursor": answer.json()["next_cursor"]}
    assert identifiers(pages) == identifiers(whole)
    assert len(pages) > 1


@pytest.mark.parametrize(
    ("query", "pointer", "told"),
    [
        ({"provider": "opnai"}, "/query/provider", "did you mean 'openai'?"),
        ({"provider": "zzz"}, "/query/provider", "unknown provider"),
        ({"capability": "toolz"}, "/query/capability", "tools"),
        ({"cursor": "none"}, "/query/cursor", "not a cursor of this list"),
        ({"limit": 101}, "/query/limit", "100"),
        ({"text": "\x00"}, "/query/text", "NUL"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_named(
    database: Database, query: dict[str, Any], pointer: str, told: str
) -> None:
    async with await client(database) as caller:
        answer = await caller.get("/api/v1/models", params=query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "InvalidInput")
    (violation,) = error["details"]["violations"]
    assert violation["pointer"] == pointer
    assert told in violation["message"]


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/providers"])
async def test_a_key_that_may_not_read_agents_is_refused(database: Database, path: str) -> None:
    async with await client(database, scopes=("usage:read",)) as caller:
        answer = await caller.get(path)
    assert answer.status_code == 403
    assert answer.json()["error"]["details"]["missing_scopes"] == ["agents:read"]


async def test_each_provider_is_connected_or_says_what_connects_it(database: Database) -> None:
    async with await client(database, connected=["anthropic"]) as caller:
        found = await providers(caller)
    assert list(found) == ["simulated", *VENDORS]
    assert [name for name, told in found.items() if told["connected"]] == ["simulated", "anthropic"]
    assert found["anthropic"]["remedy"] is None
    assert "OPENAI_API_KEY" in found["openai"]["remedy"]
    assert all(told["title"] for told in found.values())


async def test_a_provider_of_the_installations_own_is_among_them(database: Database) -> None:
    async with await client(database, connected=["in-house"]) as caller:
        found = await providers(caller)
        assert await models(caller, provider="in-house") == []
    assert found["in-house"]["connected"]
    assert len(found) == len(VENDORS) + 2


async def test_nobody_is_asked_unless_a_check_is_wanted(database: Database) -> None:
    vendors = Counting()
    async with await client(database, connected=["openai"], availabilities=vendors) as caller:
        found = await providers(caller)
    assert vendors.asked == 0
    assert {told["availability"] for told in found.values()} == {None}


async def test_a_check_tells_what_it_found_of_each_that_is_connected(database: Database) -> None:
    vendors = Counting(
        openai=Availability(
            available=True, latency_ms=12, models=tuple(f"model-{n}" for n in range(203))
        ),
        anthropic=Availability(
            available=False,
            latency_ms=5000,
            problem="https://user:secret@proxy.example/v1?key=secret does not answer",
        ),
        google=Availability(available=True, latency_ms=1),
    )
    connected = ["openai", "anthropic", "azure"]
    async with await client(database, connected=connected, availabilities=vendors) as caller:
        found = await providers(caller, check="true")
    told = {name: one["availability"] for name, one in found.items()}
    assert (told["openai"]["available"], told["openai"]["latency_ms"]) == (True, 12)
    assert (len(told["openai"]["models"]), told["openai"]["more"]) == (200, 3)
    assert told["openai"]["checked_at"].endswith("Z")
    assert told["anthropic"]["available"] is False
    assert told["anthropic"]["problem"] == "https://proxy.example/v1 does not answer"
    assert (told["simulated"]["available"], told["simulated"]["problem"]) == (True, None)
    assert told["google"] is None  # not connected, whatever was found
    assert told["azure"] is None  # connected, and nothing found
    assert "secret" not in str(found)


async def test_callers_at_once_share_one_check_and_later_ones_its_result(
    database: Database,
) -> None:
    vendors = Counting(openai=Availability(available=True, latency_ms=1))
    vendors.may_answer.clear()
    async with await client(database, connected=["openai"], availabilities=vendors) as caller:
        asking = [asyncio.create_task(providers(caller, check="true")) for _ in range(5)]
        async with asyncio.timeout(5):
            while not vendors.asked:
                await asyncio.sleep(0.01)
        vendors.may_answer.set()
        found = await asyncio.gather(*asking, providers(caller, check="true"))
        found.append(await providers(caller, check="true"))
    assert vendors.asked == 1
    assert len({one["openai"]["availability"]["checked_at"] for one in found}) == 1
