"""Anthropic's Messages on the wire."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from fake_anthropic_requests import read_document, signature_of
from fake_shapes import (
    Answer,
    Asked,
    Refused,
    Request,
    Sent,
    document_of,
    sse,
    tokens_in,
)

MODELS = ("claude-opus-4-7", "claude-sonnet-5", "claude-sonnet-4-6", "claude-haiku-4-5")
_BY_STATUS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "Not found."),
    408: ("timeout_error", "Request timed out."),
    413: ("request_too_large", "Request exceeds the maximum size."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    529: ("overloaded_error", "Overloaded"),
}
_EVENTS = {"overloaded": "overloaded_error", "rate_limit": "rate_limit_error"}
_EVENTS |= {"server_error": "api_error"}
_STOP = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_call": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}


class Anthropic:
    protocol = "anthropic"
    request_id_header = "request-id"

    def authorize(self, request: Request, key: str) -> None:
        # Its SDK sends the key as a bearer token, other clients in Anthropic's own header.
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.headers.get("x-api-key") or bearer
        if not given:
            raise Refused(401, "x-api-key header is required")
        if given != key:
            raise Refused(401, f"invalid x-api-key: {given}")
        if "anthropic-version" not in request.headers:
            raise Refused(400, "anthropic-version: header is required")

    def call_id(self, digest: str) -> str:
        return f"toolu_01{digest}"

    def models(self) -> dict[str, Any]:
        data = [
            {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").title(),
                "created_at": "2025-09-29T00:00:00Z",
                "lifecycle": "active",
            }
            for name in MODELS
        ]
        return {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}

    def error(self, refused: Refused, request_id: str) -> dict[str, Any]:
        kind, message = _BY_STATUS.get(refused.status, ("api_error", "Internal server error"))
        error = {"type": refused.kind or kind, "message": refused.message or message}
        return {"type": "error", "error": error, "request_id": request_id}

    def error_event(self, kind: str, request_id: str) -> bytes:
        kind = _EVENTS.get(kind, kind)
        message = next((text for name, text in _BY_STATUS.values() if name == kind), "Error")
        error = {"type": "error", "error": {"type": kind, "message": message}}
        return sse({**error, "request_id": request_id}, event="error")

    def read(self, request: Request, asked: Asked) -> None:
        read_document(document_of(request.body), asked)

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        return (
            _message(asked, answer, _blocks(answer)) | _ending(answer) | {"usage": _usage(answer)}
        )

    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]:
        yield _sent({"type": "message_start", "message": _begun(asked, answer)})
        blocks = _blocks(answer)
        for index, block in enumerate(blocks):
            yield from _block_events(answer, index, block, index - len(blocks))
            if index == 0:
                yield _sent({"type": "ping"})
        delta = {"delta": _ending(answer), "usage": _usage(answer)}
        yield _sent({"type": "message_delta", **delta}, ends=True)
        yield _sent({"type": "message_stop"}, ends=True)


def _sent(event: Mapping[str, Any], tokens: int = 0, *, ends: bool = False) -> Sent:
    return Sent(sse(event, event=event["type"]), tokens, ends)


def _message(asked: Asked, answer: Answer, blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_01{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": blocks,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _begun(asked: Asked, answer: Answer) -> dict[str, Any]:
    return _message(asked, answer, []) | {"usage": _usage(answer) | {"output_tokens": 1}}


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks = list[dict[str, Any]]()
    if answer.empty:
        return blocks
    if answer.thinking:
        signature = signature_of(answer.thinking)
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": signature})
    if text := answer.text or answer.refusal:
        blocks.append({"type": "text", "text": text})
    for call in answer.calls:
        # A whole answer cannot carry what is no JSON; a stream sends the arguments as they are.
        given = {} if answer.malformed_call else orjson.loads(call.arguments)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return blocks


def _ending(answer: Answer) -> dict[str, Any]:
    reason = _STOP[answer.finish]
    ending: dict[str, Any] = {"stop_reason": reason, "stop_sequence": answer.stopped_by}
    if reason == "refusal":
        told = {"category": None, "explanation": answer.refusal or None}
        ending["stop_details"] = {"type": "refusal", **told}
    return ending


def _block_events(
    answer: Answer, index: int, block: Mapping[str, Any], from_end: int
) -> Iterator[Sent]:
    """``from_end`` counts from the last block: the calls are the last, and may share an id."""
    blank, deltas = {
        "thinking": ({"thinking": "", "signature": ""}, _thinking_deltas),
        "text": ({"text": ""}, _text_deltas),
        "tool_use": ({"input": {}}, _call_deltas),
    }[block["type"]]
    where = {"index": index}
    yield _sent({"type": "content_block_start", **where, "content_block": {**block, **blank}})
    for delta, tokens in deltas(answer, block, from_end):
        yield _sent({"type": "content_block_delta", **where, "delta": delta}, tokens)
    yield _sent({"type": "content_block_stop", **where})


_Deltas = Iterator[tuple[dict[str, Any], int]]


def _thinking_deltas(answer: Answer, block: Mapping[str, Any], from_end: int) -> _Deltas:
    text = block["thinking"]
    yield {"type": "thinking_delta", "thinking": text}, tokens_in(text)
    yield {"type": "signature_delta", "signature": block["signature"]}, 0


def _text_deltas(answer: Answer, block: Mapping[str, Any], from_end: int) -> _Deltas:
    for piece in answer.pieces or (block["text"],):
        yield {"type": "text_delta", "text": piece}, tokens_in(piece)


def _call_deltas(answer: Answer, block: Mapping[str, Any], from_end: int) -> _Deltas:
    call = answer.calls[from_end]
    yield {"type": "input_json_delta", "partial_json": ""}, tokens_in(call.name)
    for piece in call.pieces():
        yield {"type": "input_json_delta", "partial_json": piece}, tokens_in(piece)


def _usage(answer: Answer) -> dict[str, Any]:
    """Anthropic's input is what was neither read from the cache nor written to it."""
    usage = answer.usage
    return {
        "input_tokens": usage.input - usage.cache_read - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": usage.output,
        "service_tier": "standard",
    } | ({"output_tokens_details": {"thinking_tokens": usage.reasoning}} if usage.reasoning else {})
