"""What goes to a Mercure hub, and what is made of its answers."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from tests.factories.mercure import SECRET, RunningHub, running_hub

from chargehand.adapters.mercure import Mercure
from chargehand.executions.publications import Update
from chargehand.executions.publishing import HubTrouble

RUN = UUID("01890000-0000-7000-8000-000000000000")
UPDATE = Update(
    f"urn:chargehand:{RUN}:1.2",
    RUN,
    (f"agent/{RUN}", "user/someone/agents"),
    "done",
    '{"text": "ä & =\\n"}',
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(tmp_path) as running:
        yield running


@asynccontextmanager
async def reaching(url: str, secret: str = SECRET, answer_s: float = 10) -> AsyncIterator[Mercure]:
    mercure = Mercure(url, secret, answer_s=answer_s)
    try:
        yield mercure
    finally:
        await mercure.close()


async def trouble_at(url: str, secret: str = SECRET, answer_s: float = 10) -> HubTrouble:
    async with reaching(url, secret, answer_s) as mercure:
        with pytest.raises(HubTrouble) as caught:
            await mercure.publish(UPDATE)
    told = f"{caught.value.reason} {caught.value.remedy}"
    assert secret not in told
    assert "eyJ" not in told, "a token"
    return caught.value


async def test_an_update_goes_with_all_its_topics_and_privately(hub: RunningHub) -> None:
    async with reaching(hub.url) as mercure:
        await mercure.publish(UPDATE)
        await mercure.check()
    first, second = (request["fields"] for request in hub.requests())
    assert first == [
        ["topic", f"agent/{RUN}"],
        ["topic", "user/someone/agents"],
        ["data", UPDATE.data],
        ["id", UPDATE.id],
        ["type", "done"],
        ["private", "on"],
    ]
    assert ["private", "on"] in second


@pytest.mark.parametrize(
    ("mood", "kind"),
    [
        ("401", "unauthorized"),
        ("403", "unauthorized"),
        ("400", "refused"),
        ("413", "refused"),
        ("429", "failing"),
        ("500", "failing"),
        ("503", "failing"),
        ("redirect", "redirected"),
    ],
)
async def test_only_success_is_success(hub: RunningHub, mood: str, kind: str) -> None:
    hub.feel(mood)
    trouble = await trouble_at(hub.url)
    assert trouble.kind == kind
    assert trouble.remedy


async def test_a_wrong_key_is_told_as_one(hub: RunningHub) -> None:
    trouble = await trouble_at(hub.url, "another key, which is also long enough")
    assert trouble.kind == "unauthorized"
    assert "MERCURE_JWT_SECRET" in trouble.remedy


async def test_a_wrong_path_is_told_as_one(hub: RunningHub) -> None:
    trouble = await trouble_at(hub.url.replace("mercure", "venus"))
    assert (trouble.kind, "MERCURE_URL" in trouble.remedy) == ("refused", True)


async def test_a_hub_that_does_not_answer_is_waited_for_no_longer_than_that(
    hub: RunningHub,
) -> None:
    hub.feel("slow")
    begun = time.monotonic()
    assert (await trouble_at(hub.url, answer_s=0.3)).kind == "slow"
    assert time.monotonic() - begun < 5


async def test_a_hub_that_is_not_there_is_told_as_such(hub: RunningHub) -> None:
    hub.stop()
    assert (await trouble_at(hub.url)).kind == "unreachable"
