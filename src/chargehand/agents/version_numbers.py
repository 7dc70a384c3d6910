"""Version numbers of agents (SPEC AGT-4): semantic, three parts, no suffixes. Pure."""

import re
from typing import Literal, NamedTuple

Part = Literal["major", "minor", "patch"]

LARGEST_PART = 999_999
PATTERN = r"^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$"


class Number(NamedTuple):
    """Ordered as numbers are: 1.10.0 comes after 1.9.0."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def bumped(self, part: Part) -> "Number":
        match part:
            case "major":
                return Number(self.major + 1, 0, 0)
            case "minor":
                return Number(self.major, self.minor + 1, 0)
            case "patch":
                return Number(self.major, self.minor, self.patch + 1)


FIRST = Number(1, 0, 0)


def find_number(text: str) -> Number | None:
    """The number that ``text`` writes in full, or None."""
    match = re.fullmatch(PATTERN, text, re.ASCII)
    return Number(*map(int, match.groups())) if match else None
