"""Small facts that the model keeps for the rest of the run, apart from its messages."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from chargehand.runtime.tools.tool import Tool, ToolContext, ToolFailed

STATE = "metadata"
MAX_KEY_CHARACTERS = 100
MAX_VALUE_BYTES = 4_096
MAX_TOTAL_BYTES = 16_384

KEY: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS}

READ: dict[str, Any] = {
    "type": "object",
    "properties": {
        "keys": {
            "type": "array",
            "items": KEY,
            "maxItems": 200,
            "description": "Only these; all where it is left out.",
        }
    },
    "additionalProperties": False,
}

WRITE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "key": KEY,
        "value": {"description": "Any JSON value; null removes the key."},
    },
    "required": ["key", "value"],
    "additionalProperties": False,
}


def metadata_tools(_options: Mapping[str, Any]) -> Sequence[Tool]:
    return (
        Tool(
            name="metadata_read",
            description="Read what you noted with metadata_write earlier in this run.",
            parameters=READ,
            effect="none",
            run=metadata_read,
        ),
        Tool(
            name="metadata_write",
            description=(
                "Note a fact or an intermediate result under a key, for the rest of this run. A "
                f"value may take {MAX_VALUE_BYTES:,} bytes of JSON, all of them together "
                f"{MAX_TOTAL_BYTES:,}."
            ),
            parameters=WRITE,
            effect="none",
            run=metadata_write,
        ),
    )


async def metadata_read(context: ToolContext, arguments: dict[str, Any]) -> str:
    """The noted values as a JSON object; a key that was never written is named apart."""
    noted: dict[str, Any] = context.state.get(STATE, {})
    keys: list[str] = arguments.get("keys", list(noted))
    found = {key: noted[key] for key in keys if key in noted}
    missing = [key for key in keys if key not in noted]
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    return f"{text}\nNever written: {', '.join(missing)}" if missing else text


async def metadata_write(context: ToolContext, arguments: dict[str, Any]) -> str:
    """Set or remove one key of ``state["metadata"]``. Raises ToolFailed past the limits."""
    key, value = arguments["key"], arguments["value"]
    noted: dict[str, Any] = {k: v for k, v in context.state.get(STATE, {}).items() if k != key}
    if value is not None:
        noted[key] = value
        _check_size(f"The value of {key!r}", value, MAX_VALUE_BYTES)
        _check_size("All metadata together", noted, MAX_TOTAL_BYTES)
    context.state[STATE] = noted
    return f"{key} {'removed' if value is None else 'written'}; {len(noted)} keys in all."


def _check_size(what: str, value: object, limit: int) -> None:
    size = len(orjson.dumps(value))
    if size > limit:
        raise ToolFailed(
            f"{what} would take {size:,} bytes of JSON; {limit:,} are allowed. Nothing was "
            "changed. Note less, or remove a key by writing null to it."
        )
