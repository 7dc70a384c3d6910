"""Google's Gemini API on the wire."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from fake_gemini_requests import SIGNATURE, is_third, read_document
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

MODELS = ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3-pro-preview", "gemini-3-flash-preview")
_BY_STATUS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    408: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}
_EVENTS = {"overloaded": 503, "rate_limit": 429, "server_error": 500}
_FINISH = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "refusal": "SAFETY"}


class Gemini:
    protocol = "gemini"
    request_id_header = "x-gemini-request-id"

    def authorize(self, request: Request, key: str) -> None:
        given = request.headers.get("x-goog-api-key") or request.query.get("key")
        if not given:
            text = (
                "Method doesn't allow unregistered callers (callers without established "
                "identity). Please use API Key or other form of API consumer identity to call "
                "this API."
            )
            raise Refused(403, text)
        if given != key:
            text = f"API key not valid. Please pass a valid API key. Given: {given}"
            raise Refused(400, text, "API_KEY_INVALID")

    def call_id(self, digest: str) -> str:
        return f"call-{digest}"

    def models(self) -> dict[str, Any]:
        methods = ["generateContent", "countTokens"]
        return {
            "models": [
                {
                    "name": f"models/{name}",
                    "version": "001",
                    "displayName": name.replace("-", " ").title(),
                    "inputTokenLimit": 1_048_576,
                    "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": methods,
                }
                for name in MODELS
            ]
        }

    def error(self, refused: Refused, request_id: str) -> dict[str, Any]:
        status, message = _BY_STATUS.get(refused.status, ("UNKNOWN", "Unknown error."))
        error = {
            "code": refused.status,
            "message": refused.message or message,
            "status": refused.kind or status,
        }
        if details := _details(refused):
            error["details"] = details
        return {"error": error}

    def error_event(self, kind: str, request_id: str) -> bytes:
        code = _EVENTS.get(kind) or next(
            (code for code, (status, _) in _BY_STATUS.items() if status == kind), 500
        )
        return sse(self.error(Refused(code, ""), request_id), end=b"\r\n\r\n")

    def read(self, request: Request, asked: Asked) -> None:
        model, _, method = request.path.rpartition("/")[2].partition(":")
        asked.model, asked.stream = model, method == "streamGenerateContent"
        if "no-such-model" in model:
            text = (
                f"models/{model} is not found for API version v1beta, or is not supported for "
                f"{method}. Call ListModels to see the list of available models and their "
                "supported methods."
            )
            raise Refused(404, text)
        document = document_of(request.body)
        read_document(document, asked)

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        frame = _Frame(asked, answer)
        parts = [part for part, _ in _parts(asked, answer, merged=True)]
        return frame.document(parts, end=True)

    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]:
        frame, spent = _Frame(asked, answer), 0
        for part, tokens in _parts(asked, answer, merged=False):
            spent += tokens
            yield Sent(_event(frame.document([part], spent=spent)), tokens)
        # The signature of an answer without calls comes with the end, on a part without text.
        signed = {"thoughtSignature": _signature(answer)} if _signs_text(asked, answer) else {}
        yield Sent(_event(frame.document([{"text": "", **signed}], end=True)), ends=True)


def _event(document: Mapping[str, Any]) -> bytes:
    return sse(document, end=b"\r\n\r\n")


def _details(refused: Refused) -> list[dict[str, Any]]:
    details = list[dict[str, Any]]()
    if refused.code == "API_KEY_INVALID":
        about = {"service": "generativelanguage.googleapis.com"}
        info = {"reason": refused.code, "domain": "googleapis.com", "metadata": about}
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info})
    if refused.retry_after_s is not None:
        delay = {"retryDelay": f"{refused.retry_after_s:g}s"}
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", **delay})
    return details


class _Frame:
    """The documents of one answer: one, or one per chunk."""

    def __init__(self, asked: Asked, answer: Answer) -> None:
        self._answer = answer
        self._head = {"modelVersion": asked.model, "responseId": answer.id}

    def document(
        self, parts: Sequence[Any], *, spent: int | None = None, end: bool = False
    ) -> dict[str, Any]:
        answer = self._answer
        document: dict[str, Any] = {"usageMetadata": _usage(answer, spent), **self._head}
        if answer.empty:
            return document
        if answer.refusal == "":
            return document | {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []}}
        candidate: dict[str, Any] = {"index": 0}
        if parts and not answer.malformed_call:
            candidate["content"] = {"parts": parts, "role": "model"}
        if end:
            candidate |= _ending(answer)
        return document | {"candidates": [candidate]}


def _ending(answer: Answer) -> dict[str, Any]:
    if answer.malformed_call:
        message = f"Malformed function call: {answer.calls[0].name}({answer.calls[0].arguments}"
        return {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": message}
    told = {"finishReason": _FINISH.get(answer.finish, "STOP")}
    return told | ({"finishMessage": answer.refusal} if answer.refusal else {})


def _parts(asked: Asked, answer: Answer, *, merged: bool) -> Iterator[tuple[dict[str, Any], int]]:
    """The parts, each with its tokens; ``merged`` is the whole text in one."""
    if answer.empty or answer.malformed_call or answer.refusal == "":
        return
    if answer.thinking:
        yield {"text": answer.thinking, "thought": True}, tokens_in(answer.thinking)
    for piece in [answer.text] if merged and answer.pieces else answer.pieces:
        signed = {"thoughtSignature": _signature(answer)} if _signs_text(asked, answer) else {}
        yield {"text": piece, **(signed if merged else {})}, tokens_in(piece)
    for index, call in enumerate(answer.calls):
        given = {"name": call.name, "args": orjson.loads(call.arguments)}
        part: dict[str, Any] = {"functionCall": given}
        if is_third(asked.model):
            given["id"] = call.id
        if index == 0 and _signs(asked, answer):
            part["thoughtSignature"] = _signature(answer)
        yield part, tokens_in(call.name + call.arguments)


def _signs_text(asked: Asked, answer: Answer) -> bool:
    return bool(answer.pieces) and not answer.calls and _signs(asked, answer)


def _signs(asked: Asked, answer: Answer) -> bool:
    return bool(answer.thinking) or is_third(asked.model)


def _signature(answer: Answer) -> str:
    return base64.b64encode(SIGNATURE + answer.id.encode()).decode()


def _usage(answer: Answer, spent: int | None) -> dict[str, Any]:
    """Candidates are told without the thoughts, the prompt with what came from the cache."""
    usage = answer.usage
    visible = usage.output - usage.reasoning
    visible = visible if spent is None else min(spent, visible)
    told: dict[str, Any] = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": visible,
        "totalTokenCount": usage.input + visible + usage.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    }
    if usage.cache_read:
        told["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        told["thoughtsTokenCount"] = usage.reasoning
    return told
