"""Agents: documents of them, and real ones."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from tests.factories.tenancy import make_app

from chargehand.agents import operations, routes
from chargehand.agents.installed import AVAILABLE, Installed
from chargehand.agents.schemas import AgentCreate
from chargehand.agents.tables import Agent
from chargehand.agents.validation import parse
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import new_id
from chargehand.tenancy.caller import Caller

NOTHING_CONNECTED = Installed(AVAILABLE, frozenset())
"""An installation with the built-in capabilities, and with no provider but the simulated one."""


def config_document(**overrides: Any) -> dict[str, Any]:
    """A valid configuration of the simulated model."""
    return {"model": {"provider": "simulated", "name": "standard"}, **overrides}


def agent_document(config: Mapping[str, Any] | None = None, **overrides: Any) -> dict[str, Any]:
    """A body for POST /agents, with a name of its own."""
    return {"name": f"Agent {new_id()}", "config": config_document(**(config or {})), **overrides}


async def make_agent(
    database: Database,
    caller: Caller,
    config: Mapping[str, Any] | None = None,
    *,
    installed: Installed = NOTHING_CONNECTED,
    **overrides: Any,
) -> Agent:
    """An agent of the caller's, in a transaction of its own."""
    wanted, _ = parse(AgentCreate, agent_document(config, **overrides), installed=installed)
    async with database.transaction(caller.organization_id) as session:
        return await operations.create(session, caller, wanted, installed=installed)


def make_agents_app(database: Database, installed: Installed = NOTHING_CONNECTED) -> FastAPI:
    """An application of the agents' routes."""
    app = make_app(database, routes.router)
    app.state.installed = installed
    return app
