"""A Mercure hub is set whole, and well, or not at all (EXE-10)."""

import pytest

from chargehand import bootstrap, settings
from chargehand.kernel.errors import Invalid

HUB = "https://hub.example/.well-known/mercure"
SECRET = "0123456789abcdef" * 2


def refusal(**environment: str) -> str:
    with pytest.raises(Invalid) as caught:
        settings.load(environment)
    assert caught.value.code == "InvalidSettings"
    return caught.value.message


def test_a_hub_is_set_by_its_address_and_its_key() -> None:
    loaded = settings.load({"MERCURE_URL": HUB, "MERCURE_JWT_SECRET": SECRET})
    assert loaded.mercure.url == HUB
    other = bootstrap.other_hub(loaded)
    assert other is not None
    assert (other.url, other.secret) == (HUB, SECRET.encode())
    assert SECRET not in repr(loaded) + repr(other)


def test_browsers_may_reach_it_elsewhere() -> None:
    environment = {"MERCURE_URL": HUB, "MERCURE_JWT_SECRET": SECRET}
    loaded = settings.load({**environment, "MERCURE_PUBLIC_URL": "https://other.example/hub"})
    other = bootstrap.other_hub(loaded)
    assert other is not None
    assert other.url == "https://other.example/hub"


def test_without_its_address_there_is_none() -> None:
    assert bootstrap.other_hub(settings.load({})) is None
    assert bootstrap.other_hub(settings.load({"MERCURE_JWT_SECRET": SECRET})) is None


@pytest.mark.parametrize(
    "url",
    [
        "hub.example/.well-known/mercure",
        "ftp://hub.example",
        "https://",
        "https://hub.example:port",
        "https://user:hush@hub.example",
    ],
)
@pytest.mark.parametrize("variable", ["MERCURE_URL", "MERCURE_PUBLIC_URL"])
def test_an_address_that_is_none_is_refused(variable: str, url: str) -> None:
    told = refusal(**{"MERCURE_URL": HUB, "MERCURE_JWT_SECRET": SECRET, variable: url})
    assert f"{variable}: " in told
    assert "hush" not in told


def test_an_address_without_a_key_is_refused_with_the_remedy() -> None:
    told = refusal(MERCURE_URL=HUB)
    assert "MERCURE_JWT_SECRET: is missing" in told
    assert "unset MERCURE_URL" in told


def test_a_short_key_is_refused_and_not_shown() -> None:
    told = refusal(MERCURE_URL=HUB, MERCURE_JWT_SECRET=SECRET[:-1])
    assert "MERCURE_JWT_SECRET: is shorter than 32 bytes" in told
    assert SECRET[:-1] not in told
    # Bytes count, not letters.
    settings.load({"MERCURE_URL": HUB, "MERCURE_JWT_SECRET": "ü" * 16})
