"""Agents and their versions."""

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from chargehand_client.calls import agents as calls
from chargehand_client.documents import (
    Agent,
    AgentDeletion,
    AgentSummary,
    AgentValidation,
    Version,
    VersionSummary,
)
from chargehand_client.options import AgentChanges, AgentFields, AgentFilters
from chargehand_client.sync.connection import Connection


class Agents(Connection):
    def agents(self, **filters: Unpack[AgentFilters]) -> Iterator[AgentSummary]:
        """The agents that the key may read, newest first; see AgentFilters."""
        return self._list(calls.listed(filters))

    def agent(self, agent: str) -> Agent:
        """One agent, by id or slug. Raises AgentNotFound."""
        return self._call(calls.one(agent))

    def create_agent(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        publish: bool = True,
        **fields: Unpack[AgentFields],
    ) -> Agent:
        """Create an agent: published at once, or as a draft; see AgentFields.

        Raises InvalidAgentConfig, DuplicateAgentName, DuplicateAgentSlug,
        OrganizationLimitExceeded.
        """
        return self._call(calls.create(name, config, publish, fields))

    def validate_agent(
        self, name: str, config: Mapping[str, Any], **fields: Unpack[AgentFields]
    ) -> AgentValidation:
        """Say what creating this agent would say, and save nothing."""
        return self._call(calls.validate(name, config, fields))

    def update_agent(
        self, agent: str, *, revision: int | None = None, **changes: Unpack[AgentChanges]
    ) -> Agent:
        """Change an agent; a new configuration goes to its draft; see AgentChanges.

        Raises AgentNotFound, InvalidAgentConfig, VersionConflict, AgentArchived, and
        PreconditionFailed where ``revision`` is given and is not the agent's any more.
        """
        return self._call(calls.update(agent, revision, changes))

    def publish_agent(
        self,
        agent: str,
        *,
        version: str | None = None,
        changelog: str | None = None,
        revision: int | None = None,
    ) -> Agent:
        """Publish the draft, which must be ``version`` if that is given.

        Raises AgentNotFound, VersionConflict, InvalidAgentConfig, PreconditionFailed.
        """
        return self._call(calls.publish(agent, version, changelog, revision))

    def activate_agent(self, agent: str, *, revision: int | None = None) -> Agent:
        """Let a deactivated agent run again. Raises AgentNotFound, PreconditionFailed."""
        return self._call(calls.activate(agent, True, revision))

    def deactivate_agent(self, agent: str, *, revision: int | None = None) -> Agent:
        """Let an agent refuse new runs. Raises AgentNotFound, PreconditionFailed."""
        return self._call(calls.activate(agent, False, revision))

    def delete_agent(
        self, agent: str, *, purge: bool = False, revision: int | None = None
    ) -> AgentDeletion:
        """Delete an agent; one that has runs is archived, unless an admin purges it.

        Raises AgentNotFound, InsufficientPermissions, PreconditionFailed.
        """
        return self._call(calls.remove(agent, purge, revision))

    def agent_versions(self, agent: str) -> Iterator[VersionSummary]:
        """The versions of an agent, newest first. Raises AgentNotFound."""
        return self._list(calls.versions(agent))

    def agent_version(self, agent: str, number: str) -> Version:
        """One version, by its full number. Raises AgentNotFound, VersionNotFound."""
        return self._call(calls.version(agent, number))
