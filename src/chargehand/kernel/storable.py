"""Whether a JSON document can be stored and sent on as it is. Pure.

PostgreSQL's ``jsonb`` refuses NUL characters; text that is not Unicode, numbers that are not
finite and integers beyond 64 bits cannot be written as JSON that every peer reads.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from chargehand.kernel.errors import Violation, pointer

MAX_DEPTH = 64
SMALLEST, LARGEST = -(2**63), 2**64 - 1

_Path = tuple[Any, ...]
"""A linked list, so that a walk does not copy paths: ``(parent, key)``; ``()`` is the root."""


def storable_violations(document: Any, at: Sequence[str | int] = ()) -> list[Violation]:
    """What in the document cannot be stored; ``at`` is where it stands in the whole request."""
    found = list[Violation]()
    level: list[tuple[Any, _Path]] = [(document, ())]
    for _ in range(MAX_DEPTH):
        following = list[tuple[Any, _Path]]()
        for value, path in level:
            found += [_violation(at, path, fault) for fault in _faults(value)]
            following += _children(value, path)
        if not following:
            return found
        level = following
    return [*found, _violation(at, level[0][1], f"nested deeper than {MAX_DEPTH} levels")]


def clean(text: str) -> str:
    """The text with ``?`` for what is not Unicode, so that it can stand in an answer."""
    return text.encode("utf-8", "replace").decode()


def _children(value: Any, path: _Path) -> Iterator[tuple[Any, _Path]]:
    if isinstance(value, dict):
        return ((child, (path, key)) for key, child in value.items())
    if isinstance(value, list | tuple):
        return ((child, (path, index)) for index, child in enumerate(value))
    return iter(())


def _faults(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield from _text_faults(value, "holds")
        case dict():
            for key in value:
                yield from _text_faults(key, "has a key with")
        case bool():
            pass
        case int() if not SMALLEST <= value <= LARGEST:
            yield "an integer beyond 64 bits"
        case float() if not math.isfinite(value):
            yield "not a finite number"
        case _:
            pass


def _text_faults(text: str, verb: str) -> Iterator[str]:
    if "\0" in text:
        yield f"{verb} a NUL character"
    if not text.isascii() and clean(text) != text:
        yield f"{verb} text that is not Unicode (a lone surrogate)"


def _violation(at: Sequence[str | int], path: _Path, fault: str) -> Violation:
    parts = list[str | int]()
    while path:
        path, part = path
        parts.append(part)
    return Violation(clean(pointer([*at, *reversed(parts)])), fault)


def cleaned(value: Any) -> Any:
    """A JSON document with every text in it made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


def storable(text: str) -> str:
    """``text`` with what PostgreSQL cannot store replaced by U+FFFD."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")
