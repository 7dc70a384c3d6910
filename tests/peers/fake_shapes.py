"""What the five wire protocols have in common: a request as read, an answer as planned. Pure."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

Finish = Literal["stop", "stop_sequence", "length", "tool_call", "content_filter", "refusal"]

SPLIT_ARGUMENTS = 24
REASONING_MODELS = ("gpt-5", "gpt-6", "o3", "o4")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass(eq=False)
class Refused(Exception):
    """The vendor would answer this request with an error; ``code`` and ``param`` are its own."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: str

    def pieces(self) -> Iterator[str]:
        """The arguments as a model streams them."""
        text = self.arguments
        return (text[at : at + SPLIT_ARGUMENTS] for at in range(0, len(text), SPLIT_ARGUMENTS))


@dataclass(frozen=True)
class ToolResult:
    id: str
    tool: str
    content: str


@dataclass
class Message:
    """What one side said at one time, however many wire items it took."""

    role: Literal["user", "assistant"]
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    results: list[ToolResult] = field(default_factory=list[ToolResult])

    def say(self, text: str) -> None:
        self.text = f"{self.text}\n{text}" if self.text else text


@dataclass
class Asked:
    """A request that the vendor would accept. ``settings`` are as sent, under neutral names."""

    model: str = ""
    stream: bool = False
    instructions: str = ""
    messages: list[Message] = field(default_factory=list[Message])
    tools: list[str] = field(default_factory=list[str])
    schemas: int = 0
    schema: bool = False
    files: list[str] = field(default_factory=list[str])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    with_usage: bool = True
    with_encrypted_reasoning: bool = False
    thinking: list[str] = field(default_factory=list[str])
    """What came back of earlier answers' thinking; where it was signed, only with its signature."""
    signatures: int = 0

    @property
    def answers(self) -> int:
        return sum(message.role == "assistant" for message in self.messages)

    def turn_of(self, role: Literal["user", "assistant"]) -> Message:
        """The last message where it is of this role, else a new one."""
        if not self.messages or self.messages[-1].role != role:
            self.messages.append(Message(role))
        return self.messages[-1]


@dataclass(frozen=True)
class Usage:
    """Input includes what was read from and written to the cache, output the reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Answer:
    """``refusal`` may be empty: then the prompt itself was blocked, where a vendor tells that."""

    id: str
    created: int
    pieces: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    usage: Usage
    thinking: str | None = None
    refusal: str | None = None
    stopped_by: str | None = None
    empty: bool = False
    malformed_call: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Sent:
    """Bytes of a stream: how many tokens they carry, and whether the stream's end begins here."""

    data: bytes
    tokens: int = 0
    ends: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def fields(self) -> list[str]:
        """The names at the top of a JSON body; none of a body that is no object."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return []
        return sorted(document) if isinstance(document, dict) else []


class Dialect(Protocol):
    """One vendor's wire protocol. ``authorize`` and ``read`` raise Refused.

    ``read`` fills ``asked`` as it goes: what a refused request asked for can be told too.
    """

    protocol: str
    request_id_header: str

    def authorize(self, request: Request, key: str) -> None: ...
    def read(self, request: Request, asked: Asked) -> None: ...
    def call_id(self, digest: str) -> str: ...
    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]: ...
    def stream(self, asked: Asked, answer: Answer) -> Iterator[Sent]: ...
    def error(self, refused: Refused, request_id: str) -> dict[str, Any]: ...
    def error_event(self, kind: str, request_id: str) -> bytes: ...
    def models(self) -> dict[str, Any]: ...


def document_of(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(document, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return document


def sse(data: object, *, event: str | None = None, end: bytes = b"\n\n") -> bytes:
    head = b"event: " + event.encode() + b"\n" if event else b""
    return head + b"data: " + orjson.dumps(data) + end


def tokens_in(text: str) -> int:
    """The simulator's estimate: characters / 4, rounded up."""
    return -(-len(text) // 4)


def digest_of(*parts: object) -> str:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=12).hexdigest()


def names_in(text: str) -> frozenset[str]:
    return frozenset(text.split())


def media_type_of(url: str) -> str:
    """Of a data URL its media type; of another the word ``url``."""
    return url[5:].partition(";")[0] if url.startswith("data:") else "url"


def present(**settings: Any) -> dict[str, Any]:
    """The settings that were sent."""
    return {name: value for name, value in settings.items() if value is not None}


def missing_from(wanted: Iterable[str], given: Iterable[str]) -> list[str]:
    """The ids that lack an answer, each as often as it does."""
    return list((Counter(wanted) - Counter(given)).elements())


def schema_characters(tools: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(orjson.dumps(tool)) for tool in tools)


def loose_object(schema: Any) -> str | None:
    """Where the schema has an object that leaves room for more; None when it is closed."""
    if isinstance(schema, list):
        return next(filter(None, map(loose_object, schema)), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false"
    return next(filter(None, map(loose_object, schema.values())), None)


def optional_property(schema: Any) -> str | None:
    """Where the schema has a property that is not required; None when all are."""
    if isinstance(schema, list):
        return next(filter(None, map(optional_property, schema)), None)
    if not isinstance(schema, dict):
        return None
    lacking = sorted(set(schema.get("properties") or ()) - set(schema.get("required") or ()))
    if schema.get("type") == "object" and lacking:
        return (
            "'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing '{lacking[0]}'"
        )
    return next(filter(None, map(optional_property, schema.values())), None)
