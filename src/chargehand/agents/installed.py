"""What an installation has for its agents to use: capabilities and providers (SPEC TOL-1). Pure.

What is in force is passed in by the caller: an installation can add to ``AVAILABLE``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Capability:
    """A named group of ``tools``; ``options_schema`` is a JSON Schema of its options."""

    name: str
    description: str
    options_schema: Mapping[str, Any]
    tools: tuple[str, ...] = ()


NO_OPTIONS: Mapping[str, Any] = {"type": "object", "additionalProperties": False}

FILES = Capability(
    "files",
    "Read, list and search the files of the run's workspace.",
    {
        "type": "object",
        "properties": {
            "mode": {
                "enum": ["read"],
                "default": "read",
                "description": "Only reading is available in this version.",
            }
        },
        "additionalProperties": False,
    },
    ("read_file", "list_dir", "search_files"),
)
TODO = Capability("todo", "Keep a list of what is to be done.", NO_OPTIONS, ("todo_write",))
METADATA = Capability(
    "metadata",
    "Keep named values for the run.",
    NO_OPTIONS,
    ("metadata_read", "metadata_write"),
)

LONGEST_WAIT_S = 31_536_000
WAIT_OPTIONS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "deadline_s": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": LONGEST_WAIT_S,
            "default": 604_800,
            "description": "Seconds that it waits at most.",
        },
        "on_deadline": {
            "enum": ["fail", "continue", "cancel"],
            "default": "continue",
            "description": "What happens then; `continue` tells the model that nothing came.",
        },
    },
    "additionalProperties": False,
}
ASK_USER = Capability(
    "ask_user", "Ask a person, and wait for the answer.", WAIT_OPTIONS, ("ask_user",)
)
AWAIT_EVENT = Capability(
    "await_event", "Wait for an event of the organization.", WAIT_OPTIONS, ("await_event",)
)

AVAILABLE: Mapping[str, Capability] = MappingProxyType(
    {capability.name: capability for capability in (FILES, TODO, METADATA, ASK_USER, AWAIT_EVENT)}
)


def tools_of(chosen: Iterable[str], capabilities: Mapping[str, Capability]) -> frozenset[str]:
    """The names of the tools of the chosen capabilities."""
    return frozenset(
        tool for name in chosen if name in capabilities for tool in capabilities[name].tools
    )


@dataclass(frozen=True, slots=True)
class Installed:
    """What agents may name: ``capabilities`` by name, and the ``providers`` that are connected.

    The simulated provider is always there and need not be among them.
    """

    capabilities: Mapping[str, Capability]
    providers: frozenset[str]
