"""The text of an API key (SPEC TEN-3). Pure, apart from the random numbers.

    chk_<public id>_<secret>_<checksum>

All parts are base62, so that a double click selects the whole. The checksum is the CRC-32 of what
is before it: a scanner tells a leaked key from a look-alike without asking us.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import Literal

from chargehand.kernel.errors import Unauthenticated

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_ID_LENGTH = 12
SECRET_LENGTH = 32
"""32 characters of 62 are 190.5 bits."""
CHECKSUM_LENGTH = 6

_PATTERN = re.compile(
    f"(chk_([0-9A-Za-z]{{{PUBLIC_ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}}))"
    f"_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)

Reason = Literal["missing", "malformed", "unknown", "revoked", "expired", "no_member"]


class KeyRefused(Unauthenticated):
    """The request's key is not one that lets it in; ``details['reason']`` says why."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message, reason=reason)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What of a key is needed to check it; the secret itself is not kept."""

    public_id: str
    secret_hash: bytes


def mint() -> tuple[PresentedKey, str]:
    """A fresh key: what is stored of it, and its text, which is shown once."""
    public_id, secret = _random(PUBLIC_ID_LENGTH), _random(SECRET_LENGTH)
    body = f"chk_{public_id}_{secret}"
    return PresentedKey(public_id, _hash(secret)), f"{body}_{checksum(body)}"


def parse(token: str) -> PresentedKey:
    """Raises KeyRefused for a text that cannot be one of our keys."""
    match = _PATTERN.fullmatch(token)
    if match is None or checksum(match[1]) != match[4]:
        raise KeyRefused(
            "The bearer token is not a Chargehand key. Keys look like `chk_…` and have four parts; "
            "check that it was copied whole.",
            "malformed",
        )
    return PresentedKey(match[2], _hash(match[3]))


def checksum(body: str) -> str:
    """The CRC-32 of the key's text before its last underscore, in base62, padded with zeros."""
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _hash(secret: str) -> bytes:
    # A plain hash is enough: 190 random bits leave nothing for a dictionary, and every request pays
    return hashlib.sha256(secret.encode()).digest()
