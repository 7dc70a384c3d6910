"""Agents on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from chargehand.agents import slugs
from chargehand.agents.access import Visibility
from chargehand.agents.configuration import AgentConfig, stored_config
from chargehand.agents.tables import Agent, AgentVersion, Status
from chargehand.agents.version_numbers import PATTERN, Part
from chargehand.kernel.errors import Violation
from chargehand.web import texts
from chargehand.web.texts import Form


def _not_an_id(slug: str) -> str:
    if slugs.is_id(slug):
        raise PydanticCustomError("form", "must not look like an id: nobody could ask for it")
    return slug


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


_SLUG = Form(slugs.PATTERN, "must be small letters and digits, with single hyphens between them")
_NUMBER = Form(PATTERN, "must be three numbers without leading zeros, like 1.1.0")

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Code review"]), texts.ONE_LINE]
Slug = Annotated[
    str,
    Field(max_length=slugs.LONGEST, examples=["code-review"]),
    _SLUG,
    AfterValidator(_not_an_id),
]
Description = Annotated[str, Field(max_length=2000)]
Tag = Annotated[str, Field(min_length=1, max_length=50), texts.ONE_LINE]
Tags = Annotated[list[Tag], Field(max_length=32), AfterValidator(_distinct)]
Changelog = Annotated[str, Field(max_length=10_000)]
FullNumber = Annotated[str, Field(examples=["1.1.0"]), _NUMBER]

Chosen = Annotated[
    Visibility, WithJsonSchema({"type": "string", "enum": ["private", "organization", "public"]})
]
"""Of these; there are no teams to choose yet."""

_NAME = "What people call it; unique in the organization."
_IN_PATHS = "What stands for it in paths, beside its id; unique in the organization."
_PURPOSE = "What it is for."
_SHOWN_TO = (
    "Who may read it and run it: its owner, the organization, or every organization. Admins may "
    "always."
)
_TAGS = "Words to find it by; duplicates are dropped."
_METADATA = "Whatever you want to keep with it."

Value = TypeVar("Value")


class _Given:
    """What may be left out, and is not null where it is given: None stands for left out."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        nullable = handler(source)
        assert nullable["type"] == "nullable"
        return nullable["schema"]


Given = Annotated[Value | None, _Given()]


