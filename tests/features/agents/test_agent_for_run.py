"""Which version a run gets, and why it gets none."""

from typing import Any

import pytest
from tests.factories.agents import NOTHING_CONNECTED, config_document, make_agent
from tests.factories.tenancy import make_caller, make_organization

from chargehand.agents import operations
from chargehand.agents.access import AgentAccessDenied, VisibilityViolation
from chargehand.agents.installed import AVAILABLE, Installed
from chargehand.agents.lookup import AgentNotFound
from chargehand.agents.runnable import AgentNotExecutable, RunnableVersion, resolve_for_run
from chargehand.agents.schemas import AgentPatch, AgentPublish
from chargehand.agents.tables import Agent
from chargehand.agents.validation import InvalidAgentConfig, parse
from chargehand.agents.versions import VersionNotFound
from chargehand.kernel.database import Database
from chargehand.tenancy.caller import Caller


async def resolve(database: Database, caller: Caller, ref: Any, **options: Any) -> RunnableVersion:
    async with database.hot(caller.organization_id) as connection:
        return await resolve_for_run(connection, caller, str(ref), **options)


async def edit(database: Database, caller: Caller, slug: str, instructions: str) -> Agent:
    document = {"config": config_document(instructions=instructions)}
    patch, _ = parse(AgentPatch, document, installed=NOTHING_CONNECTED)
    async with database.transaction(caller.organization_id) as session:
        return await operations.update(session, caller, slug, patch, None)


async def publish(database: Database, caller: Caller, slug: str) -> Agent:
    async with database.transaction(caller.organization_id) as session:
        return await operations.publish(
            session, caller, slug, AgentPublish(), None, installed=NOTHING_CONNECTED
        )


async def set_status(database: Database, agent: Agent, number: str, status: str) -> None:
    async with database.hot(agent.organization_id) as connection:
        await connection.execute(
            "update agent_versions set status = $3 "
            "where agent_id = $1 and concat_ws('.', major, minor, patch) = $2",
            agent.id,
            number,
            status,
        )


async def test_the_current_version_an_older_one_and_the_draft(database: Database) -> None:
    caller, _ = await make_caller(database)
    agent = await make_agent(database, caller, {"instructions": "one"}, slug="x", publish=True)
    await edit(database, caller, "x", "two")
    current = await resolve(database, caller, "x")
    assert (current.number, current.config.instructions) == ("1.0.0", "one")
    assert (current.agent_id, current.agent_slug, current.version_id, current.warnings) == (
        agent.id,
        "x",
        agent.current_version_id,
        (),
    )
    draft = await resolve(database, caller, agent.id, draft=True)
    assert (draft.number, draft.config.instructions) == ("1.0.1", "two")
    await edit(database, caller, "x", "three")
    assert (await resolve(database, caller, "x", draft=True)).config.instructions == "three"
    await publish(database, caller, "x")
    assert (await resolve(database, caller, "x")).config.instructions == "three"
    old = await resolve(database, caller, "x", version="1.0.0")
    assert (old.number, old.config.instructions) == ("1.0.0", "one")


async def test_equal_configurations_are_parsed_once(database: Database) -> None:
    caller, _ = await make_caller(database)
    await make_agent(database, caller, slug="x", publish=True)
    first = await resolve(database, caller, "x")
    assert (await resolve(database, caller, "x")).config is first.config


async def test_what_does_not_run(database: Database) -> None:
    caller, _ = await make_caller(database)
    agent = await make_agent(database, caller, slug="x")
    with pytest.raises(AgentNotExecutable, match=r"draft.*/agents/x/publish.*/agents/x/test"):
        await resolve(database, caller, "x")
    assert (await resolve(database, caller, "x", draft=True)).number == "1.0.0"
    await publish(database, caller, "x")
    with pytest.raises(AgentNotExecutable, match="no draft to test"):
        await resolve(database, caller, "x", draft=True)
    for version in ("2.0.0", "1.0", "newest", ""):
        with pytest.raises(VersionNotFound) as raised:
            await resolve(database, caller, "x", version=version)
        assert raised.value.details["versions"] == ["1.0.0"]
    async with database.transaction(caller.organization_id) as session:
        await operations.set_active(session, caller, "x", False, None)
    with pytest.raises(AgentNotExecutable, match="/agents/x/activate"):
        await resolve(database, caller, "x")
    async with database.hot(caller.organization_id) as connection:
        await connection.execute("update agents set archived_at = now() where id = $1", agent.id)
    with pytest.raises(AgentNotExecutable, match="is archived"):
        await resolve(database, caller, "x")


