"""The OpenAPI document: what FastAPI knows of the routes, completed by what holds for all.

Every operation says what it needs (scopes, role), each error that it can answer with, its headers
and an example of a request and of its answer; ``tests/factories/conformance.py`` holds answers
against it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from chargehand.tenancy.caller import Role
from chargehand.tenancy.dependencies import role_needed
from chargehand.web.descriptions import ALWAYS_THERE, ERROR_CODES, HEADERS, errors, header
from chargehand.web.error_codes import HTTP_ERRORS, HttpError

_SCHEMAS = "#/components/schemas/"
_PAGE = re.compile(r"^Page_(\w+)_$")
_ERROR_REF = {"$ref": f"{_SCHEMAS}Error"}
_BY_CODE = {error.code: error for error in HTTP_ERRORS}
_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_SHAPES_OF_FASTAPI = ("HTTPValidationError", "ValidationError")

STREAM_EVENT: dict[str, Any] = {
    "type": "object",
    "title": "StreamEvent",
    "description": "One of the server-sent events that the answer is made of, until `done`. "
    "Comments between them keep the line open.",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {
            "type": "string",
            "pattern": r"^(\d+\.\d+|[0-9a-f]{16}-[0-9a-f]{32}-[0-9a-f]{8})$",
            "description": "What `Last-Event-ID` takes; of a run it is `<epoch>.<seq>`.",
        },
        "event": {
            "type": "string",
            "minLength": 1,
            "description": "Its type; docs/reference/events.md says what each tells.",
        },
        "data": {
            "type": "string",
            "description": "A JSON object, whose fields depend on the type.",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object"},
        },
    },
}
"""Before OpenAPI 3.2 the schema of a stream is that of each of its items."""

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Error",
    "description": "Every answer of 400 and above, but that of `/readyz`.",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "title": "ErrorBody",
            "description": "What went wrong.",
            "required": ["code", "message", "details", "timestamp", "request_id"],
            "additionalProperties": False,
            "properties": {
                "code": {
                    "type": "string",
                    "enum": [error.code for error in HTTP_ERRORS],
                    "description": "Stable; docs/reference/errors.md says what each means.",
                },
                "message": {
                    "type": "string",
                    "minLength": 1,
                    "description": "What happened, where, why, and what to do. For people.",
                },
                "details": {
                    "type": "object",
                    "description": "What a program can act on; depends on the code.",
                    "properties": {"violations": {"$ref": "#/components/schemas/Violations"}},
                },
                "timestamp": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When it was answered.",
                },
                "request_id": {
                    "type": "string",
                    "pattern": "^req_[0-9a-f]{32}$",
                    "description": "The request's, also in `X-Request-Id`.",
                },
            },
        }
    },
}

VIOLATIONS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "title": "Violations",
    "description": "What is wrong with a request, place by place.",
    "minItems": 1,
    "items": {
        "type": "object",
        "title": "Violation",
        "required": ["pointer", "message"],
        "properties": {
            "pointer": {
                "type": "string",
                "description": "Where: an RFC 6901 pointer into the body, or below `/path`, "
                "`/query` or `/header`; empty is the body as a whole.",
            },
            "message": {"type": "string", "description": "What is wrong there."},
        },
    },
}


class DescribedApi(FastAPI):
    """An application whose OpenAPI document is completed here."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), roles_of(self))
        return self.openapi_schema


def complete(document: dict[str, Any], roles: Mapping[str, Role]) -> dict[str, Any]:
    """The document, completed in place; ``roles`` by operation id."""
    _rename(document)
    components = document["components"]
    for name in _SHAPES_OF_FASTAPI:
        components["schemas"].pop(name, None)
    components["schemas"] |= {
        "Error": ERROR_SCHEMA,
        "Violations": VIOLATIONS_SCHEMA,
        "StreamEvent": STREAM_EVENT,
    }
    components["headers"] = {
        name: {
            "description": text,
            "schema": {"type": "string"},
            "required": name in ALWAYS_THERE,
        }
        for name, text in HEADERS.items()
    }
    for operation in operations_of(document):
        _add_errors(operation, roles.get(operation["operationId"]))
        for response in operation["responses"].values():
            response.setdefault("headers", {})["X-Request-Id"] = header("X-Request-Id")
            _describe_stream(response)
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _never_null(parameter["schema"])
        _add_examples(operation, examples().get(operation["operationId"], {}))
    return document


