"""What an installation has for its agents to use: capabilities and providers (SPEC TOL-1). Pure.

What is in force is passed in by the caller: an installation can add to ``AVAILABLE``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Capability:
    """A named group of tools; ``options_schema`` is a JSON Schema of its options."""

    name: str
    description: str
    options_schema: Mapping[str, Any]


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
)
TODO = Capability("todo", "Keep a list of what is to be done.", NO_OPTIONS)
METADATA = Capability("metadata", "Keep named values for the run.", NO_OPTIONS)

AVAILABLE: Mapping[str, Capability] = MappingProxyType(
    {capability.name: capability for capability in (FILES, TODO, METADATA)}
)


@dataclass(frozen=True, slots=True)
class Installed:
    """What agents may name: ``capabilities`` by name, and the ``providers`` that are connected.

    The simulated provider is always there and need not be among them.
    """

    capabilities: Mapping[str, Capability]
    providers: frozenset[str]
