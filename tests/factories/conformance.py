"""Holds every answer of an application against its own OpenAPI document (SPEC API-1).

What is undescribed fails: a status, a media type, a body of another shape, a code that the
operation does not list, a header that is described as always there and is missing.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, Self, TypeAlias

import httpx2
from fastapi import FastAPI
from jsonschema_rs import Draft202012Validator

from chargehand.web.descriptions import HEADERS
from chargehand.web.error_codes import STATUS_OF_CODE

UNDESCRIBED = ("RouteNotFound", "MethodNotAllowed")
"""Answers to what is no operation, so that none can describe them."""

OF_THE_TRANSPORT = {"content-type", "content-length"}

INTERNALS = re.compile(
    r"Traceback|\.py\b|\bchargehand\.[a-z]+\.|site-packages|asyncpg|sqlalchemy|pydantic|starlette"
    r"|fastapi|postgresql\+|\bselect .+ from\b|\binsert into\b|\b(live_executions|agent_versions"
    r"|api_keys|execution_payloads|idempotency_keys|run_messages)\b|object at 0x|<class '"
    r"|line \d+, in|/home/|/work/|/tmp/|/usr/|/root/",
    re.IGNORECASE,
)
"""Traces of the inside: stacks, modules, SQL, tables, files."""


Validators: TypeAlias = dict[tuple[str, str, str], Draft202012Validator]

_OF_ROUTES: dict[frozenset[str], tuple[Mapping[str, Any], Validators]] = {}
"""Made once in a process: to describe the whole API takes longer than most tests do."""


class Conformance:
    """The document of one application, compiled as far as it is used."""

    def __init__(self, document: Mapping[str, Any], validators: Validators | None = None) -> None:
        self._document = document
        self._validators = {} if validators is None else validators
        self.answered: set[tuple[str, int, str]] = set()
        """Which operation has answered which status with which code, or with none."""

    @classmethod
    def of(cls, app: FastAPI) -> Self:
        """Of an application, or another one with the same routes."""
        routes = frozenset(map(repr, app.routes))
        if routes not in _OF_ROUTES:
            _OF_ROUTES[routes] = (app.openapi(), {})
        return cls(*_OF_ROUTES[routes])

    @cached_property
    def _paths(self) -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
        paths = sorted(self._document["paths"].items(), key=lambda item: item[0].count("{"))
        return [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(p))), ops) for p, ops in paths]

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        found = (ops for pattern, ops in self._paths if pattern.fullmatch(path))
        return next(found, {}).get(method.lower())

    def place_of(self, operation_id: str) -> tuple[str, str]:
        """The method and the path of an operation."""
        for path, methods in self._document["paths"].items():
            for method, operation in methods.items():
                if operation["operationId"] == operation_id:
                    return method, path
        raise AssertionError(f"the document has no operation {operation_id}")

    def check(self, response: httpx2.Response) -> None:
        """Raise AssertionError for an answer that the document does not describe.

        The body must have been read, unless it is a stream.
        """
        request = response.request
        operation = self.operation(request.method, request.url.raw_path.decode().partition("?")[0])
        where = f"{request.method} {request.url} answered {response.status_code}"
        code = self._check_error(response, where) if response.status_code >= 400 else ""
        if operation is None:
            assert code in UNDESCRIBED, f"{where}, and is no operation of the document"
            return
        self.answered.add((operation["operationId"], response.status_code, code))
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, f"{where} ({code}), which is not described"
        if code:
            codes = described.get("x-error-codes", ())
            assert code in codes, f"{where} {code}; described are {codes}"
        self._check_headers(response, described, where)
        self._check_body(response, operation["operationId"], described, where)

    def _check_error(self, response: httpx2.Response, where: str) -> str:
        if response.request.url.path == "/readyz":
            return ""
        error = response.json()["error"]
        assert STATUS_OF_CODE.get(error["code"]) == response.status_code, (where, error)
        assert error["request_id"] == response.headers["x-request-id"], where
        assert not (found := INTERNALS.search(response.text)), (where, found, response.text)
        return error["code"]

    def _check_headers(self, response: httpx2.Response, described: Any, where: str) -> None:
        names = set(described.get("headers", {}))
        for name in names:
            required = self._document["components"]["headers"][name]["required"]
            assert not required or name in response.headers, f"{where} without {name}"
        for name in HEADERS:
            assert name not in response.headers or name in names, f"{where} with {name}"

    def _check_body(
        self, response: httpx2.Response, operation: str, described: Any, where: str
    ) -> None:
        content = described.get("content")
        if not content:
            assert not response.content, f"{where} with a body that is not described"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in content or "*/*" in content, (
            f"{where} as {media_type}; described are {list(content)}"
        )
        if media_type != "application/json" or media_type not in content:
            return
        key = (operation, str(response.status_code), media_type)
        if key not in self._validators:
            self._validators[key] = self.validator(content[media_type]["schema"])
        found = [
            f"{list(e.instance_path)}: {e.message}"
            for e in self._validators[key].iter_errors(response.json())
        ]
        assert not found, (where, found)

    def validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        """Of a schema that may refer to the document's components."""
        whole = {**schema, "components": self._document["components"]}
        return Draft202012Validator(whole, validate_formats=True)


def watching(conformance: Conformance) -> Callable[[httpx2.Response], Awaitable[None]]:
    """An event hook for a client: each answer is checked as it comes."""

    async def check(response: httpx2.Response) -> None:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            await response.aread()
        conformance.check(response)

    return check
