"""The text of API keys (SPEC TEN-3)."""

import hashlib
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.tenancy.key_format import (
    ALPHABET,
    SECRET_LENGTH,
    KeyRefused,
    checksum,
    mint,
    parse,
)


def test_a_minted_key_has_four_base62_parts_and_parses_to_what_is_stored() -> None:
    stored, token = mint()
    prefix, public_id, secret, check = token.split("_")
    assert prefix == "chk"
    assert all(set(part) <= set(ALPHABET) for part in (public_id, secret, check))
    assert stored.public_id == public_id
    assert stored.secret_hash == hashlib.sha256(secret.encode()).digest()
    assert parse(token) == stored


def test_a_secret_has_at_least_190_bits_and_no_two_are_alike() -> None:
    assert SECRET_LENGTH * math.log2(len(set(ALPHABET))) >= 190
    secrets = {mint()[1].split("_")[2] for _ in range(200)}
    assert len(secrets) == 200
    assert {len(secret) for secret in secrets} == {SECRET_LENGTH}


@given(st.text(max_size=80))
def test_the_checksum_is_the_crc32_in_six_base62_digits(body: str) -> None:
    value = 0
    for digit in checksum(body):
        value = value * 62 + ALPHABET.index(digit)
    assert value == zlib.crc32(body.encode())
    assert len(checksum(body)) == 6


@given(st.integers(0, 56), st.sampled_from(ALPHABET + "_-é\n "))
def test_a_key_with_any_character_changed_is_refused(position: int, other: str) -> None:
    _, token = mint()
    changed = token[:position] + other + token[position + 1 :]
    if changed == token:
        return
    with pytest.raises(KeyRefused, match="not a Chargehand key") as refused:
        parse(changed)
    assert refused.value.details["reason"] == "malformed"


@given(st.text(max_size=80))
def test_any_other_text_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        parse(text)
    assert refused.value.code == "Unauthenticated"
    assert len(text) < 8 or text not in refused.value.message


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-1]]
)
def test_a_key_copied_wrongly_is_refused(change) -> None:
    with pytest.raises(KeyRefused):
        parse(change(mint()[1]))