async def test_deprecated_versions_warn_and_archived_ones_do_not_run(database: Database) -> None:
    caller, _ = await make_caller(database)
    agent = await make_agent(database, caller, slug="x", publish=True)
    await edit(database, caller, "x", "two")
    await publish(database, caller, "x")
    await set_status(database, agent, "1.0.0", "deprecated")
    found = await resolve(database, caller, "x", version="1.0.0")
    assert "1.0.0 of x is deprecated" in found.warnings[0]
    assert (await resolve(database, caller, "x")).warnings == ()
    await set_status(database, agent, "1.0.0", "archived")
    with pytest.raises(AgentNotExecutable, match=r"1\.0\.0 of x is archived"):
        await resolve(database, caller, "x", version="1.0.0")


async def test_who_may_run(database: Database) -> None:
    organization = await make_organization(database)
    owner, _ = await make_caller(database, organization=organization)
    member, _ = await make_caller(database, "member", organization=organization)
    viewer, _ = await make_caller(database, "viewer", organization=organization)
    await make_agent(database, owner, slug="mine", publish=True)
    ours = await make_agent(database, owner, slug="ours", visibility="organization", publish=True)
    with pytest.raises(VisibilityViolation):
        await resolve(database, member, "mine")
    assert (await resolve(database, member, "ours")).agent_id == ours.id
    with pytest.raises(AgentAccessDenied):
        await resolve(database, member, "ours", draft=True)
    with pytest.raises(AgentAccessDenied):
        await resolve(database, viewer, "ours")
    with pytest.raises(AgentNotFound) as raised:
        await resolve(database, member, "our")
    assert raised.value.details["nearest"] == ["ours"]
    with pytest.raises(AgentNotFound) as raised:
        await resolve(database, member, "min")
    assert raised.value.details["nearest"] == []
    with pytest.raises(AgentNotFound):
        await resolve(database, member, "a\0b")


async def test_public_agents_run_in_other_organizations_by_id(database: Database) -> None:
    owner, _ = await make_caller(database)
    stranger, _ = await make_caller(database, "member")
    public = await make_agent(
        database, owner, {"instructions": "one"}, slug="p", visibility="public", publish=True
    )
    await edit(database, owner, "p", "two")
    private = await make_agent(database, owner, publish=True)
    unready = await make_agent(database, owner, visibility="public")
    found = await resolve(database, stranger, public.id)
    assert (found.organization_id, found.config.instructions) == (owner.organization_id, "one")
    for ref in ("p", private.id, unready.id):
        with pytest.raises(AgentNotFound):
            await resolve(database, stranger, ref)
    with pytest.raises(AgentAccessDenied):
        await resolve(database, stranger, public.id, draft=True)
    with pytest.raises(VersionNotFound):
        await resolve(database, stranger, public.id, version="1.0.1")


async def test_publishing_checks_again_what_the_draft_needs(database: Database) -> None:
    caller, _ = await make_caller(database)
    await make_agent(database, caller, {"capabilities": {"todo": {}}}, slug="x")
    async with database.transaction(caller.organization_id) as session:
        with pytest.raises(InvalidAgentConfig, match="/capabilities/todo"):
            await operations.publish(
                session, caller, "x", AgentPublish(), None, installed=Installed({}, frozenset())
            )


async def test_publishing_checks_again_that_the_provider_is_connected(database: Database) -> None:
    caller, _ = await make_caller(database)
    connected = Installed(AVAILABLE, frozenset({"openai"}))
    model = {"provider": "openai", "name": "gpt-4o"}
    await make_agent(database, caller, {"model": model}, installed=connected, slug="x")
    async with database.transaction(caller.organization_id) as session:
        with pytest.raises(InvalidAgentConfig, match="not connected: set OPENAI_API_KEY"):
            await operations.publish(
                session, caller, "x", AgentPublish(), None, installed=NOTHING_CONNECTED
            )
        agent = await operations.publish(
            session, caller, "x", AgentPublish(), None, installed=connected
        )
        assert agent.current.status == "published"
