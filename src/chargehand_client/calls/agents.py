"""Agents and their versions. Pure."""

from collections.abc import Mapping
from typing import Any

from chargehand_client.documents import (
    Agent,
    AgentDeletion,
    AgentSummary,
    AgentValidation,
    Version,
    VersionSummary,
)
from chargehand_client.options import AgentChanges, AgentFields, AgentFilters
from chargehand_client.requests import Call, Listing, changing, delete, get, given_of, pages, post


def listed(filters: AgentFilters) -> Listing[AgentSummary]:
    return pages("agents", parameters=filters)


def one(agent: str) -> Call[Agent]:
    return get("agents", agent)


def create(name: str, config: Mapping[str, Any], publish: bool, fields: AgentFields) -> Call[Agent]:
    return post("agents", body=_document(name, config, fields) | {"publish": publish})


def validate(name: str, config: Mapping[str, Any], fields: AgentFields) -> Call[AgentValidation]:
    return post("agents", "validate", body=_document(name, config, fields), repeatable=True)


def update(agent: str, revision: int | None, changes: AgentChanges) -> Call[Agent]:
    return changing("PATCH", "agents", agent, body=given_of(changes), revision=revision)


def publish(
    agent: str, version: str | None, changelog: str | None, revision: int | None
) -> Call[Agent]:
    body = given_of({"version": version, "changelog": changelog})
    return post("agents", agent, "publish", body=body, revision=revision)


def activate(agent: str, active: bool, revision: int | None) -> Call[Agent]:
    path = ("agents", agent, "activate" if active else "deactivate")
    # A second one changes nothing; but the first may have made the revision another.
    return post(*path, body={}, repeatable=revision is None, revision=revision)


def remove(agent: str, purge: bool, revision: int | None) -> Call[AgentDeletion]:
    parameters = {"purge": True} if purge else {}
    return delete("agents", agent, parameters=parameters, revision=revision)


def versions(agent: str) -> Listing[VersionSummary]:
    return pages("agents", agent, "versions")


def version(agent: str, number: str) -> Call[Version]:
    return get("agents", agent, "versions", number)


def _document(name: str, config: Mapping[str, Any], fields: AgentFields) -> dict[str, Any]:
    return {"name": name, "config": config, **given_of(fields)}
