"""Which texts a request may hold, and what is wrong with it, in words instead of patterns. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# Astral characters stand as themselves: patterns have no escape for them that all dialects know.
HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb" + "\U000e0000-\U000e007f"
)
"""Control, format and direction characters, for a class of a pattern: they are not seen, and turn
or split what is (UAX 9, Trojan Source), so that a name would not be what it looks like."""


@dataclass(frozen=True, slots=True)
class Form:
    """An annotation of ``str``: the pattern that it matches, whole, and what to say otherwise.

    Callers find the pattern in the OpenAPI document; ``words`` complete "It …".
    """

    pattern: str
    words: LiteralString

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _checked(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError("form", self.words)
        return text


ONE_LINE = Form(
    rf"^(?!.*[{HIDDEN}])\S(.*\S)?$",
    "must be one line, without control or format characters and without space at its ends",
)
NO_NUL = Form(r"^[^\x00]*$", "must not hold a NUL character")


def written_out(text: str) -> str:
    """For a moment in a query: as RFC 3339 has it, and not a bare number, which pydantic takes."""
    if re.match(r"\d{4}-\d\d-\d\d[Tt]", text) is None:
        raise PydanticCustomError(
            "form", "must be a date and time with its zone, like 2026-11-24T09:00:00Z"
        )
    return text


def is_plain(text: str) -> bool:
    """Whether no character of the text is one of ``HIDDEN``."""
    return re.search(f"[{HIDDEN}]", text) is None


def message_of(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, in our words where its own speak of Python."""
    return "unknown field" if error["type"] == "extra_forbidden" else str(error["msg"])
