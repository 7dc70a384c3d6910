"""What Anthropic reads in a request to its Messages, and what it refuses. Pure."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from fake_shapes import (
    IMAGE_TYPES,
    Asked,
    Message,
    Refused,
    ToolCall,
    ToolResult,
    loose_object,
    missing_from,
    names_in,
    present,
    schema_characters,
)

FIELDS = names_in(
    "max_tokens messages model cache_control container context_management diagnostics "
    "inference_geo mcp_servers metadata output_config output_format service_tier speed "
    "stop_sequences stream system temperature thinking tool_choice tools top_k top_p"
)
ADAPTIVE_ONLY = ("claude-opus-4-7", "claude-sonnet-5", "claude-fable")


def read_document(document: Mapping[str, Any], asked: Asked) -> None:
    """Fill ``asked``. Raises Refused."""
    for name in document.keys() - FIELDS:
        raise Refused(400, f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        if document.get(name) is None:
            raise Refused(400, f"{name}: Field required")
    asked.model = document["model"]
    if "no-such-model" in asked.model:
        raise Refused(404, f"model: {asked.model}")
    _read_settings(asked, document)
    _refuse_settings(asked.model, document)
    _read_tools(asked, document.get("tools") or [])
    _read_messages(asked, document)
    _refuse_what_it_cannot_do(asked)


def _refuse_settings(model: str, document: Mapping[str, Any]) -> None:
    temperature, limit = document.get("temperature"), document["max_tokens"]
    if limit < 1:
        raise Refused(400, "max_tokens: Input should be greater than or equal to 1")
    if temperature is not None and temperature > 1:
        raise Refused(400, "temperature: Input should be less than or equal to 1")
    adaptive = model.startswith(ADAPTIVE_ONLY)
    for name in ("temperature", "top_p", "top_k"):
        if adaptive and document.get(name) is not None:
            raise Refused(400, f"`{name}` is deprecated for this model.")
    thinking = document.get("thinking") or {}
    if thinking.get("type") == "enabled":
        if adaptive:
            text = (
                '"thinking.type.enabled" is not supported for this model. Use '
                '"thinking.type.adaptive" and "output_config.effort" to control thinking '
                "behavior."
            )
            raise Refused(400, text)
        _refuse_budget(thinking, limit)
        if temperature not in (None, 1):
            text = (
                "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."
            )
            raise Refused(400, text)


def _refuse_budget(thinking: Mapping[str, Any], limit: int) -> None:
    budget = thinking.get("budget_tokens")
    if budget is None or budget < 1024:
        text = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        raise Refused(400, text)
    if limit <= budget:
        raise Refused(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")


def _read_settings(asked: Asked, document: Mapping[str, Any]) -> None:
    asked.stream = bool(document.get("stream"))
    asked.max_tokens = document["max_tokens"]
    asked.stop = document.get("stop_sequences") or ()
    system = document.get("system") or ""
    asked.instructions = system if isinstance(system, str) else "".join(_texts(system, "system"))
    config = document.get("output_config") or {}
    reasoning = present(**(document.get("thinking") or {}), effort=config.get("effort"))
    asked.settings = present(
        temperature=document.get("temperature"),
        max_tokens=document["max_tokens"],
        top_p=document.get("top_p"),
        stop=document.get("stop_sequences"),
        reasoning=reasoning or None,
    )
    form = config.get("format") or document.get("output_format")
    asked.schema = form is not None
    if form is not None:
        asked.schemas += schema_characters([form])
        if loose_object(form.get("schema")):
            text = (
                "output_config.format.schema: For 'object' type, 'additionalProperties' must "
                "be explicitly set to false"
            )
            raise Refused(400, text)


def _read_tools(asked: Asked, tools: Sequence[Mapping[str, Any]]) -> None:
    asked.schemas += schema_characters(tools)
    for index, tool in enumerate(tools):
        where = f"tools.{index}.custom"
        if not tool.get("name"):
            raise Refused(400, f"{where}.name: Field required")
        schema = tool.get("input_schema")
        if schema is None:
            raise Refused(400, f"{where}.input_schema: Field required")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise Refused(400, f"{where}.input_schema.type: Input should be 'object'")
        if tool.get("strict") and loose_object(schema):
            text = (
                f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to "
                "false"
            )
            raise Refused(400, text)
        if tool["name"] in asked.tools:
            raise Refused(400, "tools: Tool names must be unique.")
        asked.tools.append(tool["name"])


def _read_messages(asked: Asked, document: Mapping[str, Any]) -> None:
    messages = document["messages"]
    if not messages:
        raise Refused(400, "messages: at least one message is required")
    if messages[0].get("role") != "user":
        raise Refused(400, 'messages: first message must use the "user" role')
    thinking = (document.get("thinking") or {}).get("type") == "enabled"
    for index, message in enumerate(messages):
        blocks = _content_blocks(message.get("content"), f"messages.{index}.content")
        if message.get("role") == "assistant":
            said = asked.turn_of("assistant")
            _read_answer(asked, said, blocks, f"messages.{index}.content")
        elif message.get("role") == "user":
            _read_user(asked, blocks, index)
        else:
            raise Refused(400, f"messages.{index}.role: Input should be 'user' or 'assistant'")
    if thinking:
        _refuse_unthought(messages)
    if asked.messages[-1].role == "assistant":
        _refuse_prefill(asked)


def _content_blocks(content: Any, where: str) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Refused(400, f"{where}: Input should be a valid list")
    if not content:
        raise Refused(400, f"{where}: all messages must have non-empty content")
    return content


def _read_answer(
    asked: Asked, said: Message, blocks: Sequence[Mapping[str, Any]], where: str
) -> None:
    for index, block in enumerate(blocks):
        match block.get("type"):
            case "text":
                said.say(_text(block, f"{where}.{index}"))
            case "tool_use":
                if any(call.id == block["id"] for call in said.calls):
                    raise Refused(400, f"{where}.{index}: `tool_use` ids must be unique")
                if not isinstance(block.get("input"), dict):
                    text = f"{where}.{index}.tool_use.input: Input should be a valid dictionary"
                    raise Refused(400, text)
                arguments = orjson.dumps(block["input"]).decode()
                said.calls.append(ToolCall(block["id"], block["name"], arguments))
            case "thinking":
                if block.get("signature") != signature_of(block.get("thinking", "")):
                    text = f"{where}.{index}: Invalid `signature` in `thinking` block"
                    raise Refused(400, text)
                asked.thinking.append(block["thinking"])
                asked.signatures += 1
            case "redacted_thinking":
                pass
            case kind:
                raise Refused(400, f"{where}.{index}: Input tag '{kind}' is not expected here")


def _read_user(asked: Asked, blocks: Sequence[Mapping[str, Any]], at: int) -> None:
    before = asked.messages[-1] if asked.messages else None
    calls = before.calls if before is not None and before.role == "assistant" else []
    # Results that do not come first do not count as immediately after.
    first = [block["type"] for block in blocks].count("tool_result")
    results = [block for block in blocks[:first] if block.get("type") == "tool_result"]
    if lacking := missing_from(
        [call.id for call in calls], [block["tool_use_id"] for block in results]
    ):
        text = (
            f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(lacking)}. Each `tool_use` block must have a "
            "corresponding `tool_result` block in the next message."
        )
        raise Refused(400, text)
    said = asked.turn_of("user")
    names = {call.id: call.name for call in calls}
    for index, block in enumerate(blocks):
        where = f"messages.{at}.content.{index}"
        if block.get("type") == "tool_result":
            said.results.append(_result(asked, block, names, where))
        elif text := _user_block(asked, block, where):
            said.say(text)


def _result(
    asked: Asked, block: Mapping[str, Any], names: Mapping[str, str], where: str
) -> ToolResult:
    id_ = block["tool_use_id"]
    if id_ not in names:
        text = (
            f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {id_}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous "
            "message."
        )
        raise Refused(400, text)
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(_user_block(asked, part, where) for part in content)
    return ToolResult(id_, names[id_], content)


def _user_block(asked: Asked, block: Mapping[str, Any], where: str) -> str:
    """The block's text; a file's media type is noted."""
    match block.get("type"):
        case "text":
            return _text(block, where)
        case "image" | "document" as kind:
            asked.files.append(_file_type(kind, block.get("source") or {}, where))
            return ""
        case kind:
            raise Refused(400, f"{where}: Input tag '{kind}' found using 'type' is not expected")


def _file_type(kind: str, source: Mapping[str, Any], where: str) -> str:
    if source.get("type") == "url":
        return "url"
    media_type = source.get("media_type", "")
    allowed = IMAGE_TYPES if kind == "image" else ("application/pdf",)
    allowed = ("text/plain",) if source.get("type") == "text" else allowed
    if media_type not in allowed:
        names = " or ".join(f"'{name}'" for name in allowed)
        raise Refused(400, f"{where}.{kind}.source.base64.media_type: Input should be {names}")
    if not source.get("data"):
        raise Refused(400, f"{where}.{kind}.source.base64.data: Field required")
    return media_type


def _text(block: Mapping[str, Any], where: str) -> str:
    if not block.get("text"):
        raise Refused(400, f"{where}: text content blocks must be non-empty")
    return block["text"]


def _texts(blocks: Sequence[Mapping[str, Any]], where: str) -> Iterator[str]:
    for index, block in enumerate(blocks):
        yield _text(block, f"{where}.{index}")


def _refuse_unthought(messages: Sequence[Mapping[str, Any]]) -> None:
    """While tools are being used, thinking must go on as it was."""
    answers = [m for m in messages if m["role"] == "assistant" and isinstance(m["content"], list)]
    blocks = answers[-1]["content"] if answers else []
    kinds = [block["type"] for block in blocks]
    in_tools = isinstance(messages[-1]["content"], list) and any(
        block["type"] == "tool_result" for block in messages[-1]["content"]
    )
    if in_tools and kinds and kinds[0] not in ("thinking", "redacted_thinking"):
        text = (
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or "
            f"`redacted_thinking`, but found `{kinds[0]}`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block (preceeding the lastmost set of "
            "`tool_use` and `tool_result` blocks)."
        )
        raise Refused(400, text)


def _refuse_prefill(asked: Asked) -> None:
    last = asked.messages[-1]
    if last.calls:
        text = (
            f"messages.{len(asked.messages) - 1}: `tool_use` ids were found without "
            f"`tool_result` blocks immediately after: {last.calls[0].id}."
        )
        raise Refused(400, text)
    if asked.model.startswith(ADAPTIVE_ONLY):
        text = (
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message."
        )
        raise Refused(400, text)
    if last.text != last.text.rstrip():
        text = "messages: final assistant content cannot end with trailing whitespace"
        raise Refused(400, text)


def _refuse_what_it_cannot_do(asked: Asked) -> None:
    if "text-only" not in asked.model:
        return
    if asked.files:
        raise Refused(400, f"'{asked.model}' does not support image input.")
    if asked.tools:
        raise Refused(400, f"'{asked.model}' does not support tool use.")


def signature_of(thinking: str) -> str:
    return base64.b64encode(hashlib.sha256(b"fake" + thinking.encode()).digest()).decode()
