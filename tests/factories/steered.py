"""Runs brought into each state, through the API, for what is done to them there."""

from typing import Any

from tests.factories.executions import Service
from tests.factories.tenancy import make_caller

from chargehand.tenancy.tables import Organization


async def colleague_key(service: Service, role: str) -> str:
    """A key of another user of the service's organization."""
    async with service.database.transaction(service.caller.organization_id) as session:
        organization = await session.get(Organization, service.caller.organization_id)
    _, key = await make_caller(service.database, role=role, organization=organization)  # pyright: ignore[reportArgumentType]
    return key


ASKS = '@call ask_user {"question": "How many?", "answer_schema": {"type": "integer"}}'
AWAITS = '@call await_event {"event_type": "invoice.paid", "filter": {"number": 7}}'
CAPABILITIES: dict[str, Any] = {"ask_user": {}, "await_event": {}, "todo": {}, "metadata": {}}


async def asking_agent(service: Service, **config: Any) -> str:
    return await service.agent(**{"capabilities": CAPABILITIES, **config})


async def begin(service: Service, agent: str, script: Any, **body: Any) -> str:
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": script, "mode": "async", **body}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def tell(service: Service, execution: str, verb: str, **body: Any) -> Any:
    """The answer to a steering call."""
    return await service.client.post(
        f"/api/v1/executions/{execution}/{verb}",
        **({"json": body} if verb not in BARE else {}),
    )


BARE = ("resume", "cancel", "kill", "retry")


async def told(service: Service, execution: str, verb: str, **body: Any) -> dict[str, Any]:
    answer = await tell(service, execution, verb, **body)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


async def run_in(service: Service, agent: str, state: str) -> str:
    """A run of ``asking_agent`` in this state, with a worker at work; see ``STATES``."""
    script, then = STATES[state]
    execution = await begin(service, agent, script)
    await service.until(execution, then[0])
    for verb in then[1:]:
        await told(service, execution, verb)
    await service.until(execution, state)
    return execution


STATES: dict[str, tuple[str, list[str]]] = {
    "running": ("@delay 30s", ["running"]),
    "awaiting_input": (ASKS, ["awaiting_input"]),
    "awaiting_event": (AWAITS, ["awaiting_event"]),
    "paused": (ASKS, ["awaiting_input", "pause"]),
    "completed": ("@say Hi.", ["completed"]),
    "failed": ("@fail 400", ["failed"]),
    "cancelled": (ASKS, ["awaiting_input", "cancel"]),
}
