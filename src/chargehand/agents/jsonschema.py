"""JSON Schemas of tenants: checked, compiled and run under limits (draft 2020-12).

Nothing is ever fetched; patterns run in linear time (no look-around, no back-references).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from chargehand.agents.schema_graph import (
    DIALECT,
    cost_violations,
    read_graph,
    walks_by_depth,
)
from chargehand.kernel.errors import Invalid, Violation, pointer
from chargehand.kernel.storable import MAX_DEPTH, storable_violations

MAX_SCHEMA_BYTES = 64_000
MAX_CHECKS = 2_000_000
"""Of one instance; a check takes up to 0.1 µs, so that the event loop is held 0.2 s at worst."""
MAX_EXPLAINED_CHECKS = 10_000
"""Saying what is wrong costs some 300 times as much as finding that something is."""
CHEAP_WALKS = 20
MAX_VIOLATIONS = 100
MAX_MESSAGE = 300

_PATTERNS = RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000)
_META = Draft202012Validator({"$ref": DIALECT})


class InvalidSchema(Invalid):
    """A JSON Schema that cannot be used; ``details['violations']`` says where and why."""

    code = "InvalidSchema"


@dataclass(frozen=True, slots=True)
class SchemaValidator:
    """A compiled schema; ``walks`` is ``schema_graph.walks_by_depth`` of it."""

    compiled: Draft202012Validator
    walks: Sequence[int]


def schema_violations(schema: Mapping[str, Any], at: Sequence[str | int] = ()) -> list[Violation]:
    """All that is wrong with a schema, found without doing what would take long.

    ``at`` is where the schema stands in the request. For schemas that are storable.
    """
    prefix = pointer(at)
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        return [Violation(prefix, f"a schema has at most {MAX_SCHEMA_BYTES // 1000} kB")]
    graph = read_graph(schema)
    found = [*graph.violations, *_meta_violations(schema)] or cost_violations(graph)
    found = found or _compilation_violations(schema)
    return [Violation(prefix + one.pointer, one.message) for one in found[:MAX_VIOLATIONS]]


def compile_schema(schema: Mapping[str, Any]) -> SchemaValidator:
    """The validator of a schema, from a cache by content. Raises InvalidSchema."""
    return _compiled(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))


def violations_against(validator: SchemaValidator, instance: Any) -> list[Violation]:
    """Where ``instance`` does not fit, at most 100 places; empty if it fits.

    An instance that would take too long to check against this schema does not fit; of one that is
    large only the first violation is told, or only that there is one.
    """
    if unstorable := storable_violations(instance):
        return unstorable[:MAX_VIOLATIONS]
    checks = sum(map(_product, zip(_sizes(instance), _endless(validator.walks), strict=False)))
    if checks > MAX_CHECKS:
        return [Violation("", "nested too deeply, or too large, to be checked by this schema")]
    if validator.compiled.is_valid(instance):
        return []
    if checks <= MAX_EXPLAINED_CHECKS:
        return _explained(validator.compiled, instance)
    if max(validator.walks) <= CHEAP_WALKS:
        return [_first(validator.compiled, instance)]
    return [Violation("", "does not fit the schema, and is too large to say where")]


def _explained(compiled: Draft202012Validator, instance: Any) -> list[Violation]:
    errors = islice(compiled.iter_errors(instance), MAX_VIOLATIONS)
    return _once(map(_violation, errors))


def _first(compiled: Draft202012Validator, instance: Any) -> Violation:
    try:
        compiled.validate(instance)
    except ValidationError as error:
        return _violation(error)
    raise AssertionError("the instance is valid after all")


def _violation(error: ValidationError) -> Violation:
    return Violation(pointer(error.instance_path), _short(error.message))


def _once(violations: Iterator[Violation]) -> list[Violation]:
    return list(dict.fromkeys(violations))


def _meta_violations(schema: Mapping[str, Any]) -> list[Violation]:
    return _explained(_META, schema)


def _compilation_violations(schema: Mapping[str, Any]) -> list[Violation]:
    try:
        _compile(schema)
    except ValidationError as error:
        return [_violation(error)]
    return []


@lru_cache(maxsize=512)
def _compiled(text: bytes) -> SchemaValidator:
    schema = orjson.loads(text)
    if found := schema_violations(schema):
        raise InvalidSchema(
            f"The JSON Schema is not valid at {found[0].pointer or 'its top'}: {found[0].message}.",
            violations=[violation.as_json() for violation in found],
        )
    return SchemaValidator(
        _compile(schema), walks_by_depth(read_graph(schema), MAX_DEPTH, MAX_CHECKS + 1)
    )


def _compile(schema: Mapping[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(dict(schema), pattern_options=_PATTERNS, retriever=_refuse_to_fetch)


def _refuse_to_fetch(address: str) -> Any:
    raise ValueError(f"{address} is not fetched")


def _sizes(instance: Any) -> Iterator[int]:
    """How many values an instance has, by depth."""
    level = [instance]
    while level:
        yield len(level)
        level = [child for value in level for child in _members(value)]


def _members(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _endless(walks: Sequence[int]) -> Iterator[int]:
    return chain(walks, repeat(walks[-1]))


def _product(pair: tuple[int, int]) -> int:
    return pair[0] * pair[1]


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
