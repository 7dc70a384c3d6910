"""What Schemathesis is told about this service; it runs in a process of its own.

Ids: the document's examples name things that are not there, so that the real ones are put in their
places. Failures: some rules cannot be said in a schema, and what breaks only those is refused
rightly; each such rule is named here.
"""

import json
import os
import re
from typing import Any

import schemathesis
from tests.factories.conformance import INTERNALS

NOBODY = "01890000-0000-7000-8000-000000000000"
REAL: dict[str, str] = json.loads(os.environ["FUZZING_IDS"])
"""Ids that are there, by those of the document's examples."""

OWN_KEY = os.environ["FUZZING_KEY_ID"]

CODES = {"BadArchive", "PreconditionFailed", "IdempotencyKeyReused", "PayloadTooLarge"}
"""Refusals of a request that fits its schema: they depend on what is there, or on bytes."""

PLACES = re.compile(
    r"/query/(cursor|provider|name|topic|created_after|created_before)"
    # What this installation has, which models can do what, and whether a schema is one.
    r"|/config/(model|fallback_models|capabilities|input_schema|output_schema)(/.*)?"
    r"|/config/limits/cost_usd"
    # The same of a fork; and which tools the agent has, and whether a schema is one.
    r"|/(model|instructions|step)(/.*)?"
    r"|/tool_results/\d+/call_id|/config/approvals/.*|/approvals/.*|/tools/\d+/(name|parameters(/.*)?)"
    # Not in this version.
    r"|/config/(prompt/name|default_variables|response_cache/enabled|guardrails|pii_mode"
    r"|context_budget_tokens|trigger/mode|trigger/settings)"
    # About a draft that is not open, or both at once.
    r"|/(changelog|bump|version)"
    # Of the agent's own input schema, or blocks.
    r"|/input(/.*)?"
    # An event's id is of one topic: which, only the query says.
    r"|/header/Last-Event-ID"
    # An unknown scope is told with the nearest one.
    r"|/scopes/\d+",
    re.DOTALL,
)
MESSAGES = re.compile(
    r"an integer beyond 64 bits|not a finite number|(holds|has a key with) (a NUL|text that is not)"
    r"|nested deeper than|larger than \d+ kB|has [\d,]+ bytes of at most"
    # One of two fields, and not both.
    r"|must have either"
    # To JSON Schema 7.0 is an integer; an agent's document is stricter.
    r"|should be a valid integer"
)
"""Of any part of a document: what neither PostgreSQL nor every peer can hold."""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    parameters = case.path_parameters or {}
    for name, value in parameters.items():
        parameters[name] = REAL.get(value, value) if isinstance(value, str) else value
    if parameters.get("key_id") == OWN_KEY:
        parameters["key_id"] = NOBODY
    if case.method.upper() == "DELETE" and parameters.get("agent") == "code-review":
        parameters["agent"] = "code-reviews"


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    kind = type(failure).__name__
    if kind == "RejectedPositiveData":
        return not _beyond_schema(response.json()["error"])
    if kind == "AcceptedNegativeData" and case.path.endswith("/agents/validate"):
        return response.json()["valid"]  # it answers 200 and says what is wrong
    return True


@schemathesis.check
def names_nothing_of_the_inside(ctx: Any, response: Any, case: Any) -> None:
    """Of errors only: the other answers hold what callers have put into them."""
    if response.status_code >= 400:
        found = INTERNALS.search(response.content.decode())
        assert not found, f"{found[0]!r} is of the inside"


def _beyond_schema(error: dict[str, Any]) -> bool:
    if error["code"] in CODES:
        return True
    violations = error["details"].get("violations", ())
    return bool(violations) and all(
        PLACES.fullmatch(one["pointer"]) or MESSAGES.search(one["message"]) for one in violations
    )
