"""What OpenAI's two protocols share: key, error envelope, models, files and schemas."""

from collections.abc import Iterable, Mapping
from typing import Any

from fake_shapes import (
    IMAGE_TYPES,
    REASONING_MODELS,
    Asked,
    Refused,
    Request,
    loose_object,
    media_type_of,
    optional_property,
)

MODELS = ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-5", "gpt-5-mini", "o3", "o4-mini")

_BY_STATUS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Not supported here."),
    408: ("server_error", None, "Request timed out."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again in 1s."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
    529: ("server_error", None, "The engine is currently overloaded, please try again later."),
}
_EVENTS = {"overloaded": "server_error", "rate_limit": "rate_limit_exceeded"}


def authorize(request: Request, key: str) -> None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not given:
        raise Refused(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )
    if given != key:
        # The vendor masks it; proxies are known that do not, so this one shows it whole.
        message = (
            f"Incorrect API key provided: {given}. You can find your API key at "
            "https://platform.openai.com/account/api-keys."
        )
        raise Refused(401, message, code="invalid_api_key")


def error(refused: Refused) -> dict[str, Any]:
    kind, code, message = _BY_STATUS.get(refused.status, ("invalid_request_error", None, ""))
    return {
        "error": {
            "message": refused.message or message,
            "type": refused.kind or kind,
            "param": refused.param,
            "code": refused.code or (code if not refused.message else None),
        }
    }


def event_error(kind: str) -> dict[str, Any]:
    """The error object that comes inside a stream which began with a 200."""
    kind = _EVENTS.get(kind, kind)
    message = "The server had an error while processing your request. Sorry about that!"
    if kind == "rate_limit_exceeded":
        message = "Rate limit reached. Please try again in 1s."
    return {"message": message, "type": kind, "param": None, "code": kind}


def models(names: Iterable[str] = MODELS) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}
            for name in names
        ],
    }


def refuse_unknown(document: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in document.keys() - known:
        raise Refused(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)


def refuse_model(model: Any) -> str:
    """The model's name. Raises Refused where there is none or no such model."""
    if not isinstance(model, str) or not model:
        raise Refused(400, "you must provide a model parameter")
    if "no-such-model" in model:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(404, message, "model_not_found")
    return model


def refuse_what_it_cannot_do(asked: Asked) -> None:
    if "text-only" not in asked.model:
        return
    if asked.files:
        raise Refused(400, f"Invalid content type. {asked.model} does not take files or images.")
    if asked.tools:
        message = f"Unsupported parameter: 'tools' is not supported with {asked.model}."
        raise Refused(400, message, "unsupported_parameter", "tools")


def reasons(model: str) -> bool:
    return model.startswith(REASONING_MODELS)


def refuse_range(document: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = document.get(name)
    if value is not None and not low <= value <= high:
        side, code = ("above maximum", "max") if value > high else ("below minimum", "min")
        message = (
            f"Invalid '{name}': decimal {side} value. Expected a value from {low} to {high}, "
            f"but got {value} instead."
        )
        raise Refused(400, message, f"decimal_{side.split()[0]}_{code}_value", name)


def tool_of(function: Mapping[str, Any], where: str) -> str:
    """A function tool's name. Raises Refused for a schema that is none."""
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(400, f"Missing required parameter: '{where}.name'.", None, f"{where}.name")
    schema = function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        message = (
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: "
            f'"object"\', got \'type: "{kind}"\'.'
        )
        raise Refused(400, message, "invalid_function_parameters", f"{where}.parameters")
    if function.get("strict"):
        refuse_loose(f"function '{name}'", schema, "invalid_function_parameters")
    return name


def refuse_loose(what: str, schema: Any, code: str = "invalid_json_schema") -> None:
    """Strict schemas must be closed and all their properties required."""
    if trouble := loose_object(schema) or optional_property(schema):
        raise Refused(400, f"Invalid schema for {what}: In context=(), {trouble}.", code)


def image_type(url: Any, param: str) -> str:
    """The media type of an image given as URL. Raises Refused for what is no picture."""
    if not isinstance(url, str) or not url.startswith(("data:", "https://", "http://")):
        message = f"Invalid '{param}'. Expected a base64-encoded data URL or an HTTP URL."
        raise Refused(400, message, "invalid_value", param)
    media_type = media_type_of(url)
    if media_type not in (*IMAGE_TYPES, "url"):
        message = f"Invalid MIME type: {media_type}. Only image types are supported."
        raise Refused(400, message, "invalid_image_format", param)
    return media_type


def file_type(data: Any, name: Any, param: str) -> str:
    """The media type of a file given as data URL. Raises Refused."""
    if not isinstance(data, str) or not data.startswith("data:") or not name:
        message = f"Invalid '{param}'. Expected a data URL in file_data and a filename."
        raise Refused(400, message, "invalid_value", param)
    return media_type_of(data)
