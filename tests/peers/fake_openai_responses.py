"""OpenAI's Responses on the wire."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import fake_openai
from fake_openai_history import ENCRYPTED, REASONED_CALL, REASONED_MESSAGE, History
from fake_shapes import (
    Answer,
    Asked,
    Refused,
    Request,
    Sent,
    ToolCall,
    document_of,
    names_in,
    present,
    schema_characters,
    sse,
    tokens_in,
)

FIELDS = names_in(
    "background context_management conversation include input instructions max_output_tokens "
    "max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt "
    "prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier "
    "service_tier store stream stream_options temperature text tool_choice tools top_logprobs "
    "top_p truncation user"
)


class Responses:
    protocol = "responses"
    request_id_header = "x-request-id"

    def authorize(self, request: Request, key: str) -> None:
        fake_openai.authorize(request, key)

    def call_id(self, digest: str) -> str:
        return f"call_{digest}"

    def models(self) -> dict[str, Any]:
        return fake_openai.models()

    def error(self, refused: Refused, request_id: str) -> dict[str, Any]:
        return fake_openai.error(refused)

    def error_event(self, kind: str, request_id: str) -> bytes:
        told = fake_openai.event_error(kind)
        error = {"code": told["code"], "message": told["message"], "param": None}
        return sse({"type": "error", **error, "sequence_number": 99}, event="error")

    def read(self, request: Request, asked: Asked) -> None:
        document = document_of(request.body)
        asked.model = fake_openai.refuse_model(document.get("model"))
        fake_openai.refuse_unknown(document, FIELDS)
        _read_settings(asked, document)
        _refuse_settings(asked.model, document)
        _read_tools(asked, document.get("tools") or [])
        _read_input(asked, document)
        fake_openai.refuse_what_it_cannot_do(asked)

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        return _response(asked, answer, _status(answer), _items(asked, answer))

    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]:
        numbers = count()
        for event, tokens in _events(asked, answer):
            event["sequence_number"] = next(numbers)
            ends = event["type"] in ("response.completed", "response.incomplete")
            yield Sent(sse(event, event=event["type"]), tokens, ends)


def _refuse_settings(model: str, document: Mapping[str, Any]) -> None:
    fake_openai.refuse_range(document, "temperature", 0, 2)
    fake_openai.refuse_range(document, "top_p", 0, 1)
    if fake_openai.reasons(model):
        for name in ("temperature", "top_p"):
            if document.get(name) is not None:
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                raise Refused(400, text, "unsupported_parameter", name)
    elif (document.get("reasoning") or {}).get("effort"):
        text = "Unsupported parameter: 'reasoning.effort' is not supported with this model."
        raise Refused(400, text, "unsupported_parameter", "reasoning.effort")
    if (limit := document.get("max_output_tokens")) is not None and limit < 16:
        text = (
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
            f"16, but got {limit} instead."
        )
        raise Refused(400, text, "integer_below_min_value", "max_output_tokens")
    if id_ := document.get("previous_response_id"):
        text = f"Previous response with id '{id_}' not found."
        raise Refused(400, text, "previous_response_not_found", "previous_response_id")


def _read_settings(asked: Asked, document: Mapping[str, Any]) -> None:
    asked.stream = bool(document.get("stream"))
    asked.max_tokens = document.get("max_output_tokens")
    asked.instructions = document.get("instructions") or ""
    asked.with_encrypted_reasoning = "reasoning.encrypted_content" in (
        document.get("include") or ()
    )
    asked.settings = present(
        temperature=document.get("temperature"),
        max_tokens=document.get("max_output_tokens"),
        top_p=document.get("top_p"),
        reasoning=document.get("reasoning"),
    )
    form = (document.get("text") or {}).get("format") or {"type": "text"}
    asked.schema = form.get("type") in ("json_schema", "json_object")
    if form.get("type") == "json_schema":
        if not form.get("name"):
            param = "text.format.name"
            raise Refused(400, f"Missing required parameter: '{param}'.", None, param)
        asked.schemas += schema_characters([form])
        if form.get("strict"):
            fake_openai.refuse_loose(f"response_format '{form['name']}'", form.get("schema"))


def _read_tools(asked: Asked, tools: Sequence[Mapping[str, Any]]) -> None:
    asked.schemas += schema_characters(tools)
    asked.tools = [fake_openai.tool_of(tool, f"tools[{index}]") for index, tool in enumerate(tools)]


def _read_input(asked: Asked, document: Mapping[str, Any]) -> None:
    given = document.get("input")
    if isinstance(given, str):
        asked.turn_of("user").say(given)
        return
    if not isinstance(given, list):
        raise Refused(400, "Missing required parameter: 'input'.", None, "input")
    history = History(asked, stored=document.get("store") is not False)
    for index, item in enumerate(given):
        history.take(item, f"input[{index}]")
    history.end()


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish in ("length", "content_filter") else "completed"


def _response(
    asked: Asked, answer: Answer, status: str, items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    ended = status in ("completed", "incomplete")
    reason = "content_filter" if answer.finish == "content_filter" else "max_output_tokens"
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": asked.instructions or None,
        "max_output_tokens": asked.max_tokens,
        "model": asked.model,
        "output": items,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(answer) if ended else None,
        "user": None,
        "metadata": {},
    }


def _items(asked: Asked, answer: Answer) -> list[dict[str, Any]]:
    """The output items as they are when done."""
    if answer.empty:
        return []
    items = [_reasoning(asked, answer)] if answer.thinking else []
    if answer.pieces or answer.refusal is not None:
        items.append(_message(answer))
    items += [_call(answer, index, call) for index, call in enumerate(answer.calls)]
    return items


def _reasoning(asked: Asked, answer: Answer) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": answer.thinking}]
    item = {"id": f"rs_{answer.id}", "type": "reasoning", "summary": summary}
    sealed = {"encrypted_content": ENCRYPTED + answer.id}
    return item | sealed if asked.with_encrypted_reasoning else item


def _message(answer: Answer) -> dict[str, Any]:
    begin = REASONED_MESSAGE if answer.thinking else "msg_"
    content: dict[str, Any] = {"type": "output_text", "text": answer.text}
    content |= {"annotations": [], "logprobs": []}
    if answer.refusal is not None:
        content = {"type": "refusal", "refusal": answer.refusal or "I cannot help with that."}
    return {
        "id": begin + answer.id,
        "type": "message",
        "status": _status(answer),
        "role": "assistant",
        "content": [content],
    }


def _call(answer: Answer, index: int, call: ToolCall) -> dict[str, Any]:
    begin = REASONED_CALL if answer.thinking else "fc_"
    return {
        "id": f"{begin}{answer.id}{index}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


_Events = Iterator[tuple[dict[str, Any], int]]


def _events(asked: Asked, answer: Answer) -> _Events:
    """The events without their numbers, each with the tokens that it carries."""
    begun = _response(asked, answer, "in_progress", [])
    yield {"type": "response.created", "response": begun}, 0
    yield {"type": "response.in_progress", "response": begun}, 0
    items = _items(asked, answer)
    for index, item in enumerate(items):
        yield from _item_events(answer, index, item)
    status = _status(answer)
    ended = _response(asked, answer, status, items)
    yield {"type": f"response.{status}", "response": ended}, 0


def _item_events(answer: Answer, index: int, item: dict[str, Any]) -> _Events:
    where = {"output_index": index}
    blank, inner = {
        "reasoning": ({"summary": []}, _reasoning_events),
        "message": ({"content": [], "status": "in_progress"}, _message_events),
        "function_call": ({"arguments": "", "status": "in_progress"}, _call_events),
    }[item["type"]]
    yield {"type": "response.output_item.added", **where, "item": item | blank}, 0
    yield from inner(answer, item, {"item_id": item["id"], **where})
    yield {"type": "response.output_item.done", **where, "item": item}, 0


def _reasoning_events(answer: Answer, item: dict[str, Any], where: dict[str, Any]) -> _Events:
    where, part = {**where, "summary_index": 0}, item["summary"][0]
    base = "response.reasoning_summary"
    yield {"type": f"{base}_part.added", **where, "part": part | {"text": ""}}, 0
    text = part["text"]
    yield {"type": f"{base}_text.delta", **where, "delta": text}, tokens_in(text)
    yield {"type": f"{base}_text.done", **where, "text": text}, 0
    yield {"type": f"{base}_part.done", **where, "part": part}, 0


def _message_events(answer: Answer, item: dict[str, Any], where: dict[str, Any]) -> _Events:
    where, part = {**where, "content_index": 0}, item["content"][0]
    refused = part["type"] == "refusal"
    field = "refusal" if refused else "text"
    base = "response.refusal" if refused else "response.output_text"
    more: dict[str, Any] = {} if refused else {"logprobs": []}
    yield {"type": "response.content_part.added", **where, "part": part | {field: ""}}, 0
    for piece in [part["refusal"]] if refused else answer.pieces:
        yield {"type": f"{base}.delta", **where, "delta": piece, **more}, tokens_in(piece)
    yield {"type": f"{base}.done", **where, field: part[field], **more}, 0
    yield {"type": "response.content_part.done", **where, "part": part}, 0


def _call_events(answer: Answer, item: dict[str, Any], where: dict[str, Any]) -> _Events:
    base = "response.function_call_arguments"
    call = ToolCall(item["call_id"], item["name"], item["arguments"])
    for piece in call.pieces():
        yield {"type": f"{base}.delta", **where, "delta": piece}, tokens_in(piece)
    done = {"name": call.name, "arguments": call.arguments}
    yield {"type": f"{base}.done", **where, **done}, 0


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
