"""The blocks of a run's input, against what is known of the model (EXE-19)."""

from typing import Any

import pytest

from chargehand.agents.configuration import AgentConfig
from chargehand.executions.inputs import InvalidInput, check_input
from chargehand.kernel.identifiers import new_id


def blocks_taken(identifier: str, *kinds: str) -> int:
    """How many of these blocks, and a text, are let through."""
    provider, name = identifier.split(":")
    config = AgentConfig.model_validate({"model": {"provider": provider, "name": name}})
    document: list[dict[str, Any]] = [{"type": "text", "text": "Look:"}]
    document += [{"type": kind, "upload_id": str(new_id())} for kind in kinds]
    blocks = check_input(document, config)
    assert blocks is not None
    return len(blocks)


@pytest.mark.parametrize(
    "identifier", ["openai:gpt-4o", "anthropic:claude-sonnet-4-6", "google:gemini-2.5-flash"]
)
def test_what_a_known_model_takes_is_let_through(identifier: str) -> None:
    assert blocks_taken(identifier, "image", "pdf", "file") == 4


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        ("openai:gpt-4", "image"),
        ("azure:gpt-4o", "pdf"),
        ("anthropic:claude-3-haiku", "pdf"),
        ("google:gemini-1.0-pro", "image"),
    ],
)
def test_what_a_known_model_does_not_take_is_refused(identifier: str, kind: str) -> None:
    with pytest.raises(InvalidInput, match=f"{identifier} takes no {kind} blocks") as raised:
        blocks_taken(identifier, kind, kind)
    assert [found["pointer"] for found in raised.value.details["violations"]] == [
        "/input/1",
        "/input/2",
    ]


@pytest.mark.parametrize("identifier", ["openai-compatible:llava", "openai:gpt-99"])
def test_of_an_unknown_model_the_providers_own_answer_decides(identifier: str) -> None:
    assert blocks_taken(identifier, "image", "pdf", "file") == 4
