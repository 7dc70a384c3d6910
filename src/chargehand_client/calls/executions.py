"""Executions as they stand. Pure."""

from chargehand_client.documents import Log, Step, Subscription
from chargehand_client.executions import Execution
from chargehand_client.options import ExecutionFilters
from chargehand_client.requests import Call, Listing, get, pages, positions, post


def listed(filters: ExecutionFilters) -> Listing[Execution]:
    found = pages("executions", parameters=filters)
    return Listing(found.first, found.items, found.behind, Execution.of)


def one(execution_id: str) -> Call[Execution]:
    return Call(get("executions", execution_id).request, Execution.of)


def steps(execution_id: str) -> Listing[Step]:
    return positions("executions", execution_id, "steps", after="after_seq", last="seq")


def logs(execution_id: str) -> Listing[Log]:
    return positions("executions", execution_id, "logs", after="after_id", last="id")


def cancel(execution_id: str) -> Call[Execution]:
    path = ("executions", execution_id, "cancel")
    return Call(post(*path, body={}, repeatable=True).request, Execution.of)


def subscription_token(execution_id: str | None) -> Call[Subscription]:
    subject = () if execution_id is None else ("executions", execution_id)
    return post(*subject, "subscription-token", body={}, repeatable=True)
