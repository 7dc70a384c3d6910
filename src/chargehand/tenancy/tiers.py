"""Tiers (SPEC TEN-6): what an organization may use. Pure, apart from reading the operator's file.

The file is TOML; a value that is left out is that of ``extends``, else of ``free``:

    [tiers.gold]
    extends = "pro"
    active_runs = 50
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from chargehand.kernel.errors import Invalid


class TiersFileInvalid(Invalid):
    """The tiers file cannot be read, or holds something that is no tier."""

    code = "InvalidSettings"


@dataclass(frozen=True, slots=True)
class Tier:
    """``active_runs`` per user; ``agents``, ``workspace_bytes`` (uploads) per organization."""

    name: str
    active_runs: int
    agents: int
    workspace_bytes: int


FREE = Tier("free", active_runs=1, agents=10, workspace_bytes=100_000_000)
PRO = Tier("pro", active_runs=5, agents=100, workspace_bytes=1_000_000_000)
ENTERPRISE = Tier("enterprise", active_runs=20, agents=1000, workspace_bytes=10_000_000_000)
BUILT_IN = {tier.name: tier for tier in (FREE, PRO, ENTERPRISE)}
LIMITS = tuple(field.name for field in fields(Tier) if field.name != "name")


class Tiers:
    """The tiers of this installation: the built-in ones and the operator's."""

    def __init__(self, defined: Mapping[str, Tier] = BUILT_IN) -> None:
        self._by_name = {**BUILT_IN, **defined}

    @classmethod
    def load(cls, path: Path | None = None) -> "Tiers":
        """Built-in tiers and those of a TOML file. Raises TiersFileInvalid: file, table, key."""
        return cls() if path is None else cls(_parsed(path, _read(path)))

    def of(self, name: str) -> Tier:
        """The tier of this name; an unknown one counts as ``free``."""
        return self._by_name.get(name, self._by_name["free"])


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TiersFileInvalid(
            f"The tiers file {path} cannot be read: {error}. "
            "Correct it, or leave CHARGEHAND_TIERS_FILE unset for the built-in tiers."
        ) from error
    for key in document:
        if key != "tiers":
            raise _wrong(path, key, "only tables named [tiers.<name>] belong in this file")
    return document.get("tiers", {})


def _parsed(path: Path, tables: Any) -> dict[str, Tier]:
    if not isinstance(tables, dict):
        raise _wrong(path, "tiers", "it must hold tables named [tiers.<name>]")
    for name, table in tables.items():
        _check_table(path, name, table)
    return {name: _resolved(path, name, tables, ()) for name in tables}


def _check_table(path: Path, name: str, table: Any) -> None:
    if not isinstance(table, dict):
        raise _wrong(path, f"tiers.{name}", "it must be a table of limits")
    for key, value in table.items():
        place = f"tiers.{name}.{key}"
        if key == "extends":
            if not isinstance(value, str):
                raise _wrong(path, place, "it must be the name of a tier, in quotes")
        elif key not in LIMITS:
            raise _wrong(path, place, f"no such limit{_nearest(key, (*LIMITS, 'extends'))}")
        elif type(value) is not int or value < 1:
            raise _wrong(path, place, f"it must be a whole number of at least 1, not {value!r}")


def _resolved(
    path: Path, name: str, tables: Mapping[str, Mapping[str, Any]], through: tuple[str, ...]
) -> Tier:
    """The tier with every value filled in; ``through`` are the tiers that extend it, for cycles."""
    base = _base(path, name, tables, through)
    given = {key: value for key, value in tables[name].items() if key != "extends"}
    return replace(base, name=name, **given)


def _base(
    path: Path, name: str, tables: Mapping[str, Mapping[str, Any]], through: tuple[str, ...]
) -> Tier:
    extends = tables[name].get("extends")
    if extends is None and name in BUILT_IN:
        return BUILT_IN[name]
    parent = extends or "free"
    place = f"tiers.{name}.extends"
    if parent in (name, *through):
        chain = " → ".join((*through, name, parent))
        raise _wrong(path, place, f"the tiers extend each other in a circle ({chain})")
    if parent in tables:
        return _resolved(path, parent, tables, (*through, name))
    if parent not in BUILT_IN:
        raise _wrong(path, place, f"no such tier{_nearest(parent, (*BUILT_IN, *tables))}")
    return BUILT_IN[parent]


def _nearest(word: str, known: tuple[str, ...]) -> str:
    nearest = get_close_matches(word, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; there are {', '.join(known)}"


def _wrong(path: Path, place: str, reason: str) -> TiersFileInvalid:
    return TiersFileInvalid(
        f"The tiers file {path} is not valid at {place}: {reason}.", file=str(path), place=place
    )
