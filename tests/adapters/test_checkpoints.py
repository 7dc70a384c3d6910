"""Checkpoints: what one provider said is understood by every other, also years later (MOD-4).

``checkpoints/`` holds histories as they were stored, by version of the library that made them;
``python -m tests.adapters.record_checkpoints`` adds those of the installed one. A case is never
changed: a library that cannot read it any more, or a protocol that cannot carry it, fails here.
"""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.settings import ModelSettings
from tests.adapters.record_checkpoints import APART
from tests.adapters.test_provider_contract import (
    MODELS,
    PROVIDERS,
    THINKING,
    THINKING_MODELS,
    WEATHER,
    Peer,
    connection_to,
    layer_of,
    make_call,
    stream,
)
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand.adapters import simulated
from chargehand.runtime.decide import CallModel, next_move
from chargehand.runtime.history import load

STORED = sorted((Path(__file__).parent / "checkpoints").glob("*/*.json"))
# Whose protocols carry thinking, and whether they sign it.
THOUGHTFUL = {"openai": 1, "openai-compatible": 0, "anthropic": 1, "google": 1}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture(params=PROVIDERS)
async def peer(request: pytest.FixtureRequest, fake: RunningFakeProvider) -> AsyncIterator[Peer]:
    name = request.param
    if name == "simulated":
        layer = simulated.provider()
    else:
        layer = layer_of(name, connection_to(name, fake, idle_timeout_s=10))
    fake.forget()
    yield Peer(name, layer, fake.log, MODELS.get(name, "gpt-4o"))
    await layer.close()


def test_every_provider_has_its_cases() -> None:
    apart = {f"{name}{APART}" for name in PROVIDERS}
    assert {path.stem for path in STORED} >= {*PROVIDERS, *apart}


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_a_stored_history_goes_on_with_every_provider(peer: Peer, path: Path) -> None:
    history = load(orjson.loads(without_wire(peer, path.read_bytes())))
    assert next_move(list(enumerate(history))) == CallModel()
    answer = await answer_on(peer, history)
    assert answer.text == "weather:\n> rain in Oslo\nweather:\n> sun in Bergen"


@pytest.mark.parametrize("peer", sorted(THOUGHTFUL), indirect=True)
async def test_stored_thinking_goes_back_to_who_thought_it(peer: Peer) -> None:
    # OpenAI's other case is of a model that does not reason: nothing of it was sealed.
    stems = {peer.name, f"{peer.name}{APART}"} - {"openai"}
    cases = [path for path in STORED if path.stem in stems]
    thoughtful = replace(peer, model=THINKING_MODELS.get(peer.name, peer.model))
    for path in cases:
        answer = await answer_on(thoughtful, load(orjson.loads(path.read_bytes())), THINKING)
        assert (answer.text or "").startswith("weather:\n> rain in Oslo")
    calls = peer.calls()
    assert [call["thinking"] for call in calls] == [["Two cities, so two calls."]] * len(cases)
    assert [call["signatures"] for call in calls] == [THOUGHTFUL[peer.name]] * len(cases)


def without_wire(peer: Peer, stored: bytes) -> bytes:
    """The case without what only a peer on a wire is told; the simulator is none."""
    return re.sub(rb"@wire [^\\]*\\n", b"", stored) if peer.name == "simulated" else stored


async def answer_on(
    peer: Peer, history: list[ModelMessage], settings: ModelSettings | None = None
) -> ModelResponse:
    call = make_call(peer, *history, tools=[WEATHER])
    if settings is not None:
        call = replace(call, settings=settings)
    return (await stream(peer, call))[1]
