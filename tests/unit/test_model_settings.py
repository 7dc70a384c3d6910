"""What is sent to a model: what is set, the catalogue's defaults, and the tokens that are left."""

from typing import Any

import pytest

from chargehand.agents.configuration import AgentConfig
from chargehand.catalog.models import find_model
from chargehand.runtime.model_call import model_settings


def settings_of(identifier: str, left: int = 20_000, **parameters: Any) -> dict[str, Any]:
    provider, name = identifier.split(":")
    document = {"model": {"provider": provider, "name": name, **parameters}}
    return dict(model_settings(AgentConfig.model_validate(document), left))


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        ("simulated:standard", {"temperature": 0.7, "max_tokens": 2000}),
        ("openai:gpt-4o", {"temperature": 0.7, "max_tokens": 2000}),
        ("openai-chat:gpt-5", {"max_tokens": 16_000}),
        ("azure:gpt-4o", {"temperature": 0.7, "max_tokens": 2000}),
        ("anthropic:claude-haiku-4-5", {"temperature": 0.7, "max_tokens": 2000}),
        ("anthropic:claude-sonnet-5", {"max_tokens": 16_000}),
        ("google:gemini-2.5-flash", {"max_tokens": 16_000}),
        ("openai:gpt-99", {}),
        ("openai-compatible:llama", {}),
    ],
)
def test_what_is_sent_of_nothing_set(identifier: str, sent: dict[str, Any]) -> None:
    assert settings_of(identifier) == sent


def test_what_is_set_is_sent_under_the_layers_names() -> None:
    assert settings_of(
        "openai-chat:gpt-4o",
        temperature=0.0,
        max_tokens=50,
        top_p=0.5,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        stop=("END",),
        seed=7,
        extra={"logit_bias": {"1": 2}},
    ) == {
        "temperature": 0.0,
        "max_tokens": 50,
        "top_p": 0.5,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "stop_sequences": ("END",),
        "seed": 7,
        "extra_body": {"logit_bias": {"1": 2}},
    }


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        ("openai:gpt-5.1", {"thinking": "high", "max_tokens": 16_000}),
        ("anthropic:claude-sonnet-4-6", {"thinking": "high", "max_tokens": 16_000}),
        ("google:gemini-2.5-flash", {"thinking": "high", "max_tokens": 16_000}),
        ("openai-compatible:llama", {"thinking": "high"}),
    ],
)
def test_thinking_gets_room_and_no_temperature(identifier: str, sent: dict[str, Any]) -> None:
    assert settings_of(identifier, reasoning_effort="high") == sent


def test_a_budget_of_thinking_fits_below_max_tokens_or_there_is_none() -> None:
    model = "anthropic:claude-haiku-4-5"
    high = settings_of(model, 50_000, reasoning_effort="high")
    assert high == {"thinking": "high", "max_tokens": 18_384}
    short = settings_of(model, 10_000, reasoning_effort="medium")
    assert short == {"max_tokens": 10_000}
    assert settings_of(model, 10_001, reasoning_effort="medium")["thinking"] == "medium"


def test_top_p_takes_the_place_of_the_default_temperature_where_only_one_may_be() -> None:
    assert settings_of("anthropic:claude-sonnet-4-5", top_p=0.9) == {
        "top_p": 0.9,
        "max_tokens": 2000,
    }
    assert settings_of("anthropic:claude-3-haiku", top_p=0.9)["temperature"] == 0.7


@pytest.mark.parametrize(
    ("identifier", "left", "most"),
    [
        ("openai:gpt-4o", 100, 100),
        ("openai:gpt-4o", 3, 16),
        ("openai-chat:gpt-4o", 3, 3),
        ("anthropic:claude-haiku-4-5", 0, 1),
        ("google:gemini-2.5-pro", 500, 500),
        ("simulated:standard", -5, 1),
    ],
)
def test_no_more_is_asked_for_than_is_left(identifier: str, left: int, most: int) -> None:
    assert settings_of(identifier, left)["max_tokens"] == most
    entry = find_model(*identifier.split(":"))
    assert entry is not None
    assert most >= (entry.parameters["max_tokens"].minimum or 0)


def test_of_an_unknown_model_only_what_is_set_is_bounded() -> None:
    assert settings_of("openai-compatible:llama", 100, max_tokens=500) == {"max_tokens": 100}
