"""The wire shapes of executions (SPEC EXE-2, EXE-3, API-5)."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chargehand.executions.states import Status


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkspaceRequest(_Request):
    """The files that a run works on."""

    upload_id: UUID = Field(description="A folder that was uploaded; the run works in a copy.")


class ExecuteRequest(_Request):
    """Start a run of an agent."""

    input: Any = Field(description="Text, JSON, or a list of blocks (text, image, pdf, file).")
    variables: dict[str, Any] = Field(
        default_factory=dict, description="Values for the prompt's variables; kept with the run."
    )
    version: str | None = Field(None, description="A published version; default: the current one.")
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Whatever you want to keep with the run."
    )
    end_user: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Whom the run is for, in your own words; lists can be filtered by it."
    )
    mode: Literal["wait", "async", "stream"] = Field(
        "wait",
        description="`wait` answers when the run ends, or after `timeout_s` with a 202; `async` "
        "answers 202 at once; `stream` answers with the run's events.",
    )
    timeout_s: float = Field(
        60, gt=0, le=60, description="How many seconds `wait` waits; the run goes on after it."
    )
    workspace: WorkspaceRequest | None = Field(
        None, description="The files that it works on; null: an empty folder."
    )


class ExecutionTrigger(BaseModel):
    """What started a run."""

    kind: str = Field(description="The kind of it; `user` is a call of the API.")
    id: UUID | None = Field(description="Which one; null for `user`.")


class TokenCounts(BaseModel):
    """Tokens; ``input_tokens`` includes both cache counts, ``output_tokens`` the reasoning."""

    input_tokens: int = Field(description="All that went to the model.")
    cache_read_tokens: int = Field(description="Of them, those that came from a cache.")
    cache_write_tokens: int = Field(description="Of them, those that went into a cache.")
    output_tokens: int = Field(description="All that the model made.")
    reasoning_tokens: int = Field(description="Of them, those that it reasoned with.")
    total_tokens: int = Field(description="Input and output together.")


class ExecutionError(BaseModel):
    """Why a run failed."""

    code: str = Field(description="One of the codes of runs.")
    message: str = Field(description="What happened and what to do, for people.")
    details: dict[str, Any] = Field(description="What a program can act on; depends on the code.")


class ExecutionView(BaseModel):
    """One execution. Input and output are null for those who may only see that it ran."""

    id: UUID = Field(description="The execution's id.")
    agent_id: UUID = Field(description="The agent that runs.")
    agent_version: str = Field(description="The number of the version that runs.")
    status: Status = Field(description="Its state; the last three of them are ends.")
    trigger: ExecutionTrigger = Field(description="What started it.")
    user_id: UUID = Field(description="The user whose key started it.")
    end_user: str | None = Field(description="Whom it is for, as the request said.")
    input: Any = Field(description="What it was given.")
    variables: dict[str, Any] | None = Field(description="The request's variables.")
    output: Any = Field(description="Its answer; where it did not complete, what there is of it.")
    redacted: bool = Field(description="True where input and output were left out for this caller.")
    finish_reason: str | None = Field(
        description="Why the model ended its last answer, or `cancelled`."
    )
    provider_response_id: str | None = Field(description="The provider's id of that answer.")
    steps: int = Field(description="Finished steps.")
    model_attempts: int = Field(description="Calls of models, the failed ones too.")
    tool_calls: int = Field(description="Calls of tools.")
    usage: TokenCounts = Field(description="The tokens of all its calls of models.")
    cost: str = Field(description="An exact decimal, in `currency`.")
    currency: str = Field(description="What `cost` is in.")
    unpriced: bool = Field(description="True if a model without a known price was called.")
    error: ExecutionError | None = Field(description="Why it failed; null: it did not.")
    warnings: list[str] = Field(description="What may be a mistake in how it was started.")
    queue: str = Field(description="The queue that it waits in.")
    chunk: int = Field(description="How often it went back to its queue between two steps.")
    is_test: bool = Field(description="Whether it runs a draft.")
    metadata: dict[str, Any] = Field(description="What the request gave to keep with it.")
    created_at: datetime = Field(description="When it was accepted.")
    started_at: datetime | None = Field(description="When a worker first claimed it.")
    completed_at: datetime | None = Field(description="When it ended.")
    updated_at: datetime = Field(description="When its state last changed.")
    duration_ms: int | None = Field(description="From the first claim to the end, or until now.")


class StepView(BaseModel):
    """One finished step of an execution."""

    seq: int = Field(description="Its number in the run, from 1.")
    kind: Literal["model", "tool"] = Field(description="What was called.")
    epoch: int = Field(description="The claim under which the step was completed.")
    tool_name: str | None = Field(description="The tool; null for the model.")
    provider: str | None = Field(description="The model's provider; null for a tool.")
    model: str | None = Field(description="The model; null for a tool.")
    attempts: list[dict[str, Any]] = Field(
        description="Each call that it took, with its error and its duration."
    )
    tool_names: list[str] = Field(description="The tools that the model asked for.")
    finish_reason: str | None = Field(description="Why the model ended its answer.")
    usage: TokenCounts = Field(description="The tokens of its calls of models.")
    cost: str = Field(description="An exact decimal, in the execution's currency.")
    error: dict[str, Any] | None = Field(description="Why the tool failed; null: it did not.")
    started_at: datetime = Field(description="When it began.")
    completed_at: datetime = Field(description="When it was finished.")
    duration_ms: int = Field(description="How long it took.")


class LogView(BaseModel):
    """One line of an execution's log."""

    id: int = Field(
        description="Its number in the run; later ones are greater. `after_id` takes it."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(description="How much it matters.")
    event_type: str = Field(description="What it tells of, like `step.model`.")
    message: str = Field(description="What happened, for people.")
    context: dict[str, Any] = Field(description="The facts of it; they depend on `event_type`.")
    at: datetime = Field(description="When it was written.")


class Subscription(BaseModel):
    """What lets a browser follow one topic."""

    token: str = Field(description="A JWT that lives for an hour, or as long as the key.")
    hub_url: str = Field(description="Where to follow it: GET with `topic` and `token`.")
    topic: str = Field(description="What the token is for: `agent/…` or `user/…/agents`.")
