"""What an agent does, as one versioned document (SPEC AGT-2). Pure.

Every field is here and documented; what this version of Chargehand cannot do yet is refused in
``validation``, so that nothing is stored that would be ignored.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

CONFIG_SCHEMA = 1
"""The number of this document's shape, stored beside each (``agent_versions.config_schema``)."""

PiiMode = Literal["off", "detect", "redact", "pseudonymise", "refuse"]
ReasoningEffort = Literal["minimal", "low", "medium", "high"]
Queue = Literal["agents", "agents_priority", "agents_long", "async"]

Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Objects = dict[str, Any]
Dollars = Annotated[
    Decimal,
    Field(gt=0, max_digits=20, decimal_places=10),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^(?=.*[1-9])\d{1,10}(\.\d{1,10})?$"},
            ]
        },
        mode="validation",
    ),
]


class _Part(BaseModel):
    # Strict: "12" is not a number and 1 is not true, whatever a client's library makes of them.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelRef(_Part):
    """A model of a provider."""

    provider: Identifier = Field(description="As `GET /models/providers` names it.")
    name: Identifier = Field(description="As the provider names it.")


class ModelChoice(ModelRef):
    """The model and its sampling; what is null takes the catalogue's default for that model."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="How freely it words its answers."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="At most what the model can answer."
    )
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="Only the likeliest tokens, up to this probability."
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens, by how often they came already."
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens that came at all."
    )
    stop: tuple[Identifier, ...] | None = Field(
        default=None, max_length=16, description="Sequences that end the answer."
    )
    seed: int | None = Field(
        default=None, description="The same seed and input give the same answer, as far as it can."
    )
    reasoning_effort: ReasoningEffort | None = Field(
        default=None, description="How long a model that reasons does so."
    )
    extra: Objects = Field(
        default={}, description="Further parameters, as the provider names them."
    )


class PromptRef(_Part):
    """A prompt template: pinned by version, or followed by label."""

    name: Identifier = Field(description="The template's name.")
    version: Identifier | None = Field(default=None, description="This version, for good.")
    label: Identifier | None = Field(
        default=None, description="The version that has this label when a run starts."
    )


class Limits(_Part):
    """What one run may use up, and how long its chunks are."""

    # SPEC EXE-12, EXE-13
    steps: int = Field(
        default=20, ge=1, le=1000, description="Steps: calls of the model and of tools."
    )
    tokens: int = Field(
        default=20_000, ge=1, le=100_000_000, description="Input and output tokens together."
    )
    wall_time_s: float = Field(
        default=120, gt=0, le=86_400, description="Seconds from its first claim; waits excepted."
    )
    cost_usd: Dollars | None = Field(default=None, description="Dollars; null is no cap.")
    chunk_steps: int = Field(
        default=10, ge=1, le=100, description="Steps after which the run goes back to its queue."
    )


class Approval(_Part):
    """Calls of a tool that persons must approve, each with its arguments, before they are made."""

    # SPEC EXE-7
    persons: int = Field(
        default=1, ge=1, le=20, description="How many different persons must approve a call."
    )
    deadline_s: float = Field(
        default=604_800, gt=0, le=31_536_000, description="Seconds that a call waits at most."
    )
    on_deadline: Literal["fail", "continue", "cancel"] = Field(
        default="fail", description="What happens then; `continue` counts as denied."
    )


class ResponseCache(_Part):
    """Answer a repeated request from the stored answer."""

    enabled: bool = Field(default=False, description="Whether it does.")
    ttl_s: int = Field(
        default=3600, ge=1, le=2_592_000, description="Seconds that an answer is good for."
    )


class Trigger(_Part):
    """What starts the agent, beside a caller."""

    mode: Literal["manual", "event", "scheduled"] = Field(
        default="manual", description="Nothing else, an event, or a schedule."
    )
    settings: Objects = Field(default={}, description="Which event, or which schedule.")


class AgentConfig(_Part):
    """The configuration of one version of an agent."""

    model: ModelChoice = Field(description="The model that answers, and how it does.")
    fallback_models: tuple[ModelRef, ...] = Field(
        default=(),
        max_length=5,
        description="To be asked in this order when the model fails; kept, and not asked yet.",
    )
    instructions: str = Field(
        default="", max_length=100_000, description="The persona and the task."
    )
    prompt: PromptRef | None = Field(
        default=None, description="A template in place of `instructions`; not available yet."
    )
    default_variables: Objects = Field(
        default={}, description="Values for the prompt's variables; not available yet."
    )
    input_schema: Objects | None = Field(
        default=None, description="JSON Schema (draft 2020-12) of the input; null takes any input."
    )
    output_schema: Objects | None = Field(
        default=None, description="JSON Schema (draft 2020-12) of the output; null is text."
    )
    capabilities: dict[str, Objects] = Field(
        default={},
        description='What it may use, by name, with options: {"files": {"mode": "read"}}.',
    )
    approvals: dict[str, Approval] = Field(
        default={},
        description='Tools whose calls need approval, by name: {"todo_write": {"persons": 2}}.',
    )
    limits: Limits = Field(default=Limits(), description="What one run may use up.")
    response_cache: ResponseCache = Field(
        default=ResponseCache(),
        description="Whether equal requests get the stored answer; not available yet.",
    )
    guardrails: Objects = Field(
        default={}, description="Checks of input and output, by name; not available yet."
    )
    pii_mode: PiiMode = Field(
        default="off",
        description="What is done about personal data in input and output; only `off` yet.",
    )
    context_budget_tokens: int | None = Field(
        default=None,
        ge=1,
        description="How many tokens may go to the model in one call; not available yet.",
    )
    trigger: Trigger = Field(
        default=Trigger(), description="What starts it, beside a caller; only `manual` yet."
    )
    queue: Queue = Field(default="agents", description="The queue that its runs wait in.")


@lru_cache(maxsize=1024)
def stored_config(text: str | bytes) -> AgentConfig:
    """A configuration as it was stored, as JSON; equal texts give the same object."""
    return AgentConfig.model_validate_json(text)