def _rename(document: dict[str, Any]) -> None:
    """Give each shape a name that any language can have, and no other shape has as its title.

    Pydantic tells what is sent from what is answered by a hyphen, and pages apart by underscores;
    generators of clients name classes by titles.
    """
    schemas: dict[str, Any] = document["components"]["schemas"]
    for operation in operations_of(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            # One whose validation is skipped stands where it is used.
            if "properties" in (inline := content["schema"]):
                schemas[inline["title"]] = inline
                content["schema"] = {"$ref": _SCHEMAS + inline["title"]}
    names = {name: _PAGE.sub(r"\1Page", name.replace("-", "")) for name in schemas}
    document["components"]["schemas"] = {
        names[name]: {**schema, "title": names[name]} for name, schema in schemas.items()
    }
    _refer(document, {_SCHEMAS + old: _SCHEMAS + new for old, new in names.items()})


def _refer(value: Any, to: Mapping[str, str]) -> None:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            value["$ref"] = to.get(reference, reference)
    children = value.values() if isinstance(value, dict) else value
    for child in children if isinstance(value, dict | list) else ():
        _refer(child, to)


def operations_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


@cache
def examples() -> Mapping[str, Any]:
    """Examples by operation id; ``tests/features/test_openapi_examples.py`` records them."""
    file = resources.files("chargehand.entrypoints") / "examples.json"
    return json.loads(file.read_text())


def roles_of(app: FastAPI) -> dict[str, Role]:
    """The least role that each operation is for, by operation id."""
    found: dict[str, Role] = {}
    for context in iter_route_contexts(app.routes):
        route: Any = context
        dependant: Dependant | None = getattr(route, "dependant", None)
        for call in _calls(dependant) if dependant else ():
            if (role := role_needed(call)) is not None:
                found[route.operation_id] = role
    return found


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


def _add_errors(operation: dict[str, Any], role: Role | None) -> None:
    responses = operation["responses"]
    if ERROR_CODES not in responses.get("422", {}):
        responses.pop("422", None)
    if role is not None:
        operation["x-required-role"] = role
        for status, response in errors(*_codes_of_all(operation, role)).items():
            there = responses.setdefault(str(status), {ERROR_CODES: []})[ERROR_CODES]
            there += [code for code in response[ERROR_CODES] if code not in there]
    for status, response in responses.items():
        if ERROR_CODES in response:
            response.update(_error_response(int(status), response[ERROR_CODES]))
    operation["responses"] = dict(sorted(responses.items()))


def _codes_of_all(operation: Mapping[str, Any], role: Role) -> Iterator[str]:
    """What an operation can answer because of what it asks for, whatever it does."""
    yield from ("InvalidInput", "Unauthenticated", "InternalError", "DatabaseUnavailable")
    if any(scopes for need in operation["security"] for scopes in need.values()):
        yield "AgentAccessDenied"
    if role != "viewer":
        yield "InsufficientPermissions"
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        yield from ("PayloadTooLarge", "UnsupportedMediaType")


def _error_response(status: int, codes: Sequence[str]) -> dict[str, Any]:
    rows = [_BY_CODE[code] for code in codes]
    return {
        "description": "\n".join(f"- `{row.code}`: {row.meaning} {row.remedy}" for row in rows),
        "content": {"application/json": {"schema": _ERROR_REF, "example": _error_example(rows[0])}},
        "headers": {name: header(name) for name in _OF_STATUS.get(status, ())},
    }


def _error_example(row: HttpError) -> dict[str, Any]:
    return {
        "error": {
            "code": row.code,
            "message": f"{row.meaning} {row.remedy}",
            "details": {},
            "timestamp": "2026-11-24T09:00:00.000000Z",
            "request_id": "req_01935d5a3c8e7c4fb1d2e3f405162738",
        }
    }


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter: it is left out, and can never be null."""
    alternatives = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(alternatives) != 1:
        return schema
    return {**alternatives[0], **{k: v for k, v in schema.items() if k != "anyOf"}}


def _describe_stream(response: dict[str, Any]) -> None:
    stream = response.get("content", {}).get("text/event-stream")
    if stream is not None:
        stream["schema"] = {"$ref": "#/components/schemas/StreamEvent"}


def _add_examples(operation: dict[str, Any], example: Mapping[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        given = example.get(parameter["in"], {})
        if parameter["name"] in given:
            parameter["example"] = given[parameter["name"]]
    if "body" in example:
        for media in operation["requestBody"]["content"].values():
            media["example"] = example["body"]
    for answer in example.get("answers", ()):
        content = operation["responses"].get(str(answer["status"]), {}).get("content", {})
        described = content.get(answer["media_type"], content.get("*/*"))
        if described is not None:
            described["example"] = answer["body"]
