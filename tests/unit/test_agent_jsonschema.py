"""JSON Schemas of tenants, under limits."""

import gc
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.agents.jsonschema import (
    MAX_VIOLATIONS,
    InvalidSchema,
    compile_schema,
    schema_violations,
    violations_against,
)


def doubling(levels: int, keyword: str = "allOf") -> dict[str, Any]:
    """Each definition refers twice to the next: two to the power of ``levels`` walks."""
    definitions: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


def nested(levels: int, **outer: Any) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {**outer, "a": value}
    return value


def cpu_of(action: Any) -> tuple[float, Any]:
    """Seconds and result, without the garbage collection of what other tests left behind."""
    gc.disable()
    try:
        start = time.thread_time()
        result = action()
        return time.thread_time() - start, result
    finally:
        gc.enable()


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("levels", [28, 400])
def test_references_that_multiply_are_refused_at_once(keyword: str, levels: int) -> None:
    taken_s, found = cpu_of(lambda: schema_violations(doubling(levels, keyword)))
    assert taken_s < 0.2
    assert "multiply" in found[0].message


def test_references_that_multiply_a_little_are_allowed() -> None:
    schema = doubling(6)
    assert schema_violations(schema) == []
    validator = compile_schema(schema)
    assert violations_against(validator, "text") == []
    assert violations_against(validator, 1) != []


def test_distinct_members_do_not_multiply() -> None:
    """A tree has two branches at each level, yet each of its nodes is looked at once."""
    tree = {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}
    validator = compile_schema(tree)
    assert violations_against(validator, nested(60, b={})) == []
    assert [v.pointer for v in violations_against(validator, {"a": {"b": 3}})] == ["/a/b"]


def test_an_instance_that_makes_references_multiply_is_refused_at_once() -> None:
    member = {"properties": {"a": {"$ref": "#"}}}
    validator = compile_schema({"anyOf": [member, dict(member)], "required": ["a"]})
    assert violations_against(validator, {"a": 1}) == []
    taken_s, found = cpu_of(lambda: violations_against(validator, nested(60)))
    assert taken_s < 0.2
    assert "too deeply" in found[0].message


def unevaluated(levels: int, references: int) -> dict[str, Any]:
    """Each level asks what the next one leaves over, which looks at it once more."""
    definitions: dict[str, Any] = {
        f"d{n}": {
            "allOf": [{"$ref": f"#/$defs/d{n + 1}"} for _ in range(references)],
            "unevaluatedProperties": False,
        }
        for n in range(levels)
    }
    definitions[f"d{levels}"] = {"patternProperties": {"^a": {"type": "integer"}}}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize("references", [1, 2])
@pytest.mark.parametrize("levels", range(1, 20))
def test_what_is_unevaluated_is_never_looked_for_long(levels: int, references: int) -> None:
    schema = unevaluated(levels, references)
    taken_s, found = cpu_of(lambda: schema_violations(schema))
    assert taken_s < 0.2
    if found:
        assert levels * references > 5
        return
    validator = compile_schema(schema)
    assert violations_against(validator, {"a": 1}) == []
    many = {f"a{n}": n for n in range(5_000)}
    taken_s, _ = cpu_of(lambda: violations_against(validator, many))
    assert taken_s < 0.6


@pytest.mark.parametrize("depth", range(2, 40, 3))
def test_no_instance_of_a_grammar_takes_long(depth: int) -> None:
    """Errors under anyOf are collected at every level; they are explained only while cheap."""
    kinds = [
        {
            "properties": {"kind": {"const": name}, "args": {"items": {"$ref": "#"}}},
            "required": ["kind"],
        }
        for name in ("or", "and")
    ]
    validator = compile_schema({"anyOf": kinds})
    instance: Any = {}
    for _ in range(depth):
        instance = {"kind": "and", "args": [instance]}
    taken_s, found = cpu_of(lambda: violations_against(validator, instance))
    assert taken_s < 0.5
    assert found


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"type": "strng"}, "/type", "strng"),
        ({"properties": {"a": {"minimum": "1"}}}, "/properties/a/minimum", "number"),
        ({"$ref": "https://example.com/x.json"}, "/$ref", "within the schema"),
        ({"$ref": "file:///etc/passwd"}, "/$ref", "within the schema"),
        ({"items": {"$ref": "other.json#/a"}}, "/items/$ref", "within the schema"),
        ({"$ref": "#anchor"}, "/$ref", "no schema"),
        ({"$ref": "#/$defs/missing"}, "/$ref", "no schema"),
        ({"$ref": "#"}, "/$ref", "without going deeper"),
        ({"properties": {"a": {"$id": "x"}}}, "/properties/a/$id", "whole schema"),
        ({"$dynamicRef": "#x"}, "/$dynamicRef", "use $ref"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "2020-12"),
        ({"pattern": "("}, "/pattern", "regex"),
        ({"pattern": "(?=look)around"}, "/pattern", "regex"),
        ({"pattern": "((a{100}){100}){100}"}, "/pattern", "regex"),
        ({"description": "x" * 65_000}, "", "64 kB"),
    ],
)
def test_a_schema_that_cannot_be_used_says_where(
    schema: dict[str, Any], pointer: str, words: str
) -> None:
    found = schema_violations(schema)
    assert any(v.pointer == pointer and words in v.message for v in found), found
    with pytest.raises(InvalidSchema):
        compile_schema(schema)


