"""What somebody writes with the client that openapi-python-client makes; runs by itself.

Arguments: the API's address and a key. The generated package is ``made_client``.
"""

import importlib
import pkgutil
import sys

import made_client
from made_client import AuthenticatedClient
from made_client.api.agents import create_agent, get_agent, list_agents
from made_client.api.executions import execute_agent, get_execution, list_executions
from made_client.models import AgentCreate, AgentSummaryPage, AgentView, Error, ExecutionView
from made_client.models.execute_request import ExecuteRequest
from made_client.models.execution_view_page import ExecutionViewPage


def import_all() -> int:
    names = [m.name for m in pkgutil.walk_packages(made_client.__path__, "made_client.")]
    for name in names:
        importlib.import_module(name)
    return len(names)


def main(address: str, key: str) -> None:
    assert import_all() > 90
    client = AuthenticatedClient(base_url=address, token=key)
    document = {
        "name": "Made by a machine",
        "config": {"model": {"provider": "simulated", "name": "standard"}},
        "publish": True,
    }
    agent = create_agent.sync(client=client, body=AgentCreate.from_dict(document))
    assert isinstance(agent, AgentView), agent
    assert (agent.slug, agent.version) == ("made-by-a-machine", "1.0.0")
    found = get_agent.sync(agent.slug, client=client)
    assert isinstance(found, AgentView), found
    assert found.config.to_dict() == agent.config.to_dict()
    listed = list_agents.sync(client=client, text="machine")
    assert isinstance(listed, AgentSummaryPage), listed
    assert [one.id for one in listed.items] == [agent.id]
    run = execute_agent.sync(agent.slug, client=client, body=ExecuteRequest(input_="@say Hi."))
    assert isinstance(run, ExecutionView), run
    assert (run.output, run.error) == ("Hi.", None)
    again = get_execution.sync(run.id, client=client)
    assert isinstance(again, ExecutionView), again
    assert again.to_dict() == run.to_dict()
    runs = list_executions.sync(client=client, agent=agent.slug)
    assert isinstance(runs, ExecutionViewPage), runs
    assert [one.id for one in runs.items] == [run.id]
    missing = get_agent.sync("made-by-a-machin", client=client)
    assert isinstance(missing, Error), missing
    assert missing.error.code == "AgentNotFound"
    assert missing.error.details.to_dict() == {"nearest": ["made-by-a-machine"]}


if __name__ == "__main__":
    main(*sys.argv[1:])
