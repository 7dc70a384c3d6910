"""What a JSON Schema costs to compile and to run, told before either is done. Pure.

``$ref`` makes a graph of a schema. Following it costs as many evaluations as there are walks
through the graph, and those double with each level that refers twice to the next: a schema of 2 kB
can keep a validator busy for hours. Here the walks are counted instead of made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal
from urllib.parse import unquote

from chargehand.kernel.errors import Violation, pointer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_WALKS = 5_000
"""Evaluations of one value, at most. A schema of 64 kB without ``$ref`` stays below it."""

Shape = Literal["one", "list", "map"]
Side = Literal["value", "property", "item", "nothing"]

# keyword → how it holds schemas, and what those are about: the same value, a member, an item, or
# (definitions) nothing by themselves.
_KEYWORDS: Mapping[str, tuple[Shape, Side]] = {
    "allOf": ("list", "value"),
    "anyOf": ("list", "value"),
    "oneOf": ("list", "value"),
    "not": ("one", "value"),
    "if": ("one", "value"),
    "then": ("one", "value"),
    "else": ("one", "value"),
    "dependentSchemas": ("map", "value"),
    "dependencies": ("map", "value"),
    "properties": ("map", "property"),
    "patternProperties": ("map", "property"),
    "additionalProperties": ("one", "property"),
    "unevaluatedProperties": ("one", "property"),
    "propertyNames": ("one", "property"),
    "prefixItems": ("list", "item"),
    "items": ("one", "item"),
    "contains": ("one", "item"),
    "unevaluatedItems": ("one", "item"),
    "contentSchema": ("one", "nothing"),
    "$defs": ("map", "nothing"),
    "definitions": ("map", "nothing"),
}
_BY_NAME = frozenset({"properties", "prefixItems"})
"""Their schemas are about one member each; those of the other keywords about any member."""

_REFUSED = {
    "$dynamicRef": "$dynamicRef is not supported; use $ref",
    "$recursiveRef": "$recursiveRef is not supported; use $ref",
}
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")

_Key = str | int | None
_Path = tuple[str | int, ...]


@dataclass(eq=False, slots=True)
class Node:
    """One subschema: what it says of the same value, and of its members and items.

    Beside its own check, ``base`` long, the validator looks ``weight`` times at what is said of
    the same value: again, to know what is unevaluated, which costs more than a plain check too.
    """

    path: _Path
    same: list["Node"] = field(default_factory=list["Node"])
    inside: list[tuple[Side, _Key, "Node"]] = field(default_factory=list[tuple[Side, _Key, "Node"]])
    base: int = 1
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Graph:
    """``nodes[0]`` is the whole schema; ``violations`` are references that cannot be followed."""

    nodes: Sequence[Node]
    violations: Sequence[Violation]


def read_graph(schema: Mapping[str, Any]) -> Graph:
    """The graph of a schema, which need not be valid but must be no deeper than recursion goes."""
    return _Reader(schema).graph()


class _Reader:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._nodes = dict[int, Node]()
        self._pending = list[tuple[Mapping[str, Any], Node]]()
        self._leaf = Node(())
        self._violations = list[Violation]()

    def graph(self) -> Graph:
        self._node(self._root, ())
        while self._pending:
            self._read(*self._pending.pop())
        return Graph([*self._nodes.values(), self._leaf], self._violations)

    def _node(self, schema: Mapping[str, Any], path: _Path) -> Node:
        node = self._nodes.get(id(schema))
        if node is None:
            node = self._nodes[id(schema)] = Node(path)
            self._pending.append((schema, node))
        return node

    def _read(self, schema: Mapping[str, Any], node: Node) -> None:
        if any(name in schema for name in _UNEVALUATED):
            node.base, node.weight = 10, 2
        node.base += _compared(schema.get("enum"))
        for keyword, (shape, side) in _KEYWORDS.items():
            for key, child in _held(schema.get(keyword), shape):
                where = node.path + ((keyword,) if shape == "one" else (keyword, key))
                found = self._leaf if isinstance(child, bool) else self._node(child, where)
                if side == "value":
                    node.same.append(found)
                elif side != "nothing":
                    node.inside.append((side, key if keyword in _BY_NAME else None, found))
        self._check_keywords(schema, node.path)
        if "$ref" in schema:
            self._follow(schema["$ref"], node)

    def _check_keywords(self, schema: Mapping[str, Any], path: _Path) -> None:
        for keyword, message in _REFUSED.items():
            if keyword in schema:
                self._refuse((*path, keyword), message)
        if path and "$id" in schema:
            self._refuse((*path, "$id"), "only the whole schema can have an $id")
        if schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
            self._refuse((*path, "$schema"), f"only {DIALECT} is supported")

    def _follow(self, reference: Any, node: Node) -> None:
        where = (*node.path, "$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            self._refuse(where, 'only references within the schema, such as "#/$defs/x"')
            return
        path = _path_of(reference)
        target = _find(self._root, path) if path is not None else None
        if isinstance(target, dict):
            node.same.append(self._node(target, path or ()))
        elif not isinstance(target, bool):
            self._refuse(where, f"{reference!r} points at no schema within this one")

    def _refuse(self, path: _Path, message: str) -> None:
        self._violations.append(Violation(pointer(path), message))


def _held(value: Any, shape: Shape) -> Iterator[tuple[Any, Any]]:
    """The subschemas that a keyword's value holds; what is none is the meta-schema's matter."""
    children: Iterable[tuple[Any, Any]] = ()
    if shape == "one":
        children = [(None, value)]
    elif shape == "list" and isinstance(value, list):
        children = enumerate(value)
    elif shape == "map" and isinstance(value, dict):
        children = value.items()
    return ((key, child) for key, child in children if isinstance(child, dict | bool))


def _compared(enum: Any) -> int:
    """How many values of an ``enum`` are compared one by one; plain ones are looked up."""
    values: list[Any] = enum if isinstance(enum, list) else []
    return sum(isinstance(value, dict | list) for value in values)


def _path_of(reference: str) -> _Path | None:
    """The path of a reference that is a JSON pointer (RFC 6901, section 6); None for another."""
    text = unquote(reference[1:])
    if text == "":
        return ()
    if not text.startswith("/"):
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


def _find(document: Any, path: _Path) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and _is_index(part) and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _is_index(part: str | int) -> bool:
    text = str(part)
    return text.isascii() and text.isdigit() and len(text) < 6


def cost_violations(graph: Graph) -> list[Violation]:
    """Why the schema must not be compiled: it never ends, or it takes too long."""
    try:
        walks = _walks_at_once(_in_order(graph))
    except CycleError as error:
        around: list[Node] = error.args[1]
        return [
            Violation(
                pointer((*around[0].path, "$ref")), "leads back to itself without going deeper"
            )
        ]
    most = max(graph.nodes, key=lambda node: walks[node])
    if walks[most] <= MAX_WALKS:
        return []
    reason = (
        f"its references multiply to more than {MAX_WALKS} checks of one value; "
        "refer to each definition once"
    )
    return [Violation(pointer(most.path), reason)]


def walks_by_depth(graph: Graph, max_depth: int, ceiling: int) -> list[int]:
    """How often a validator may look at one value, by its depth in the instance.

    The list is shorter than ``max_depth`` where the rest would be like its last entry. For graphs
    without cost violations; counts stop at ``ceiling``.
    """
    order = _in_order(graph)
    level = _walks_at_once(order)
    found = [level[graph.nodes[0]]]
    while len(found) < max_depth:
        deeper = dict[Node, int]()
        for node in order:
            same = node.weight * sum(deeper[child] for child in node.same)
            deeper[node] = min(ceiling, same + _inside(node, level))
        if deeper == level:
            break
        level = deeper
        found.append(level[graph.nodes[0]])
        if not any(level.values()):
            break
    return found


def _in_order(graph: Graph) -> list[Node]:
    """Nodes after those that they hold for the same value. Raises CycleError."""
    return list(TopologicalSorter({node: node.same for node in graph.nodes}).static_order())


def _walks_at_once(order: Sequence[Node]) -> dict[Node, int]:
    walks = dict[Node, int]()
    for node in order:
        # Beyond the limit only "too many" counts, and numbers of a thousand digits would not end.
        known = node.base + node.weight * sum(walks[child] for child in node.same)
        walks[node] = min(known, MAX_WALKS + 1)
    return walks


def _inside(node: Node, level: Mapping[Node, int]) -> int:
    """The walks into the costliest member or item: those by name exclude one another."""
    if not node.inside:
        return 0
    return max(_side(node, "property", level), _side(node, "item", level))


def _side(node: Node, side: Side, level: Mapping[Node, int]) -> int:
    any_member, by_name = 0, Counter[_Key]()
    for its_side, key, child in node.inside:
        if its_side == side and key is None:
            any_member += level[child]
        elif its_side == side:
            by_name[key] += level[child]
    return any_member + max(by_name.values(), default=0)
