"""OpenAI's Chat Completions on the wire, and those who speak it without OpenAI's key."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import fake_openai
from fake_shapes import (
    Answer,
    Asked,
    Message,
    Refused,
    Request,
    Sent,
    ToolCall,
    ToolResult,
    document_of,
    missing_from,
    names_in,
    present,
    schema_characters,
    sse,
    tokens_in,
)

FIELDS = names_in(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs "
    "max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls "
    "prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity "
    "web_search_options"
)
_FINISH = {"stop_sequence": "stop", "tool_call": "tool_calls", "refusal": "stop"}


class Chat:
    """OpenAI's own."""

    protocol = "chat"
    request_id_header = "x-request-id"
    extra_fields: ClassVar[frozenset[str]] = frozenset()
    # OpenAI tells no reasoning here; the compatible ones have this field of their own.
    thinking_field: ClassVar[str | None] = None

    def authorize(self, request: Request, key: str) -> None:
        fake_openai.authorize(request, key)

    def call_id(self, digest: str) -> str:
        return f"call_{digest}"

    def models(self) -> dict[str, Any]:
        return fake_openai.models()

    def error(self, refused: Refused, request_id: str) -> dict[str, Any]:
        return fake_openai.error(refused)

    def error_event(self, kind: str, request_id: str) -> bytes:
        return sse({"error": fake_openai.event_error(kind)})

    def model_in(self, request: Request, document: Mapping[str, Any]) -> str:
        return fake_openai.refuse_model(document.get("model"))

    def read(self, request: Request, asked: Asked) -> None:
        document = document_of(request.body)
        asked.model = self.model_in(request, document)
        asked.stream = bool(document.get("stream"))
        fake_openai.refuse_unknown(document, FIELDS | self.extra_fields)
        _read_settings(asked, document)
        _refuse_settings(asked.model, document)
        _read_tools(asked, document.get("tools") or [])
        self.read_messages(asked, document.get("messages"))
        fake_openai.refuse_what_it_cannot_do(asked)

    def read_messages(self, asked: Asked, messages: Any) -> None:
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "Invalid 'messages': empty array.", "empty_array", "messages")
        pending = list[ToolCall]()
        for index, message in enumerate(messages):
            where = f"messages.[{index}].role"
            if message.get("role") == "tool":
                _read_result(asked, message, pending, where)
                continue
            _refuse_uncovered(pending, where)
            pending = self.read_message(asked, message, f"messages[{index}]")
        _refuse_uncovered(pending, f"messages.[{len(messages)}].role")

    def read_message(self, asked: Asked, message: Mapping[str, Any], where: str) -> list[ToolCall]:
        """One message other than a tool's; the calls that it makes."""
        content = message.get("content")
        match message.get("role"):
            case "system" | "developer":
                asked.instructions += self.text_of(asked, content, where)
                return []
            case "user":
                asked.turn_of("user").say(self.text_of(asked, content, where))
                return []
            case "assistant":
                said = Message("assistant", calls=_calls(message, where))
                if self.thinking_field and (thought := message.get(self.thinking_field)):
                    asked.thinking.append(thought)
                if content is not None:
                    said.say(self.text_of(asked, content, where))
                elif not said.calls and not message.get("refusal"):
                    text = "Invalid value for 'content': expected a string, got null."
                    raise Refused(400, text, None, f"{where}.content")
                asked.messages.append(said)
                return list(said.calls)
            case role:
                text = (
                    f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', "
                    "'user', 'function', 'tool', and 'developer'."
                )
                raise Refused(400, text, "invalid_value", f"{where}.role")

    def text_of(self, asked: Asked, content: Any, where: str) -> str:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            text = "Invalid value for 'content': expected a string, got null."
            raise Refused(400, text, None, f"{where}.content")
        texts = [
            self.part_of(asked, part, f"{where}.content[{index}]")
            for index, part in enumerate(content)
        ]
        return "\n".join(filter(None, texts))

    def part_of(self, asked: Asked, part: Mapping[str, Any], where: str) -> str:
        """The text of a part of content; a file's media type is noted."""
        match part.get("type"):
            case "text" | "refusal" as kind:
                return part[kind]
            case "image_url":
                url = part.get("image_url", {}).get("url")
                asked.files.append(fake_openai.image_type(url, f"{where}.image_url"))
            case "file":
                asked.files.append(self.file_of(part.get("file", {}), where))
            case "input_audio":
                asked.files.append(f"audio/{part['input_audio']['format']}")
            case kind:
                text = (
                    f"Invalid value: '{kind}'. Supported values are: 'text', 'image_url', "
                    "'input_audio', and 'file'."
                )
                raise Refused(400, text, "invalid_value", f"{where}.type")
        return ""

    def file_of(self, file: Mapping[str, Any], where: str) -> str:
        return fake_openai.file_type(file.get("file_data"), file.get("filename"), f"{where}.file")

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": asked.model,
            "choices": [] if answer.empty else [self.choice(answer)],
            "usage": _usage(answer),
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
        }

    def choice(self, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text or None,
            "refusal": _refusal(answer),
            "annotations": [],
        }
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        if self.thinking_field and answer.thinking:
            message[self.thinking_field] = answer.thinking
        reason = _finish_reason(answer)
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}

    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]:
        frame = _Frame(asked, answer)
        if not answer.empty:
            yield from self.deltas(frame, answer)
            yield Sent(frame.delta({}, finish=_finish_reason(answer)), ends=True)
        if asked.with_usage:
            yield Sent(frame.chunk([], usage=_usage(answer)), ends=True)
        yield Sent(b"data: [DONE]\n\n", ends=True)

    def deltas(self, frame: "_Frame", answer: Answer) -> Iterator[Sent]:
        yield Sent(frame.delta({"role": "assistant", "content": "", "refusal": None}))
        if self.thinking_field and answer.thinking:
            thought = {self.thinking_field: answer.thinking}
            yield Sent(frame.delta(thought), tokens_in(answer.thinking))
        if refusal := _refusal(answer):
            yield Sent(frame.delta({"refusal": refusal}), tokens_in(refusal))
        for piece in answer.pieces:
            yield Sent(frame.delta({"content": piece}), tokens_in(piece))
        for index, call in enumerate(answer.calls):
            head = {"index": index, **_call(call)}
            head["function"] = {"name": call.name, "arguments": ""}
            yield Sent(frame.delta({"tool_calls": [head]}), tokens_in(call.name))
            for piece in call.pieces():
                more = {"index": index, "function": {"arguments": piece}}
                yield Sent(frame.delta({"tool_calls": [more]}), tokens_in(piece))


