"""Answers on their way are kept by the id of their call, and no longer than it lasts (MOD-2)."""

import gc
import weakref
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand.adapters.answers import OpenAnswers

ID = "X-Call"


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFakeProvider]:
    with running_fake_provider(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture
def answers() -> OpenAnswers:
    return OpenAnswers(ID, 10)


@pytest.fixture
async def client(
    fake: RunningFakeProvider, answers: OpenAnswers
) -> AsyncIterator[httpx2.AsyncClient]:
    hooks = {"response": [answers.watch]}
    async with httpx2.AsyncClient(base_url=fake.url, event_hooks=hooks) as made:
        yield made


async def answer(client: httpx2.AsyncClient, **headers: str) -> weakref.ref[httpx2.Response]:
    response = await client.get("/compat/v1/models", headers=headers)
    assert response.status_code == 200
    return weakref.ref(response)


def is_kept(response: weakref.ref[httpx2.Response]) -> bool:
    gc.collect()
    return response() is not None


async def test_an_answer_is_kept_until_its_call_is_closed(
    client: httpx2.AsyncClient, answers: OpenAnswers
) -> None:
    first, second = await answer(client, **{ID: "1"}), await answer(client, **{ID: "2"})
    assert (is_kept(first), is_kept(second)) == (True, True)
    await answers.close("1")
    await answers.close("1")
    await answers.close("never begun")
    assert (is_kept(first), is_kept(second)) == (False, True)


async def test_an_answer_to_no_call_is_not_kept(client: httpx2.AsyncClient) -> None:
    assert not is_kept(await answer(client))
