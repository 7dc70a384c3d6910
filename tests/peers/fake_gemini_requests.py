"""What Gemini reads in a request, and what it refuses. Pure."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fake_shapes import (
    Asked,
    Refused,
    ToolCall,
    ToolResult,
    names_in,
    present,
    schema_characters,
)

FIELDS = names_in(
    "model contents systemInstruction tools toolConfig safetySettings generationConfig "
    "cachedContent serviceTier store"
)
GENERATION_FIELDS = names_in(
    "stopSequences responseMimeType responseSchema responseJsonSchema _responseJsonSchema "
    "responseModalities candidateCount maxOutputTokens temperature topP topK seed "
    "presencePenalty frequencyPenalty responseLogprobs logprobs enableEnhancedCivicAnswers "
    "speechConfig thinkingConfig imageConfig mediaResolution"
)
SIGNATURE = b"fake-thought-"
# What Google documents for histories that another model began.
UNCHECKED = b"skip_thought_signature_validator"


def read_document(document: Mapping[str, Any], asked: Asked) -> None:
    """Fill ``asked``, whose model is known. Raises Refused."""
    _refuse_unknown(document, FIELDS, "")
    _read_settings(asked, document.get("generationConfig") or {})
    _read_tools(asked, document.get("tools") or [])
    system = document.get("systemInstruction") or {"parts": []}
    asked.instructions = "\n".join(part.get("text", "") for part in system["parts"])
    _read_contents(asked, document.get("contents"))
    _refuse_what_it_cannot_do(asked)


def _refuse_unknown(document: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in document.keys() - known:
        at = f" at '{where}'" if where else ""
        text = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
        raise Refused(400, text)


def _read_settings(asked: Asked, config: Mapping[str, Any]) -> None:
    _refuse_unknown(config, GENERATION_FIELDS, "generation_config")
    temperature = config.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        text = (
            "* GenerateContentRequest.generation_config.temperature: temperature must be in "
            f"the range [0.0, 2.0], but got {temperature}"
        )
        raise Refused(400, text)
    asked.max_tokens = config.get("maxOutputTokens")
    asked.stop = config.get("stopSequences") or ()
    asked.settings = present(
        temperature=temperature,
        max_tokens=config.get("maxOutputTokens"),
        top_p=config.get("topP"),
        stop=config.get("stopSequences"),
        seed=config.get("seed"),
        reasoning=config.get("thinkingConfig"),
    )
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    mime = config.get("responseMimeType", "text/plain")
    if schema is not None and mime != "application/json":
        text = (
            "* GenerateContentRequest.generation_config.response_schema: only allowed for "
            f"mime type `application/json`, but got `{mime}`"
        )
        raise Refused(400, text)
    asked.schema = mime == "application/json"
    asked.schemas += schema_characters([schema]) if schema else 0


def _read_tools(asked: Asked, tools: Sequence[Mapping[str, Any]]) -> None:
    asked.schemas += schema_characters(tools)
    for tool in tools:
        for function in tool.get("functionDeclarations", ()):
            schema = function.get("parameters") or function.get("parametersJsonSchema")
            kind = str((schema or {"type": "object"}).get("type", "")).lower()
            if kind != "object":
                where = f"tools[0].function_declarations[{len(asked.tools)}].parameters"
                text = f"* GenerateContentRequest.{where}: only allowed for OBJECT type"
                raise Refused(400, text)
            asked.tools.append(function["name"])
    if asked.tools and asked.schema and not is_third(asked.model):
        text = "Function calling with a response mime type: 'application/json' is unsupported"
        raise Refused(400, text)


def _read_contents(asked: Asked, contents: Any) -> None:
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    # A signature is asked of the calls in the turn that goes on, not of those before.
    current = max((i for i, content in enumerate(contents) if _speaks(content)), default=0)
    for index, content in enumerate(contents):
        parts = content.get("parts") or []
        if not parts:
            text = (
                f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be "
                "empty."
            )
            raise Refused(400, text)
        if content.get("role") == "model":
            _read_answer(asked, parts, signed=index > current and is_third(asked.model))
        elif content.get("role", "user") in ("user", "function"):
            _read_user(asked, parts)
        else:
            raise Refused(400, "Please use a valid role: user, model.")
    last = asked.messages[-1]
    if last.role == "assistant" and last.calls:
        _refuse_count()


def _speaks(content: Mapping[str, Any]) -> bool:
    parts = content.get("parts") or []
    return content.get("role") == "user" and any("text" in part for part in parts)


def _read_answer(asked: Asked, parts: Sequence[Mapping[str, Any]], *, signed: bool) -> None:
    if any("functionCall" in part for part in parts) and not asked.messages:
        text = (
            "Please ensure that function call turn comes immediately after a user turn or "
            "after a function response turn."
        )
        raise Refused(400, text)
    said = asked.turn_of("assistant")
    for part in parts:
        _refuse_signature(part)
        asked.signatures += _sealed(part).startswith(SIGNATURE)
        if part.get("thought"):
            asked.thinking.append(part["text"])
        if "functionCall" in part:
            call = part["functionCall"]
            if signed and not said.calls and "thoughtSignature" not in part:
                text = (
                    "Function call is missing a thought_signature in functionCall parts. This "
                    "is required for tools to work correctly, and missing thought_signature "
                    "may lead to degraded model performance. Additional data, function call "
                    f"`default_api:{call['name']}`."
                )
                raise Refused(400, text)
            arguments = orjson.dumps(call.get("args") or {}).decode()
            said.calls.append(ToolCall(call.get("id") or "", call["name"], arguments))
        elif "text" in part and not part.get("thought"):
            said.say(part["text"])


def _refuse_signature(part: Mapping[str, Any]) -> None:
    if "thoughtSignature" not in part:
        return
    sealed = _sealed(part)
    if not sealed.startswith(SIGNATURE) and sealed != UNCHECKED:
        raise Refused(400, "Corrupted thought signature.")


def _sealed(part: Mapping[str, Any]) -> bytes:
    # Bytes in JSON: Google takes both alphabets.
    text = part.get("thoughtSignature", "")
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")


def _read_user(asked: Asked, parts: Sequence[Mapping[str, Any]]) -> None:
    before = asked.messages[-1] if asked.messages else None
    calls = before.calls if before is not None and before.role == "assistant" else []
    responses = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if len(responses) != len(calls):
        _refuse_count()
    said = asked.turn_of("user")
    for response in responses:
        said.results.append(_result(response, calls))
        _note_files(asked, response.get("parts") or [])
    _note_files(asked, parts)
    for part in parts:
        if "text" in part:
            said.say(part["text"])


def _note_files(asked: Asked, parts: Sequence[Mapping[str, Any]]) -> None:
    for part in parts:
        if inline := _either(part, "inlineData", "inline_data"):
            asked.files.append(_file_type(inline))
        elif file := _either(part, "fileData", "file_data"):
            asked.files.append(_either(file, "mimeType", "mime_type") or "url")


def _refuse_count() -> None:
    text = (
        "Please ensure that the number of function response parts is equal to the number of "
        "function call parts of the function call turn."
    )
    raise Refused(400, text)


def _result(response: Mapping[str, Any], calls: Sequence[ToolCall]) -> ToolResult:
    name, id_ = response.get("name"), response.get("id") or ""
    if not any(call.name == name and (not id_ or call.id in ("", id_)) for call in calls):
        text = (
            f"Function response `{name}` (id {id_!r}) does not match a function call of the "
            "function call turn."
        )
        raise Refused(400, text)
    told = response.get("response")
    if not isinstance(told, dict):
        raise Refused(400, "Invalid value at 'contents.parts.function_response.response' (Struct)")
    output = told.get("output", told.get("error", told.get("return_value", told)))
    text = output if isinstance(output, str) else orjson.dumps(output).decode()
    return ToolResult(id_, str(name), text)


def _either(fields: Mapping[str, Any], camel: str, snake: str) -> Any:
    """Protocol buffers in JSON have both names."""
    return fields.get(camel) or fields.get(snake) or ""


def _file_type(data: Mapping[str, Any]) -> str:
    media_type = _either(data, "mimeType", "mime_type")
    if not media_type or not data.get("data"):
        raise Refused(400, "* GenerateContentRequest.contents.parts.inline_data: empty data")
    if media_type == "application/octet-stream":
        raise Refused(400, f"Unsupported MIME type: {media_type}")
    return media_type


def _refuse_what_it_cannot_do(asked: Asked) -> None:
    if "text-only" not in asked.model:
        return
    if asked.files:
        raise Refused(400, f"Image input modality is not enabled for models/{asked.model}")
    if asked.tools:
        raise Refused(400, f"Function calling is not enabled for models/{asked.model}")


def is_third(model: str) -> bool:
    return model.startswith(("gemini-3", "gemini-4"))
