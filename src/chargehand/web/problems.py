"""Errors on the wire (SPEC API-1): one envelope, and the statuses of ``error_codes``."""

import sys
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from chargehand.kernel.clock import now
from chargehand.kernel.errors import (
    ChargehandError,
    Invalid,
    Unauthenticated,
    Violation,
    pointer,
)
from chargehand.web.error_codes import STATUS_OF_CODE
from chargehand.web.texts import message_of

LIST = "GET /api/v1/openapi.json lists the routes."

_OF_FRAMEWORK = {
    400: "InvalidInput",
    404: "RouteNotFound",
    405: "MethodNotAllowed",
    413: "PayloadTooLarge",
}
"""The codes of what FastAPI raises by itself, by its status."""

log = structlog.get_logger()


def envelope(request: HTTPConnection, code: str, message: str, details: object) -> dict[str, Any]:
    return {
        "error": {
            "code": code,
            "message": message,
            "details": details,
            "timestamp": now().isoformat().replace("+00:00", "Z"),
            "request_id": request.scope.get("request_id", ""),
        }
    }


def install(app: FastAPI) -> None:
    """Answer every error of this application in the one envelope."""
    app.add_exception_handler(ChargehandError, _on_chargehand_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_defect)


async def _on_chargehand_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ChargehandError)
    if error.code not in STATUS_OF_CODE:
        # Whoever raised it forgot its row; clients rely on the table being closed.
        return await _on_defect(request, error)
    return JSONResponse(
        envelope(request, error.code, error.message, dict(error.details)),
        STATUS_OF_CODE[error.code],
        headers=_headers(error),
    )


def _headers(error: ChargehandError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    retry_after_s = error.details.get("retry_after_s")
    return {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        position, reason = errors[0]["loc"][-1], errors[0]["ctx"]["error"]
        return _unreadable(request, f"the body is not JSON: {reason} at character {position}")
    first, *others = violations = violations_of(errors)
    more = f" And {len(others)} more: see details.violations." if others else ""
    message = f"The request is not valid at {first.pointer or 'the body'}: {first.message}.{more}"
    return _invalid(request, message, violations)


def violations_of(errors: Sequence[Any]) -> list[Violation]:
    """Pydantic's errors as violations; a query or path parameter is named by its pointer too."""
    return [Violation(pointer(_place(error["loc"])), message_of(error)) for error in errors]


def _place(location: Sequence[str | int]) -> Sequence[str | int]:
    return location[1:] if location[0] == "body" else location


def _unreadable(request: Request, reason: str) -> JSONResponse:
    message = f"{reason[0].upper()}{reason[1:]}. Correct it and send it again."
    return _invalid(request, message, [Violation("", reason)])


def _invalid(request: Request, message: str, violations: Sequence[Violation]) -> JSONResponse:
    details = {"violations": [violation.as_json() for violation in violations]}
    return JSONResponse(envelope(request, Invalid.code, message, details), 400)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and (reason := _reason_unparsed(error.__cause__)):
        return _unreadable(request, reason)
    if error.status_code not in _OF_FRAMEWORK:
        return await _on_defect(request, error)
    messages = {
        404: f"There is no route {request.method} {request.url.path}. {LIST}",
        405: f"{request.url.path} does not take {request.method}. {LIST}",
    }
    messages[413] = "The request body is too large. Send files with POST /api/v1/uploads."
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_of(request))
    return JSONResponse(
        envelope(
            request,
            _OF_FRAMEWORK[error.status_code],
            messages.get(error.status_code, str(error.detail)),
            {},
        ),
        error.status_code,
        headers=headers,
    )


def _methods_of(request: Request) -> list[str]:
    """Of all routes at the first path that fits; Starlette names one's only (RFC 9110, 10.2.1)."""
    routes: list[Any] = [
        route
        for route in iter_route_contexts(request.app.routes)
        if (pattern := getattr(route, "path_regex", None)) and pattern.match(request.scope["path"])
    ]
    return sorted({name for r in routes if r.path == routes[0].path for name in r.methods or ()})


def _reason_unparsed(cause: BaseException | None) -> str | None:
    """What the JSON parser stumbled over, where that is why FastAPI refused a body."""
    match cause:
        case UnicodeDecodeError():
            encoding = cause.encoding.upper()
            return f"the body is not {encoding} text: {cause.reason} at byte {cause.start}"
        case RecursionError():
            return "the body is nested too deeply to be read"
        case ValueError():
            return f"the body holds an integer of more than {sys.get_int_max_str_digits()} digits"
        case _:
            return None


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    # Outside of all middleware, which would have told the id to the log and to the caller.
    request_id = str(request.scope.get("request_id", ""))
    log.error("request_failed", path=request.url.path, request_id=request_id, exc_info=error)
    message = (
        "Something went wrong inside Chargehand; nothing was half done. Try again, and give your "
        "operator the request_id if it happens again."
    )
    return JSONResponse(
        envelope(request, "InternalError", message, {}), 500, headers={"X-Request-Id": request_id}
    )
