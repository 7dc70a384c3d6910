"""Cursors: of one list, and of no other (SPEC API-1)."""

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.kernel.errors import Invalid
from chargehand.kernel.identifiers import new_id
from chargehand.web.paging import (
    decode_cursor,
    decode_name_cursor,
    encode_cursor,
    encode_name_cursor,
)


@given(st.uuids(), st.text(st.characters(codec="utf-8")))
def test_a_cursor_leads_back_to_its_id(last_id: UUID, list_name: str) -> None:
    cursor = encode_cursor(list_name, last_id)
    assert decode_cursor(list_name, cursor) == last_id
    assert set(cursor).isdisjoint("+/=&?#% ")


def test_no_cursor_is_the_first_page() -> None:
    assert decode_cursor("agents", None) is None


GOOD = encode_cursor("agents", new_id())


@pytest.mark.parametrize(
    "cursor",
    [
        encode_cursor("executions", new_id()),
        encode_cursor("agent", new_id()),
        base64.urlsafe_b64encode(new_id().bytes).decode().rstrip("="),
        GOOD[:-1],
        GOOD + "AAAA",
        GOOD + "?",
        "",
        "ä",
        "x" * 1000,
    ],
    ids=[
        "of-another-list",
        "of-a-list-of-a-name-alike",
        "without-its-mark",
        "cut",
        "with-more-behind-it",
        "with-another-letter",
        "empty",
        "not-ascii",
        "long",
    ],
)
def test_what_another_list_gave_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor("agents", cursor)
    assert refused.value.details["violations"] == [
        {"pointer": "/query/cursor", "message": "not a cursor of this list"}
    ]


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_a_cursor_of_names_leads_back_to_its_name(last_name: str, list_name: str) -> None:
    cursor = encode_name_cursor(list_name, last_name)
    assert decode_name_cursor(list_name, cursor) == last_name
    assert set(cursor).isdisjoint("+/=&?#% ")


def test_no_cursor_of_names_is_the_first_page() -> None:
    assert decode_name_cursor("models", None) is None


NAMED = encode_name_cursor("models", "openai:gpt")


@pytest.mark.parametrize(
    "cursor",
    [
        encode_name_cursor("agents", "openai:gpt"),
        NAMED[:-1],
        NAMED + "=",
        NAMED + "AAAA",
        encode_cursor("models", UUID(int=2**128 - 1)),
        "",
        "ä",
    ],
    ids=[
        "of-another-list",
        "cut",
        "padded",
        "with-more-behind-it",
        "no-utf-8",
        "empty",
        "no-ascii",
    ],
)
def test_what_no_list_of_names_gave_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        decode_name_cursor("models", cursor)
