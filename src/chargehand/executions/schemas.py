"""The wire shapes of executions (SPEC EXE-2, EXE-3, API-5)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from chargehand.executions.states import Status
from chargehand.executions.waits import START as START_OF_RUN
from chargehand.executions.waits import OnDeadline, Wait, WaitKind
from chargehand.web.texts import NO_NUL, written_out

FAR = datetime(9000, 1, 1, tzinfo=UTC)


def _moment(value: Any) -> Any:
    return value if isinstance(value, datetime) else written_out(str(value))


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkspaceRequest(_Request):
    """The files that a run works on."""

    upload_id: UUID = Field(description="A folder that was uploaded; the run works in a copy.")


Name = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
OnDeadlineField = Annotated[
    OnDeadline,
    Field(description="At the deadline: `fail`, `cancel`, or `continue` without what was awaited."),
]
EventName = Annotated[str, Field(min_length=1, max_length=200), NO_NUL]


class ClientTool(_Request):
    """A tool that the caller of the run answers for."""

    name: Name = Field(description="What the model calls it; none of the agent's own tools.")
    description: str = Field("", max_length=10_000, description="What the model is told of it.")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object"},
        description="JSON Schema (draft 2020-12) of its arguments, which are an object.",
    )


class AwaitedEvent(_Request):
    """An event that the run begins with."""

    event_type: EventName = Field(description="The type of the event, as `POST /events` gives it.")
    filter: dict[str, Any] = Field(
        default_factory=dict, description="Members that the event's payload must have, equal."
    )
    deadline_s: float | None = Field(
        None, gt=0, le=31_536_000, description="Seconds that it waits at most; null: for ever."
    )
    on_deadline: OnDeadlineField = "fail"

    def wait(self) -> Wait:
        return Wait(
            kind="event",
            message_seq=START_OF_RUN[0],
            call_id=START_OF_RUN[1],
            request={"event_type": self.event_type, "filter": self.filter},
            deadline_s=self.deadline_s,
            on_deadline=self.on_deadline,
        )


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
        description="`wait` answers when the run ends, or with a 202 when it waits for something "
        "or after `timeout_s`; `async` answers 202 at once; `stream` answers with the run's "
        "events.",
    )
    timeout_s: float = Field(
        60, gt=0, le=60, description="How many seconds `wait` waits; the run goes on after it."
    )
    workspace: WorkspaceRequest | None = Field(
        None, description="The files that it works on; null: an empty folder."
    )
    run_at: Annotated[AwareDatetime, Field(lt=FAR), BeforeValidator(_moment)] | None = Field(
        None, description="When it is to begin; null, or a time that has passed: now."
    )
    await_event: AwaitedEvent | None = Field(
        None, description="It begins when this event comes, with the event behind its input."
    )
    tools: tuple[ClientTool, ...] = Field(
        (), max_length=64, description="Tools that you answer for; the run waits for the results."
    )


Words = Annotated[str, Field(max_length=2000), NO_NUL]
WaitNumber = Annotated[
    int, Field(ge=1, le=2**31 - 1, description="`waiting_for.wait` of the execution.")
]


class PauseRequest(_Request):
    """Pause a run."""

    reason: Words | None = Field(None, description="Why, for those who look at it later.")


class ToolResult(_Request):
    """What came of a call of one of the caller's tools: an output, or an error."""

    call_id: str = Field(min_length=1, max_length=1000, description="The call's id.")
    output: Any = Field(None, description="Text or JSON for the model.")
    error: Words | None = Field(None, description="What went wrong, for the model to know.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("output" in self.model_fields_set) == (self.error is not None):
            raise PydanticCustomError("one_of", "must have either output or error")
        return self


def _some(results: tuple[ToolResult, ...]) -> tuple[ToolResult, ...]:
    # Not by ``min_length``, which counts the valid ones, and would tell of an error that is none.
    if not results:
        raise PydanticCustomError("too_short", "must hold at least one result")
    return results


ToolResults = Annotated[
    tuple[ToolResult, ...],
    Field(max_length=200, json_schema_extra={"minItems": 1}),
    AfterValidator(_some),
]


class InputRequest(_Request):
    """Answer what a run waits for: its question, or the calls of your tools."""

    input: Any = Field(None, description="The answer to the question.")
    tool_results: ToolResults | None = Field(
        None, description="Results of your tools; the run goes on when all are there."
    )
    wait: WaitNumber | None = Field(
        None, description="The wait that is meant; null: the one that is open."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("input" in self.model_fields_set) == (self.tool_results is not None):
            raise PydanticCustomError("one_of", "must have either input or tool_results")
        return self


class DecisionRequest(_Request):
    """Approve or deny the call that a run waits with."""

    wait: WaitNumber = Field(
        description="`waiting_for.wait` of the execution: so that what you decide on is what you "
        "have seen."
    )
    comment: Words | None = Field(None, description="Why; a denied call's model is told it.")


class ForkRequest(_Request):
    """A new run from a step of an old one; what is null stays as it was."""

    step: int | None = Field(
        None, ge=0, le=2**31 - 1, description="The last step that it keeps; null: all of them."
    )
    input: Any = Field(None, description="Another input.")
    instructions: Annotated[str, Field(max_length=100_000), NO_NUL] | None = Field(
        None, description="Other instructions."
    )
    model: dict[str, Any] | None = Field(
        None, description="Another model, as `config.model` of an agent."
    )


class EventRequest(_Request):
    """Something has happened in the world outside."""

    event_type: EventName = Field(description="What kind of thing, like `invoice.paid`.")
    payload: Any = Field(None, description="What there is to know of it; JSON.")
    user: UUID | None = Field(
        None, description="Only runs that this user started; null: the whole organization's."
    )


class EventDelivered(BaseModel):
    """Whom an event has woken."""

    woken: list[UUID] = Field(description="The executions that waited for it.")


class ExecutionTrigger(BaseModel):
    """What started a run."""

    kind: str = Field(description="`user` is a call of the API; or `retry`, `fork`.")
    id: UUID | None = Field(description="Which one, the run that it goes on from; null for `user`.")


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


class WaitedCall(BaseModel):
    """A call of the model that is waited for."""

    call_id: str = Field(description="The model's id of the call.")
    tool_name: str = Field(description="The tool.")
    arguments: Any = Field(description="What the model calls it with.")


class WaitView(BaseModel):
    """What an open run waits for."""

    wait: int = Field(description="The number of the wait; answers can name it.")
    kind: WaitKind = Field(
        description="`input`: an answer to a question; `tools`: results of your tools; `approval`: "
        "of a call; `event`: an event."
    )
    question: str | None = Field(description="What the agent asks.")
    answer_schema: dict[str, Any] | None = Field(
        description="JSON Schema of the answer; null: any."
    )
    calls: list[WaitedCall] = Field(
        description="The calls without a result, or the one to be approved."
    )
    reason: str | None = Field(description="Why a call needs approval.")
    persons: int | None = Field(description="How many persons must approve.")
    approvals: list[dict[str, Any]] = Field(description="Who has approved so far, and when.")
    event_type: str | None = Field(description="The type of the event.")
    filter: dict[str, Any] = Field(description="What its payload must have.")
    opened_at: datetime = Field(description="Since when it waits.")
    deadline_at: datetime | None = Field(description="Until when it waits; null: for ever.")
    on_deadline: OnDeadline | None = Field(description="What happens then.")


class OriginView(BaseModel):
    """The run that this one goes on from."""

    kind: Literal["retry", "fork"] = Field(description="How it came of it.")
    execution_id: UUID = Field(description="That run.")
    step: int | None = Field(description="The step that it was forked at.")
    cost: str | None = Field(
        description="What that run has cost, in the same currency; null in lists."
    )


class ExecutionView(BaseModel):
    """One execution. Input and output are null for those who may only see that it ran."""

    id: UUID = Field(description="The execution's id.")
    agent_id: UUID = Field(description="The agent that runs.")
    agent_version: str = Field(description="The number of the version that runs.")
    status: Status = Field(description="Its state; the last three of them are ends.")
    waiting_for: WaitView | None = Field(description="What it waits for; null: nothing.")
    pause_reason: str | None = Field(description="Why it was paused, in words of who did.")
    force_killed: bool = Field(description="Whether it was killed.")
    trigger: ExecutionTrigger = Field(description="What started it.")
    origin: OriginView | None = Field(description="The run that it goes on from; null: none.")
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
    scheduled_at: datetime | None = Field(description="When it was to begin; null: at once.")
    started_at: datetime | None = Field(description="When a worker first claimed it.")
    paused_at: datetime | None = Field(description="Since when it is paused.")
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
    hub_url: str = Field(
        description="Where to follow it: GET with `topic` and `token`; "
        "a Mercure hub takes the token as a bearer."
    )
    topic: str = Field(description="What the token is for: `agent/…` or `user/…/agents`.")
