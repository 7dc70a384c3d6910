"""Tiers and the operator's file (SPEC TEN-6)."""

from pathlib import Path

import pytest

from chargehand.tenancy.tiers import Tier, Tiers, TiersFileInvalid


def loaded(folder: Path, text: str) -> Tiers:
    path = folder / "tiers.toml"
    path.write_text(text, "utf-8")
    return Tiers.load(path)


def test_the_built_in_tiers() -> None:
    tiers = Tiers.load()
    assert tiers.of("free") == Tier("free", 1, 10, 100_000_000)
    assert tiers.of("pro") == Tier("pro", 5, 100, 1_000_000_000)
    assert tiers.of("enterprise") == Tier("enterprise", 20, 1000, 10_000_000_000)


def test_an_unknown_tier_counts_as_free() -> None:
    assert Tiers().of("platinum") == Tiers().of("free")


def test_an_operators_tier_inherits_what_it_leaves_out(tmp_path: Path) -> None:
    tiers = loaded(
        tmp_path,
        '[tiers.platinum]\nextends = "gold"\nagents = 7\n'
        '[tiers.gold]\nextends = "pro"\nactive_runs = 50\n'
        "[tiers.small]\nactive_runs = 2\n",
    )
    assert tiers.of("gold") == Tier("gold", 50, 100, 1_000_000_000)
    assert tiers.of("platinum") == Tier("platinum", 50, 7, 1_000_000_000)
    assert tiers.of("small") == Tier("small", 2, 10, 100_000_000)
    assert tiers.of("enterprise").active_runs == 20


def test_a_built_in_tier_can_be_changed_and_others_follow(tmp_path: Path) -> None:
    tiers = loaded(
        tmp_path, '[tiers.free]\nactive_runs = 3\n[tiers.gold]\nextends = "free"\nagents = 1\n'
    )
    assert tiers.of("free") == Tier("free", 3, 10, 100_000_000)
    assert tiers.of("gold").active_runs == 3
    assert tiers.of("platinum").active_runs == 3


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("[tiers.gold]\nactive_run = 5\n", "tiers.gold.active_run", "did you mean active_runs?"),
        ("[tiers.gold]\nagents = 0\n", "tiers.gold.agents", "at least 1, not 0"),
        ("[tiers.gold]\nagents = true\n", "tiers.gold.agents", "whole number"),
        ("[tiers.gold]\nagents = 1.5\n", "tiers.gold.agents", "whole number"),
        ('[tiers.gold]\nextends = "prp"\n', "tiers.gold.extends", "did you mean pro?"),
        ("[tiers.gold]\nextends = 3\n", "tiers.gold.extends", "in quotes"),
        ('[tiers.gold]\nextends = "gold"\n', "tiers.gold.extends", "gold → gold"),
        (
            '[tiers.a]\nextends = "b"\n[tiers.b]\nextends = "a"\n',
            "tiers.b.extends",
            "a → b → a",
        ),
        ("[tiers]\ngold = 5\n", "tiers.gold", "a table of limits"),
        ("[tier.gold]\nagents = 5\n", "tier", "[tiers.<name>]"),
        ("tiers = 5\n", "tiers", "[tiers.<name>]"),
    ],
)
def test_a_wrong_file_is_refused_by_file_table_and_key(
    tmp_path: Path, text: str, place: str, says: str
) -> None:
    with pytest.raises(TiersFileInvalid) as refused:
        loaded(tmp_path, text)
    assert refused.value.details == {"file": str(tmp_path / "tiers.toml"), "place": place}
    assert str(tmp_path / "tiers.toml") in refused.value.message
    assert says in refused.value.message


@pytest.mark.parametrize("content", [None, b"[tiers.gold\n", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tiers.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TiersFileInvalid, match=r"tiers\.toml cannot be read"):
        Tiers.load(path)
