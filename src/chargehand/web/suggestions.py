"""The nearest of the names that there are, for messages. Pure."""

from collections.abc import Collection
from difflib import get_close_matches


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`` (did you mean 'name'?)``, to stand behind what is unknown; nothing where none is near."""
    near = get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
