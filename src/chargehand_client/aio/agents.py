"""Agents and their versions."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Unpack

from chargehand_client.aio.connection import AsyncConnection
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


class AsyncAgents(AsyncConnection):
    def agents(self, **filters: Unpack[AgentFilters]) -> AsyncIterator[AgentSummary]:
        """The agents that the key may read, newest first; see AgentFilters."""
        return self._list(calls.listed(filters))

    async def agent(self, agent: str) -> Agent:
        """One agent, by id or slug. Raises AgentNotFound."""
        return await self._call(calls.one(agent))

    async def create_agent(
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
        return await self._call(calls.create(name, config, publish, fields))

    async def validate_agent(
        self, name: str, config: Mapping[str, Any], **fields: Unpack[AgentFields]
    ) -> AgentValidation:
        """Say what creating this agent would say, and save nothing."""
        return await self._call(calls.validate(name, config, fields))

    async def update_agent(
        self, agent: str, *, revision: int | None = None, **changes: Unpack[AgentChanges]
    ) -> Agent:
        """Change an agent; a new configuration goes to its draft; see AgentChanges.

        Raises AgentNotFound, InvalidAgentConfig, VersionConflict, AgentArchived, and
        PreconditionFailed where ``revision`` is given and is not the agent's any more.
        """
        return await self._call(calls.update(agent, revision, changes))

    async def publish_agent(
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
        return await self._call(calls.publish(agent, version, changelog, revision))

    async def activate_agent(self, agent: str, *, revision: int | None = None) -> Agent:
        """Let a deactivated agent run again. Raises AgentNotFound, PreconditionFailed."""
        return await self._call(calls.activate(agent, True, revision))

    async def deactivate_agent(self, agent: str, *, revision: int | None = None) -> Agent:
        """Let an agent refuse new runs. Raises AgentNotFound, PreconditionFailed."""
        return await self._call(calls.activate(agent, False, revision))

    async def delete_agent(
        self, agent: str, *, purge: bool = False, revision: int | None = None
    ) -> AgentDeletion:
        """Delete an agent; one that has runs is archived, unless an admin purges it.

        Raises AgentNotFound, InsufficientPermissions, PreconditionFailed.
        """
        return await self._call(calls.remove(agent, purge, revision))

    def agent_versions(self, agent: str) -> AsyncIterator[VersionSummary]:
        """The versions of an agent, newest first. Raises AgentNotFound."""
        return self._list(calls.versions(agent))

    async def agent_version(self, agent: str, number: str) -> Version:
        """One version, by its full number. Raises AgentNotFound, VersionNotFound."""
        return await self._call(calls.version(agent, number))