class Compatible(Chat):
    """One of the many who speak OpenAI's protocol: no key, and its reasoning in the open."""

    extra_fields = frozenset({"chat_template_kwargs", "top_k", "min_p", "repetition_penalty"})
    thinking_field = "reasoning_content"

    def authorize(self, request: Request, key: str) -> None:
        pass

    def models(self) -> dict[str, Any]:
        return fake_openai.models(("qwen3-8b", "llama-3.3-70b"))


class _Frame:
    """The chunks of one stream."""

    def __init__(self, asked: Asked, answer: Answer) -> None:
        self._with_usage = asked.with_usage
        self._head = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": asked.model,
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
        }

    def delta(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self.chunk([choice])

    def chunk(self, choices: Sequence[Any], usage: Mapping[str, Any] | None = None) -> bytes:
        """Where usage was asked for, every chunk has the field, null until the last."""
        told = {"usage": usage} if self._with_usage else {}
        return sse({**self._head, "choices": choices, **told})


def _refuse_settings(model: str, document: Mapping[str, Any]) -> None:
    fake_openai.refuse_range(document, "temperature", 0, 2)
    fake_openai.refuse_range(document, "top_p", 0, 1)
    if "stream_options" in document and not document.get("stream"):
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(400, text, None, "stream_options")
    if fake_openai.reasons(model):
        _refuse_of_reasoning_models(document)


def _refuse_of_reasoning_models(document: Mapping[str, Any]) -> None:
    for name in ("temperature", "top_p"):
        if (value := document.get(name)) not in (None, 1):
            text = (
                f"Unsupported value: '{name}' does not support {value} with this model. Only "
                "the default (1) value is supported."
            )
            raise Refused(400, text, "unsupported_value", name)
    if document.get("max_tokens") is not None:
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."
        )
        raise Refused(400, text, "unsupported_parameter", "max_tokens")
    if document.get("stop") is not None:
        text = "Unsupported parameter: 'stop' is not supported with this model."
        raise Refused(400, text, "unsupported_parameter", "stop")


