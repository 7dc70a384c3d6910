"""Whether the vendors answer: each is asked for the list of its models (SPEC MOD-2).

The question costs nothing, needs a good key, and is plain HTTP: no SDK is imported for it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2
from pydantic import TypeAdapter, ValidationError

from chargehand.adapters.vendors import Connection
from chargehand.catalog.availability import CHECK_TIMEOUT_S, Availability

_LONGEST_LIST_BYTES = 2_000_000


class _Question(NamedTuple):
    url: str
    headers: Mapping[str, str]


def _openai(vendor: Connection) -> _Question:
    key = {} if vendor.api_key is None else {"Authorization": f"Bearer {vendor.api_key}"}
    return _Question(f"{vendor.url}/models", key)


def _azure(vendor: Connection) -> _Question:
    path = f"models?api-version={vendor.api_version}" if vendor.api_version else "v1/models"
    return _Question(f"{vendor.url}/openai/{path}", {"api-key": vendor.api_key or ""})


def _anthropic(vendor: Connection) -> _Question:
    headers = {"x-api-key": vendor.api_key or "", "anthropic-version": "2023-06-01"}
    return _Question(f"{vendor.url}/v1/models?limit=1000", headers)


def _google(vendor: Connection) -> _Question:
    url = f"{vendor.url}/v1beta/models?pageSize=1000"
    return _Question(url, {"x-goog-api-key": vendor.api_key or ""})


_QUESTIONS: dict[str, Callable[[Connection], _Question]] = {
    "openai": _openai,
    "openai-chat": _openai,
    "openai-compatible": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "google": _google,
}

_Names = TypeAdapter(list[dict[str, Any]])


class VendorChecks:
    """The port's checks, over the installation's own connections (vendor → connection).

    Vendors with one address and one key are one peer, and asked once.
    """

    def __init__(
        self, vendors: Mapping[str, Connection], *, timeout_s: float = CHECK_TIMEOUT_S
    ) -> None:
        self._questions = {name: _QUESTIONS[name](vendor) for name, vendor in vendors.items()}
        self._timeout_s = timeout_s

    async def check(self) -> Mapping[str, Availability]:
        once = list({question.url: question for question in self._questions.values()}.values())
        async with httpx2.AsyncClient(timeout=self._timeout_s) as http:
            found = await asyncio.gather(*(_check(http, one, self._timeout_s) for one in once))
        answers = dict(zip((question.url for question in once), found, strict=True))
        return {name: answers[question.url] for name, question in self._questions.items()}


async def _check(http: httpx2.AsyncClient, question: _Question, timeout_s: float) -> Availability:
    began = time.monotonic()
    models, problem = tuple[str, ...](), None
    try:
        # Of the whole answer, however slowly it drips in.
        async with asyncio.timeout(timeout_s):
            models = await _listed(http, question)
    except TimeoutError:
        problem = f"no answer within {timeout_s:g} s"
    except httpx2.HTTPStatusError as error:
        problem = _refusal(error.response.status_code)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        problem = f"{error or type(error).__name__}"[:200]
    latency_ms = round((time.monotonic() - began) * 1000)
    return Availability(
        available=problem is None, latency_ms=latency_ms, problem=problem, models=models
    )


async def _listed(http: httpx2.AsyncClient, question: _Question) -> tuple[str, ...]:
    """The names in a list of models: OpenAI's and Anthropic's ``data``, Google's ``models``."""
    async with http.stream("GET", question.url, headers=question.headers) as response:
        response.raise_for_status()
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LONGEST_LIST_BYTES:
                raise ValueError("its list of models is too long to be one")
    return _names(body)


def _names(body: bytes) -> tuple[str, ...]:
    try:
        document = TypeAdapter(dict[str, Any]).validate_json(body)
        entries = _Names.validate_python(document.get("data", document.get("models")))
    except ValidationError:
        raise ValueError("what answers there is no list of models: check the URL") from None
    names = (str(entry.get("id") or entry.get("name") or "") for entry in entries)
    return tuple(name.removeprefix("models/") for name in names if name)


def _refusal(status: int) -> str:
    if status in (400, 401, 403):  # 400: Google's word for a key that is none
        return f"it refuses the key (status {status})"
    if status == 404:
        return "there is no list of models at that URL (status 404): check the URL"
    return f"it answers with status {status}"
