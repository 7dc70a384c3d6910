"""The tools that one run may call: found, checked, called, the output capped (TOL-1, TOL-4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NoReturn

import jsonschema_rs
import orjson
from pydantic_ai.tools import ToolDefinition

from chargehand.kernel.errors import Violation, pointer
from chargehand.runtime.tools.asking import ask_user_tools, await_event_tools
from chargehand.runtime.tools.files import file_tools
from chargehand.runtime.tools.metadata import metadata_tools
from chargehand.runtime.tools.todo import todo_tools
from chargehand.runtime.tools.tool import Effect, Tool, ToolContext, ToolFailed

__all__ = [
    "TOOLS_OF",
    "CapabilityTools",
    "Effect",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "Toolset",
    "capped",
]

OUTPUT_CHARACTERS = 30_000
MESSAGE_CHARACTERS = 300
VIOLATIONS_SHOWN = 20

CapabilityTools = Callable[[Mapping[str, Any]], Sequence[Tool]]
"""From a capability's options to its tools."""

TOOLS_OF: Mapping[str, CapabilityTools] = MappingProxyType(
    {
        "files": file_tools,
        "todo": todo_tools,
        "metadata": metadata_tools,
        "ask_user": ask_user_tools,
        "await_event": await_event_tools,
    }
)


class Toolset:
    """The tools of an agent's capabilities (name → options), made by ``tools_of``.

    ``of_caller`` are those that the caller of the run answers for: the model is told of them, and
    that is all that is done with them here.
    """

    def __init__(
        self,
        capabilities: Mapping[str, Mapping[str, Any]],
        tools_of: Mapping[str, CapabilityTools] = TOOLS_OF,
        *,
        of_caller: Sequence[Mapping[str, Any]] = (),
        output_characters: int = OUTPUT_CHARACTERS,
    ) -> None:
        self._tools = {
            tool.name: tool
            for capability, options in capabilities.items()
            for tool in tools_of[capability](options)
        }
        self._of_caller = {tool["name"]: tool for tool in of_caller}
        self._output_characters = output_characters

    def definitions(self) -> list[ToolDefinition]:
        """What the model is told."""
        return [
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=tool.parameters,
            )
            for tool in self._tools.values()
        ] + [
            ToolDefinition(
                name=tool["name"],
                description=tool["description"],
                parameters_json_schema=tool["parameters"],
            )
            for tool in self._of_caller.values()
        ]

    def is_of_caller(self, name: str) -> bool:
        return name in self._of_caller

    def presented(self, answer: Any) -> str:
        """What came from outside, as a tool's answer: text as it is, anything else as JSON."""
        text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
        return capped(presentable(text), self._output_characters)

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    async def call(
        self, name: str, arguments: str | Mapping[str, Any] | None, context: ToolContext
    ) -> str:
        """Check the arguments (JSON text or an object) and run the tool.

        The answer is text that every sink can store, of at most about ``output_characters``.
        Raises ToolFailed for an unknown tool, for arguments that do not fit (naming every
        violation), and for what the tool itself reports.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise ToolFailed(_unknown(name, (*self._tools, *self._of_caller)))
        parsed = parse_arguments(tool, arguments)
        return capped(presentable(await tool.run(context, parsed)), self._output_characters)


def parse_arguments(tool: Tool, arguments: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments as an object that fits the tool's schema. Raises ToolFailed."""
    parsed = _json_of(tool, arguments) if isinstance(arguments, str) else arguments or {}
    if not isinstance(parsed, Mapping):
        raise ToolFailed(f"The arguments of {tool.name} must be a JSON object. {_AGAIN}")
    found = violations(tool.parameters, parsed)
    if found:
        raise ToolFailed(
            f"The arguments of {tool.name} do not fit: {_listed(found)}. {_AGAIN}",
            tool=tool.name,
            violations=[violation.as_json() for violation in found],
        )
    return dict(parsed)


_AGAIN = "Nothing was done. Correct the arguments and call it again."


def _json_of(tool: Tool, text: str) -> object:
    try:
        return orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise ToolFailed(
            f"The arguments of {tool.name} are not valid JSON: {error}. {_AGAIN}", tool=tool.name
        ) from error


def violations(schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[Violation]:
    """All that is wrong with a document; references to other documents are not followed."""
    validator = jsonschema_rs.Draft202012Validator(dict(schema), retriever=_refuse)
    return [
        Violation(pointer(error.instance_path), _short(error.message))
        for error in validator.iter_errors(dict(document))
    ]


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not read: a tool's schema must stand on its own")


def _short(message: str) -> str:
    cut = len(message) - MESSAGE_CHARACTERS
    return message if cut <= 0 else f"{message[:MESSAGE_CHARACTERS]}…"


def _listed(found: Sequence[Violation]) -> str:
    shown = [f"{v.pointer or 'the whole'}: {v.message}" for v in found[:VIOLATIONS_SHOWN]]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    if not names:
        return f"There is no tool {name!r}: this agent has no tools. Answer without one."
    nearest = get_close_matches(name, names, n=1)
    guess = f" Did you mean {nearest[0]}?" if nearest else ""
    return f"There is no tool {name!r}.{guess} There are: {', '.join(names)}."


def presentable(text: str) -> str:
    """Text without NUL and lone surrogates, which neither PostgreSQL nor JSON can hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def capped(text: str, characters: int) -> str:
    """The head (two thirds) and the tail of a long text, saying how much was cut between them."""
    cut = len(text) - characters
    if cut <= 0:
        return text
    head = characters * 2 // 3
    tail = text[len(text) - (characters - head) :]
    return f"{text[:head]}\n[… {cut:,} characters cut …]\n{tail}"
