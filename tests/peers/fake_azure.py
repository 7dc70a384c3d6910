"""Azure OpenAI: Chat Completions by deployment, with Azure's key, errors and content filter."""

from collections.abc import Iterator, Mapping
from typing import Any

import fake_openai
from fake_openai_chat import Chat
from fake_openai_responses import Responses
from fake_shapes import Answer, Asked, Refused, Request, Sent, sse

_BY_STATUS = {
    400: "The request is not valid.",
    401: (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
        "provide a valid key for an active subscription and use a correct regional API "
        "endpoint for your resource."
    ),
    403: "Public access is disabled. Please configure private endpoint.",
    408: "The operation was timeout.",
    429: (
        "Requests to the ChatCompletions_Create Operation have exceeded the call rate limit of "
        "your pricing tier. Please retry after 1 second."
    ),
    500: "The server had an error processing your request.",
    503: "The service is temporarily unable to process your request. Please try again later.",
    529: "The service is overloaded. Please try again later.",
}
_SAFE = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
_HATEFUL = {**_SAFE, "hate": {"filtered": True, "severity": "high"}}
_BLOCKED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management "
    "policy. Please modify your prompt and retry."
)


class Azure(Chat):
    """By deployment and ``api-version``, or under ``/openai/v1`` with the model in the body."""

    protocol = "azure"
    request_id_header = "apim-request-id"

    def authorize(self, request: Request, key: str) -> None:
        if key not in _keys(request.headers):
            raise Refused(401, "")

    def model_in(self, request: Request, document: Mapping[str, Any]) -> str:
        if not request.path.startswith("/openai/deployments/"):
            return _deployed(document.get("model"))
        if not request.query.get("api-version"):
            raise Refused(404, "Resource not found", "404")
        return _deployed(request.path.split("/")[3])

    def file_of(self, file: Mapping[str, Any], where: str) -> str:
        text = "Invalid Value: 'file'. This model does not support file content types."
        raise Refused(400, text, "invalid_value", where, kind="invalid_request_error")

    def error(self, refused: Refused, request_id: str) -> dict[str, Any]:
        if refused.kind or refused.param:
            return fake_openai.error(refused)
        message = refused.message or _BY_STATUS.get(refused.status, "")
        error: dict[str, Any] = {"code": refused.code or str(refused.status), "message": message}
        if refused.code == "content_filter":
            details = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _HATEFUL}
            error |= {"param": "prompt", "type": None, "status": 400, "innererror": details}
        return {"error": error}

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        _refuse_blocked(answer)
        filtered = [{"prompt_index": 0, "content_filter_results": _SAFE}]
        return super().whole(asked, answer) | {"prompt_filter_results": filtered}

    def choice(self, answer: Answer) -> dict[str, Any]:
        found = _HATEFUL if answer.finish == "content_filter" else _SAFE
        return super().choice(answer) | {"content_filter_results": found}

    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]:
        _refuse_blocked(answer)
        return self._after_filter(super().stream(asked, answer))

    def models(self) -> dict[str, Any]:
        able = {"chat_completion": True, "inference": True, "completion": False}
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "status": "succeeded",
                    "lifecycle_status": "generally-available",
                    "created_at": 1_700_000_000,
                    "capabilities": able,
                }
                for name in fake_openai.MODELS
            ],
        }

    def _after_filter(self, stream: Iterator[Sent]) -> Iterator[Sent]:
        """What Azure sends first: a chunk about the prompt, without choices."""
        filtered = [{"prompt_index": 0, "content_filter_results": _SAFE}]
        head = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        yield Sent(sse({**head, "prompt_filter_results": filtered}))
        yield from stream


class AzureResponses(Responses):
    """OpenAI's Responses with Azure's key, under ``/openai/v1`` or with an ``api-version``."""

    protocol = "azure"
    request_id_header = "apim-request-id"

    def authorize(self, request: Request, key: str) -> None:
        if key not in _keys(request.headers):
            raise Refused(401, _BY_STATUS[401], "401")


def _keys(headers: Mapping[str, str]) -> set[str]:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return {headers.get("api-key", ""), bearer} - {""}


def _deployed(name: Any) -> str:
    if not isinstance(name, str) or "no-such-model" in name:
        text = (
            "The API deployment for this resource does not exist. If you created the deployment "
            "within the last 5 minutes, please wait a moment and try again."
        )
        raise Refused(404, text, "DeploymentNotFound")
    return name


def _refuse_blocked(answer: Answer) -> None:
    if answer.refusal == "":
        raise Refused(400, _BLOCKED, "content_filter")
