"""What may be given to the methods of both clients."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

from chargehand_client.documents import AgentStatus, Visibility
from chargehand_client.executions import Status


class RunOptions(TypedDict, total=False):
    """What a run may be given beside its input.

    ``workspace`` is a folder whose files the run begins with; ``version`` one of the agent's
    versions, as in ``1.2.0``; with ``draft`` the agent's draft is run, as a test. Two starts with
    one ``idempotency_key`` are one run; without it each start has a key of its own, so that a
    repeated request never runs twice. ``run_at`` is when it is to begin; ``await_event`` the event
    that it begins with (``event_type``, ``filter``, ``deadline_s``, ``on_deadline``); ``tools``
    are those that you answer for (``name``, ``description``, ``parameters``).
    """

    workspace: Path | str | None
    variables: Mapping[str, Any] | None
    version: str | None
    metadata: Mapping[str, Any] | None
    end_user: str | None
    run_at: datetime | None
    await_event: Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    idempotency_key: str | None
    draft: bool


class ForkChanges(TypedDict, total=False):
    """What a fork changes, and the last ``step`` that it keeps; without one, all of them."""

    step: int
    input: Any
    instructions: str
    model: Mapping[str, Any]


class AgentFields(TypedDict, total=False):
    """What an agent may be given beside its name and configuration."""

    slug: str | None
    description: str
    visibility: Visibility
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    changelog: str


class AgentChanges(TypedDict, total=False):
    """A change of an agent; what is left out stays.

    ``config`` replaces the whole configuration, in the open draft. Where there is none, a draft is
    opened, with the next patch number unless ``bump`` or ``version`` says otherwise.
    """

    name: str
    description: str
    visibility: Visibility
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    config: Mapping[str, Any]
    changelog: str
    bump: Literal["major", "minor", "patch"]
    version: str


class AgentFilters(TypedDict, total=False):
    """``owner`` is a user's id; ``text`` is found in slug, name or description; ``shared`` adds
    the public agents of other organizations."""

    status: AgentStatus | None
    visibility: Visibility | None
    tag: str | None
    owner: str | None
    provider: str | None
    model: str | None
    text: str | None
    active: bool | None
    shared: bool


class ExecutionFilters(TypedDict, total=False):
    """``agent`` is an id or slug, ``user`` the id of who started it; times are aware: at
    ``created_after`` or later, before ``created_before``."""

    status: Status | None
    agent: str | None
    user: str | None
    end_user: str | None
    error_code: str | None
    is_test: bool | None
    created_after: datetime | None
    created_before: datetime | None


class ModelFilters(TypedDict, total=False):
    """``text`` is sought in ``provider:name``; a ``capability`` is for example ``tools``."""

    provider: str | None
    text: str | None
    capability: str | None