def _without_defaults(schema: dict[str, Any]) -> None:
    """Of a shape whose fields are ``Given``: their default stands for nothing that can be sent."""
    for field in schema["properties"].values():
        del field["default"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AgentCreate(_Body):
    """A new agent. Without a slug one is made of the name."""

    name: Name = Field(description=_NAME)
    slug: Slug | None = Field(default=None, description=_IN_PATHS)
    description: Description = Field(default="", description=_PURPOSE)
    visibility: Chosen = Field(default="private", description=_SHOWN_TO)
    tags: Tags = Field(default=[], description=_TAGS)
    metadata: dict[str, Any] = Field(default={}, description=_METADATA)
    config: AgentConfig = Field(description="The configuration of its first version.")
    changelog: Changelog = Field(default="", description="Of that version.")
    publish: bool = Field(default=False, description="Publish version 1.0.0 at once.")


class AgentPatch(_Body):
    """A change; what is left out stays.

    ``config`` replaces the whole configuration, in the open draft. Where there is none, a draft is
    opened, with the next patch number unless ``bump`` or ``version`` says otherwise.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    name: Given[Name] = Field(default=None, description=_NAME)
    description: Given[Description] = Field(default=None, description=_PURPOSE)
    visibility: Given[Chosen] = Field(default=None, description=_SHOWN_TO)
    tags: Given[Tags] = Field(default=None, description=_TAGS)
    metadata: Given[dict[str, Any]] = Field(default=None, description=_METADATA)
    config: Given[AgentConfig] = Field(default=None, description="The draft's, as a whole.")
    changelog: Given[Changelog] = Field(default=None, description="Of the draft.")
    bump: Given[Part] = Field(
        default=None, description="The draft's number, from the highest there is."
    )
    version: Given[FullNumber] = Field(default=None, description="The draft's number, in full.")


class AgentPublish(_Body):
    """Publish the open draft, which must be ``version`` if that is given."""

    version: FullNumber | None = Field(
        default=None, description="The number that the draft must have."
    )
    changelog: Changelog | None = Field(
        default=None, description="Replaces the draft's; null leaves it."
    )


class Notice(BaseModel):
    """A violation or a warning: where (RFC 6901), and what."""

    pointer: str = Field(description="Where: an RFC 6901 pointer into the document.")
    message: str = Field(description="What is wrong there, or worth knowing.")

    @classmethod
    def of(cls, violation: Violation) -> "Notice":
        return cls(pointer=violation.pointer, message=violation.message)


class AgentValidation(BaseModel):
    """What ``POST /agents`` would say."""

    valid: bool = Field(description="Whether it would be created.")
    violations: list[Notice] = Field(description="All that would refuse it.")
    warnings: list[Notice] = Field(description="What would not, and may be a mistake.")


class Draft(BaseModel):
    """The version that is being worked on."""

    version: str = Field(description="The number that it will have.")
    changelog: str = Field(description="What is new in it.")
    updated_at: datetime = Field(description="Its last change.")


class AgentSummary(BaseModel):
    """An agent in a list; ``status`` is that of its current ``version``."""

    id: UUID = Field(description="Its id.")
    organization_id: UUID = Field(description="The organization that it belongs to.")
    owner_id: UUID = Field(description="The user who owns it.")
    slug: str = Field(description=_IN_PATHS)
    name: str = Field(description=_NAME)
    description: str = Field(description=_PURPOSE)
    visibility: Visibility = Field(description=_SHOWN_TO)
    active: bool = Field(description="False while it refuses new runs.")
    tags: list[str] = Field(description=_TAGS)
    metadata: dict[str, Any] = Field(description=_METADATA)
    status: Status = Field(description="The state of its current version.")
    version: str = Field(description="The number of its current version.")
    provider: str = Field(description="The provider of its model.")
    model: str = Field(description="Its model, as the provider names it.")
    revision: int = Field(description="Counts its changes; the ETag is made of it.")
    created_at: datetime = Field(description="When it was created.")
    updated_at: datetime = Field(description="When it was last changed.")
    archived_at: datetime | None = Field(description="When it was archived; null: it is not.")


class AgentView(AgentSummary):
    """One agent, with the configuration of its current version and the open draft, if any."""

    config: AgentConfig = Field(description="The configuration of its current version.")
    draft: Draft | None = Field(description="The version that is being worked on; null: none is.")
    warnings: list[Notice] = Field(description="What may be a mistake in what was sent.")


class AgentDeletion(BaseModel):
    """``archived`` is what becomes of an agent that has runs: kept, and no longer run."""

    id: UUID = Field(description="The agent's id.")
    slug: str = Field(description="The agent's slug.")
    outcome: Literal["removed", "archived"] = Field(description="What became of it.")


class VersionSummary(BaseModel):
    """A version in a list."""

    id: UUID = Field(description="The version's id.")
    agent_id: UUID = Field(description="The agent that it is a version of.")
    version: str = Field(description="Its number, like `1.1.0`.")
    status: Status = Field(description="Its state.")
    current: bool = Field(description="Whether runs take it unless they name another.")
    changelog: str = Field(description="What is new in it.")
    copied_from: UUID | None = Field(description="The version that it is a copy of; null: of none.")
    created_by: UUID = Field(description="The user who opened it.")
    created_at: datetime = Field(description="When it was opened.")
    updated_at: datetime = Field(description="When it was last changed.")
    published_at: datetime | None = Field(description="When it was published; null: it is not.")
    published_by: UUID | None = Field(description="The user who published it.")


class VersionView(VersionSummary):
    """One version with its configuration."""

    config: AgentConfig = Field(description="What the agent does in this version.")


def summary_of(agent: Agent) -> AgentSummary:
    return AgentSummary.model_validate(_summary(agent))


def view_of(agent: Agent, warnings: tuple[Violation, ...] = ()) -> AgentView:
    return AgentView.model_validate(
        {
            **_summary(agent),
            "config": config_of(agent.current),
            "draft": None if agent.draft is None else _draft(agent.draft),
            "warnings": [Notice.of(warning) for warning in warnings],
        }
    )


def version_summary_of(agent: Agent, version: AgentVersion) -> VersionSummary:
    return VersionSummary.model_validate(_version(agent, version))


def version_view_of(agent: Agent, version: AgentVersion) -> VersionView:
    return VersionView.model_validate({**_version(agent, version), "config": config_of(version)})


def config_of(version: AgentVersion) -> AgentConfig:
    return stored_config(orjson.dumps(version.config))


_AGENT_FIELDS = AgentSummary.model_fields.keys() - {
    "metadata",
    "status",
    "version",
    "provider",
    "model",
}
_VERSION_FIELDS = VersionSummary.model_fields.keys() - {"version", "current"}


def _summary(agent: Agent) -> dict[str, Any]:
    model = agent.current.config["model"]
    return {
        **{name: getattr(agent, name) for name in _AGENT_FIELDS},
        "metadata": agent.metadata_,
        "status": agent.current.status,
        "version": str(agent.current.number),
        "provider": model["provider"],
        "model": model["name"],
    }


def _draft(version: AgentVersion) -> Draft:
    return Draft(
        version=str(version.number), changelog=version.changelog, updated_at=version.updated_at
    )


def _version(agent: Agent, version: AgentVersion) -> dict[str, Any]:
    return {
        **{name: getattr(version, name) for name in _VERSION_FIELDS},
        "version": str(version.number),
        "current": version.id == agent.current_version_id,
    }