def _read_settings(asked: Asked, document: Mapping[str, Any]) -> None:
    limit = document.get("max_completion_tokens")
    limit = document.get("max_tokens") if limit is None else limit
    stop = document.get("stop") or []
    asked.with_usage = bool((document.get("stream_options") or {}).get("include_usage"))
    asked.max_tokens = limit
    asked.stop = [stop] if isinstance(stop, str) else stop
    asked.settings = present(
        temperature=document.get("temperature"),
        max_tokens=limit,
        top_p=document.get("top_p"),
        stop=document.get("stop"),
        seed=document.get("seed"),
        reasoning=document.get("reasoning_effort"),
    )
    _read_format(asked, document.get("response_format") or {"type": "text"})


def _read_format(asked: Asked, form: Mapping[str, Any]) -> None:
    asked.schema = form.get("type") in ("json_schema", "json_object")
    if form.get("type") == "json_schema":
        named = form.get("json_schema") or {}
        if not named.get("name"):
            param = "response_format.json_schema.name"
            raise Refused(400, f"Missing required parameter: '{param}'.", None, param)
        asked.schemas += schema_characters([named])
        if named.get("strict"):
            what = f"response_format '{named['name']}'"
            fake_openai.refuse_loose(what, named.get("schema"))


def _read_tools(asked: Asked, tools: Sequence[Mapping[str, Any]]) -> None:
    asked.schemas += schema_characters(tools)
    asked.tools = [
        fake_openai.tool_of(tool.get("function", {}), f"tools[{index}].function")
        for index, tool in enumerate(tools)
    ]


def _calls(message: Mapping[str, Any], where: str) -> list[ToolCall]:
    if "tool_calls" not in message:
        return []
    if not message["tool_calls"]:
        text = (
            f"Invalid '{where}.tool_calls': empty array. Expected an array with minimum length "
            "1, but got an empty array instead."
        )
        raise Refused(400, text, "empty_array", f"{where}.tool_calls")
    return [
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message["tool_calls"]
    ]


def _read_result(
    asked: Asked, message: Mapping[str, Any], pending: list[ToolCall], where: str
) -> None:
    id_ = message.get("tool_call_id")
    call = next((call for call in pending if call.id == id_), None)
    if call is None:
        text = (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            "message with 'tool_calls'."
        )
        raise Refused(400, text, None, where)
    pending.remove(call)
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise Refused(400, "Invalid value for 'content': expected a string, got null.", None, where)
    asked.turn_of("user").results.append(ToolResult(call.id, call.name, content))


def _refuse_uncovered(pending: Sequence[ToolCall], where: str) -> None:
    if lacking := missing_from([call.id for call in pending], []):
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(lacking)
        )
        raise Refused(400, text, None, where)


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _refusal(answer: Answer) -> str | None:
    if answer.refusal is None:
        return None
    return answer.refusal or "I'm sorry, but I cannot assist with that request."


def _finish_reason(answer: Answer) -> str:
    return _FINISH.get(answer.finish, answer.finish)


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0}
        | ({"cache_write_tokens": usage.cache_write} if usage.cache_write else {}),
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
