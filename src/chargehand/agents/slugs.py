"""Slugs: the names of agents in addresses. Pure."""

import re
import unicodedata
from collections.abc import Collection
from itertools import count
from uuid import UUID

PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
LONGEST = 63
_ROOM_FOR_NUMBER = 7


def is_slug(text: str) -> bool:
    return len(text) <= LONGEST and re.fullmatch(PATTERN, text) is not None


def is_id(text: str) -> bool:
    """Whether routes, which take an id or a slug, read the text as an id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def slug_of(name: str) -> str:
    """A slug made of a name, with room for a number behind it; ``agent`` if nothing is left."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    words = re.findall("[a-z0-9]+", plain)
    return "-".join(words)[: LONGEST - _ROOM_FOR_NUMBER].strip("-") or "agent"


def first_free(base: str, taken: Collection[str]) -> str:
    """``base``, or ``base-2``, ``base-3``, … : the first that is not taken and is no id."""
    candidates = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(slug for slug in candidates if slug not in taken and not is_id(slug))
