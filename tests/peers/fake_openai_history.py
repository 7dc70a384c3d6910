"""The history that a request to OpenAI's Responses brings, item by item. Pure."""

from collections.abc import Mapping
from typing import Any

import fake_openai
from fake_shapes import (
    Asked,
    Message,
    Refused,
    ToolCall,
    ToolResult,
)

ENCRYPTED = "gAAAA-fake-"
# Ids of items that the model made after reasoning begin so: such an item needs its reasoning.
REASONED_CALL, REASONED_MESSAGE = "fc_r", "msg_r"


class History:
    """The items of a request: which answers they make up, and whether they belong together."""

    def __init__(self, asked: Asked, *, stored: bool) -> None:
        self._asked = asked
        self._stored = stored
        self._pending = list[ToolCall]()
        self._reasoning: str | None = None
        self._reasoned = False

    def take(self, item: Mapping[str, Any], where: str) -> None:
        kind = item.get("type") or "message"
        if kind == "message" and item.get("role") == "assistant":
            kind = "answer"
        if kind not in ("reasoning", "answer", "function_call"):
            self._refuse_lone_reasoning()
            self._reasoned = False
        match kind:
            case "message":
                self._take_message(item, where)
            case "answer":
                self._take_answer(item, where)
            case "reasoning":
                self._take_reasoning(item, where)
            case "function_call":
                self._take_call(item)
            case "function_call_output":
                self._take_output(item, where)
            case _:
                text = (
                    f"Invalid value: '{kind}'. Supported values are: 'function_call', "
                    "'function_call_output', 'message', 'reasoning', and others."
                )
                raise Refused(400, text, "invalid_value", f"{where}.type")

    def end(self) -> None:
        self._refuse_lone_reasoning()
        self._refuse_uncovered()

    def _take_message(self, item: Mapping[str, Any], where: str) -> None:
        text = _content(self._asked, item.get("content"), where)
        if item.get("role") in ("system", "developer"):
            self._asked.instructions += text
        elif item.get("role") == "user":
            self._asked.turn_of("user").say(text)
        else:
            raise Refused(400, f"Invalid value: '{item.get('role')}'.", "invalid_value", where)

    def _take_answer(self, item: Mapping[str, Any], where: str) -> None:
        self._refuse_without_reasoning(item, REASONED_MESSAGE, "message")
        self._answer().say(_content(self._asked, item.get("content"), where))
        self._reasoning = None

    def _take_reasoning(self, item: Mapping[str, Any], where: str) -> None:
        id_, sealed = item.get("id", ""), item.get("encrypted_content")
        if sealed is not None and not sealed.startswith(ENCRYPTED):
            text = (
                "The encrypted content could not be verified. Reason: Encrypted content could "
                "not be decrypted or parsed."
            )
            raise Refused(400, text, "invalid_encrypted_content", where)
        if sealed is None and not self._stored:
            text = (
                f"Item with id '{id_}' not found. Items are not persisted when `store` is set "
                "to false. Try again with `store` set to true, or remove this item from your "
                "input."
            )
            raise Refused(404, text, None, "input")
        self._refuse_lone_reasoning()
        self._answer()
        self._reasoning, self._reasoned = id_, True
        self._asked.thinking += [part["text"] for part in item.get("summary", ())]
        self._asked.signatures += sealed is not None

    def _take_call(self, item: Mapping[str, Any]) -> None:
        self._refuse_without_reasoning(item, REASONED_CALL, "function_call")
        call = ToolCall(item["call_id"], item["name"], item["arguments"])
        self._answer().calls.append(call)
        self._pending.append(call)
        self._reasoning = None

    def _take_output(self, item: Mapping[str, Any], where: str) -> None:
        id_ = item.get("call_id")
        call = next((call for call in self._pending if call.id == id_), None)
        if call is None:
            text = f"No tool call found for function call output with call_id {id_}."
            raise Refused(400, text, None, "input")
        self._pending.remove(call)
        output = _content(self._asked, item.get("output"), where)
        self._asked.turn_of("user").results.append(ToolResult(call.id, call.name, output))

    def _answer(self) -> Message:
        if not self._asked.messages or self._asked.messages[-1].role == "user":
            self._refuse_uncovered()
        return self._asked.turn_of("assistant")

    def _refuse_uncovered(self) -> None:
        if self._pending:
            text = f"No tool output found for function call {self._pending[0].id}."
            raise Refused(400, text, None, "input")

    def _refuse_lone_reasoning(self) -> None:
        if self._reasoning is not None:
            text = (
                f"Item '{self._reasoning}' of type 'reasoning' was provided without its "
                "required following item."
            )
            raise Refused(400, text, None, "input")

    def _refuse_without_reasoning(self, item: Mapping[str, Any], prefix: str, kind: str) -> None:
        id_ = item.get("id") or ""
        if id_.startswith(prefix) and not self._reasoned:
            text = (
                f"Item '{id_}' of type '{kind}' was provided without its required 'reasoning' item."
            )
            raise Refused(400, text, None, "input")


def _content(asked: Asked, content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refused(400, f"Missing required parameter: '{where}.content'.", None, where)
    parts = enumerate(content)
    texts = [_part(asked, part, f"{where}.content[{index}]") for index, part in parts]
    return "\n".join(filter(None, texts))


def _part(asked: Asked, part: Mapping[str, Any], where: str) -> str:
    match part.get("type"):
        case "input_text" | "output_text":
            return part["text"]
        case "refusal":
            return part["refusal"]
        case "input_image":
            url = part.get("image_url")
            asked.files.append(fake_openai.image_type(url, f"{where}.image_url"))
        case "input_file":
            file = part.get("file_data"), part.get("filename")
            asked.files.append(fake_openai.file_type(*file, f"{where}.file_data"))
        case kind:
            text = (
                f"Invalid value: '{kind}'. Supported values are: 'input_text', 'input_image', "
                "'output_text', 'refusal', 'input_file', and others."
            )
            raise Refused(400, text, "invalid_value", where)
    return ""
