"""Runs steered, answered and begun anew. Pure."""

from typing import Any

from chargehand_client.documents import EventDelivered
from chargehand_client.executions import Execution
from chargehand_client.options import ForkChanges
from chargehand_client.outgoing import encoded, keyed, path_of
from chargehand_client.requests import Call, Request, given_of, post


def told(execution_id: str, verb: str, **body: Any) -> Call[Execution]:
    """What is said twice is refused the second time, so it is not sent again by itself."""
    path = ("executions", execution_id, verb)
    return Call(post(*path, body=given_of(body)).request, Execution.of)


def answered(execution_id: str, answer: Any, wait: int | None) -> Call[Execution]:
    body = {"input": answer, **given_of({"wait": wait})}
    return Call(post("executions", execution_id, "input", body=body).request, Execution.of)


def begun(
    execution_id: str, verb: str, idempotency_key: str | None, changes: ForkChanges
) -> Call[Execution]:
    request = Request(
        method="POST",
        path=path_of("executions", execution_id, verb),
        headers={"Content-Type": "application/json", **keyed(idempotency_key)},
        content=encoded(dict(changes)),
        repeatable=True,
    )
    return Call(request, Execution.of)


def event(event_type: str, payload: Any, user: str | None) -> Call[EventDelivered]:
    body = {"event_type": event_type, "payload": payload, **given_of({"user": user})}
    return post("events", body=body)
