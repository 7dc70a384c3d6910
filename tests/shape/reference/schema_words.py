"""A JSON schema in words: what a value may be, and the fields of an object as a table."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.shape.reference.markdown import code, codes, prose, table

from chargehand.tenancy.permissions import SCOPES

Schema = Mapping[str, Any]

PREFIX = "#/components/schemas/"
UNREADABLE = re.compile(r"\\x00|\(\?")
"""Patterns that say in characters what a message says in words."""


def words(schema: Schema) -> str:
    """What a value may be, with links to the shapes that it refers to."""
    if "$ref" in schema:
        return link(schema["$ref"].removeprefix(PREFIX))
    if "anyOf" in schema:
        return " or ".join(words(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return "[scope](#scopes)" if values == list(SCOPES) else codes(values)
    if schema.get("type") == "array":
        size = ", ".join(_bounds(schema))
        return f"list of {words(schema['items'])}" + (f" ({size})" if size else "")
    return ", ".join([_kind(schema), *_bounds(schema)])


def _kind(schema: Schema) -> str:
    kind = schema.get("type", "any JSON")
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"object of {words(values)}" if "$ref" in values else "object of objects"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _bounds(schema: Schema) -> Iterator[str]:
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None:
            yield f"{_number(low)} to {_number(high)}{unit}"
        elif low is not None:
            yield f"from {_number(low)}{unit}"
        elif high is not None:
            yield f"up to {_number(high)}{unit}"
    if "exclusiveMinimum" in schema:
        yield f"above {_number(schema['exclusiveMinimum'])}"
    if "exclusiveMaximum" in schema:
        yield f"below {_number(schema['exclusiveMaximum'])}"
    if (pattern := schema.get("pattern")) and not UNREADABLE.search(pattern):
        yield code(pattern)


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def link(name: str) -> str:
    """A link to a shape; to what its items are, where it is a page of a list."""
    if name.endswith("Page"):
        return f"a [page](#page) of {link(name.removesuffix('Page'))}"
    return f"[{name}](#{name.lower()})"


def referred(schema: Any) -> Iterator[str]:
    """The shapes that a part of the document refers to."""
    if isinstance(schema, Mapping):
        if isinstance(name := schema.get("$ref"), str) and name.startswith(PREFIX):
            yield name.removeprefix(PREFIX)
        for key, value in schema.items():
            if key != "example":
                yield from referred(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from referred(one)


def fields(schema: Schema) -> str:
    """The fields of an object; whether each is needed is left out where all are."""
    required = set(schema.get("required", ()))
    rows = [
        (code(name), words(field), _needed(name in required, field), prose(field["description"]))
        for name, field in schema["properties"].items()
    ]
    head = ("field", "type", "default", "meaning")
    if required == schema["properties"].keys():
        head, rows = (head[0], head[1], head[3]), [(row[0], row[1], row[3]) for row in rows]
    return table(head, rows)


def _needed(required: bool, schema: Schema) -> str:
    return "**required**" if required else default(schema)


def default(schema: Schema) -> str:
    """What stands for a value that is left out."""
    if "default" not in schema:
        return "left out"
    value = schema["default"]
    if "$ref" in schema and isinstance(value, Mapping):
        return "its defaults"
    return code(json.dumps(value, ensure_ascii=False))