def test_names_that_look_like_keywords_are_names() -> None:
    schema = {
        "properties": {"$ref": {"type": "string"}, "$id": {"type": "integer"}},
        "enum": [{"$ref": "x", "$id": 1}],
    }
    validator = compile_schema(schema)
    assert violations_against(validator, {"$ref": "x", "$id": 1}) == []


def test_pointers_of_definitions_are_unescaped() -> None:
    validator = compile_schema(
        {"$defs": {"a/b c~": {"type": "null"}}, "$ref": "#/$defs/a~1b%20c~0"}
    )
    assert violations_against(validator, None) == []
    assert violations_against(validator, 1) != []


def test_values_that_are_compared_one_by_one_count() -> None:
    objects = compile_schema({"items": {"enum": [{"a": n} for n in range(3_000)]}})
    assert violations_against(objects, [{"a": 2_999}] * 100) == []
    taken_s, found = cpu_of(lambda: violations_against(objects, [{"a": 2_999}] * 8_000))
    assert taken_s < 0.5
    assert "too large" in found[0].message
    words = compile_schema({"items": {"enum": [f"word {n}" for n in range(3_000)]}})
    assert violations_against(words, ["word 2999"] * 8_000) == []


def test_the_same_content_is_compiled_once() -> None:
    first = compile_schema({"type": "object", "required": ["a"]})
    assert compile_schema({"required": ["a"], "type": "object"}) is first


def test_violations_are_counted_up_to_a_limit() -> None:
    validator = compile_schema({"items": {"type": "string"}})
    assert len(violations_against(validator, list(range(2_000)))) == MAX_VIOLATIONS


def test_of_a_large_instance_the_first_violation_is_told() -> None:
    validator = compile_schema({"items": {"type": "string"}})
    taken_s, found = cpu_of(lambda: violations_against(validator, ["a", *range(30_000)]))
    assert taken_s < 0.5
    assert [violation.pointer for violation in found] == ["/1"]
    assert violations_against(validator, ["a"] * 30_000) == []


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 2**70, float("inf"), nested(100)])
def test_an_instance_that_cannot_be_stored_does_not_fit(value: Any) -> None:
    assert violations_against(compile_schema({}), value) != []


SUBSCHEMAS = st.recursive(
    st.sampled_from([{"type": "string"}, {}, *({"$ref": f"#/$defs/d{n}"} for n in range(4))]),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"properties": st.fixed_dictionaries({"a": inner, "b": inner})}),
        st.fixed_dictionaries({"items": inner, "unevaluatedProperties": st.just(False)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"additionalProperties": inner, "if": inner, "then": inner}),
    ),
    max_leaves=8,
)
SCHEMAS = st.fixed_dictionaries(
    {
        "$defs": st.fixed_dictionaries({f"d{n}": SUBSCHEMAS for n in range(4)}),
        "$ref": st.just("#/$defs/d0"),
    }
)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, st.integers(0, 40))
def test_no_schema_that_is_taken_takes_long(schema: dict[str, Any], depth: int) -> None:
    taken_s, found = cpu_of(lambda: schema_violations(schema))
    assert taken_s < 0.5
    if found:
        return
    validator = compile_schema(schema)
    instance = orjson.loads(orjson.dumps(nested(depth, b=[{}])))
    taken_s, _ = cpu_of(lambda: violations_against(validator, instance))
    assert taken_s < 1
