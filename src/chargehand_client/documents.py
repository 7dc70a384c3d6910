"""What the service answers, as JSON has it: times are ISO 8601 texts, money decimal texts.

A newer service may add fields, which are then in the dictionaries too.
"""

from typing import Any, Literal, TypedDict

Visibility = Literal["private", "team", "organization", "public"]
AgentStatus = Literal["draft", "published", "deprecated", "archived"]
Role = Literal["viewer", "member", "admin", "owner"]


class Notice(TypedDict):
    """A violation or a warning: where (RFC 6901), and what."""

    pointer: str
    message: str


class Draft(TypedDict):
    version: str
    changelog: str
    updated_at: str


class AgentSummary(TypedDict):
    """An agent in a list; ``status`` is that of its current ``version``."""

    id: str
    organization_id: str
    owner_id: str
    slug: str
    name: str
    description: str
    visibility: Visibility
    active: bool
    tags: list[str]
    metadata: dict[str, Any]
    status: AgentStatus
    version: str
    provider: str
    model: str
    revision: int
    created_at: str
    updated_at: str
    archived_at: str | None


class Agent(AgentSummary):
    """One agent, with the configuration of its current version and the open draft, if any."""

    config: dict[str, Any]
    draft: Draft | None
    warnings: list[Notice]


class AgentValidation(TypedDict):
    valid: bool
    violations: list[Notice]
    warnings: list[Notice]


class AgentDeletion(TypedDict):
    """``archived`` is what becomes of an agent that has runs: kept, and no longer run."""

    id: str
    slug: str
    outcome: Literal["removed", "archived"]


class VersionSummary(TypedDict):
    id: str
    agent_id: str
    version: str
    status: AgentStatus
    current: bool
    changelog: str
    copied_from: str | None
    created_by: str
    created_at: str
    updated_at: str
    published_at: str | None
    published_by: str | None


class Version(VersionSummary):
    """One version with its configuration."""

    config: dict[str, Any]


class TokenCounts(TypedDict):
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int


class Step(TypedDict):
    seq: int
    kind: Literal["model", "tool"]
    epoch: int
    tool_name: str | None
    provider: str | None
    model: str | None
    attempts: list[dict[str, Any]]
    tool_names: list[str]
    finish_reason: str | None
    usage: TokenCounts
    cost: str
    error: dict[str, Any] | None
    started_at: str
    completed_at: str
    duration_ms: int


class Log(TypedDict):
    id: int
    level: Literal["debug", "info", "warning", "error"]
    event_type: str
    message: str
    context: dict[str, Any]
    at: str


class EventDelivered(TypedDict):
    """The executions that an event has woken."""

    woken: list[str]


class WaitedCall(TypedDict):
    """A call of the model that is waited for."""

    call_id: str
    tool_name: str
    arguments: Any


class Waiting(TypedDict):
    """What an open run waits for; ``wait`` is the number that answers name."""

    wait: int
    kind: Literal["input", "tools", "approval", "event"]
    question: str | None
    answer_schema: dict[str, Any] | None
    calls: list[WaitedCall]
    reason: str | None
    persons: int | None
    approvals: list[dict[str, Any]]
    event_type: str | None
    filter: dict[str, Any]
    opened_at: str
    deadline_at: str | None
    on_deadline: Literal["fail", "continue", "cancel"] | None


class Origin(TypedDict):
    """The run that another goes on from; ``cost`` is that run's, and not told in lists."""

    kind: Literal["retry", "fork"]
    execution_id: str
    step: int | None
    cost: str | None


class Subscription(TypedDict):
    """What a browser needs to listen to ``topic`` at ``hub_url``, for an hour and without a key."""

    token: str
    hub_url: str
    topic: str


class UploadedFile(TypedDict):
    path: str
    size: int
    sha256: str
    mode: Literal["file", "executable"]


class UploadSummary(TypedDict):
    """``size`` is the sum of its files' sizes, in bytes."""

    id: str
    kind: Literal["folder", "file"]
    name: str
    media_type: str
    size: int
    file_count: int
    created_by: str
    created_at: str


class Upload(UploadSummary):
    """``files`` are the first hundred, by path."""

    files: list[UploadedFile]


class Key(TypedDict):
    """A key without its secret."""

    id: str
    public_id: str
    name: str
    scopes: list[str]
    user_id: str
    created_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None
    last_used_at: str | None


class NewKey(Key):
    """A key as it was made; its text, ``key``, is shown only now."""

    key: str


class OrganizationSummary(TypedDict):
    id: str
    slug: str
    name: str


class UserSummary(TypedDict):
    id: str
    email: str
    name: str


class TierLimits(TypedDict):
    name: str
    active_runs: int
    agents: int
    workspace_bytes: int


class KeySummary(TypedDict):
    id: str
    name: str
    expires_at: str


class Me(TypedDict):
    """Who the key's holder is and what the key may do."""

    organization: OrganizationSummary
    user: UserSummary
    role: Role
    scopes: list[str]
    tier: TierLimits
    key: KeySummary


class Member(TypedDict):
    user_id: str
    email: str
    name: str
    role: Role
    joined_at: str


class ModelParameter(TypedDict):
    kind: Literal["number", "integer", "strings", "choice", "object"]
    minimum: float | None
    maximum: float | None
    default: float | None
    choices: list[str]


class ModelPrices(TypedDict):
    """What a million tokens cost today."""

    input_per_million: str
    cache_read_per_million: str
    cache_write_per_million: str
    output_per_million: str
    currency: str
    valid_from: str | None
    source: str


class Model(TypedDict):
    """``prices`` is None where they are unknown."""

    provider: str
    name: str
    context_window: int | None
    max_output_tokens: int | None
    capabilities: list[str]
    parameters: dict[str, ModelParameter]
    prices: ModelPrices | None
    simulated: bool


class ProviderAvailability(TypedDict):
    available: bool
    latency_ms: int
    problem: str | None
    models: list[str]
    more: int
    checked_at: str


class Provider(TypedDict):
    """``remedy`` connects it, where it is not; ``availability`` is what a check found."""

    name: str
    title: str
    connected: bool
    remedy: str | None
    availability: ProviderAvailability | None
