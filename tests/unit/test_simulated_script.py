"""The directives of the simulated model (MOD-1)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.adapters.simulated_script import (
    HELP,
    Cut,
    Failure,
    Quote,
    ScriptedCall,
    ScriptInvalid,
    Turn,
    applies,
    holds_directives,
    parse,
    pieces,
    text_of,
    token_count,
    turn_of,
)


def test_a_script_with_every_directive() -> None:
    turns = parse(
        """Please do this:
        @say One moment.
        @call bash {"command": "ls -l"}
        @call todo
        @delay 300ms
        @pace 1.5s
        @then
        @quote 2
        @say That was it.
        @json {"ok": true}
        @usage input=10 output=5 cache_read=4 cache_write=6 reasoning=5
        @finish length
        @fail 429 retry_after=1.5 times=2
        @cut 3 times=1
        """
    )
    assert turns == (
        Turn(
            paragraphs=("One moment.",),
            calls=(ScriptedCall("bash", '{"command": "ls -l"}'), ScriptedCall("todo", "{}")),
            delay_s=0.3,
            pace_s=1.5,
        ),
        Turn(
            paragraphs=(Quote(2), "That was it.", '{"ok": true}'),
            usage={"input": 10, "output": 5, "cache_read": 4, "cache_write": 6, "reasoning": 5},
            finish="length",
            failure=Failure("429", 1.5, 2),
            cut=Cut(3, 1),
        ),
    )


def test_the_help_names_every_directive() -> None:
    with pytest.raises(ScriptInvalid) as raised:
        parse("@zzzzzzzz")
    known = [word.strip(",.;") for word in str(raised.value).split() if word.startswith("@")]
    assert len(known) > 10
    assert [name for name in known[1:] if name not in HELP] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@say x", True),
        ("hello\n  @then", True),
        ("mail me at a@b.example", False),
        ("@alice: look", False),
        ("@ 3 pm", False),
        ("", False),
    ],
)
def test_what_counts_as_a_directive(text: str, found: bool) -> None:
    assert holds_directives(text) is found


def test_an_unknown_directive_names_line_and_nearest() -> None:
    with pytest.raises(ScriptInvalid, match=r"line 3, '@cal bash {}'.*did you mean @call\?"):
        parse("@say hi\n@then\n@cal bash {}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("@call", "a tool's name"),
        ("@call bash [1]", "JSON object"),
        ("@call bash {oops}", "not JSON"),
        ("@json " + "[" * 100_000, "not JSON"),
        ("@tokens many", "whole number"),
        ("@tokens 100001", "100000"),
        ("@tokens " + "9" * 6000, "whole number"),
        ("@delay 5", "300ms"),
        ("@delay 2h", "300ms"),
        ("@pace 3601s", "up to an hour"),
        ("@fail", "one of 400"),
        ("@fail 418", "one of 400"),
        ("@fail 429 after=1", "retry_after="),
        ("@fail 429 retry_after=-1", "in seconds"),
        ("@fail 429 retry_after=nan", "in seconds"),
        ("@fail 429 times=x", "whole number"),
        ("@cut", "whole number"),
        ("@usage", "input=N"),
        ("@usage input=1 cache_read=2", "includes"),
        ("@usage output=1 reasoning=2", "includes"),
        ("@usage tokens=3", "input="),
        ("@finish stop", "content_filter"),
    ],
)
def test_wrong_arguments_say_what_to_write(line: str, told: str) -> None:
    with pytest.raises(ScriptInvalid, match="line 2, ") as raised:
        parse(f"text\n{line}")
    assert told in str(raised.value)


def test_turns_are_taken_in_order_and_then_it_is_done() -> None:
    script = "@say one\n@then\n@say two"
    texts = [text_of(turn_of(script, index), []) for index in range(4)]
    assert texts == ["one", "two", "Done.", "Done."]


def test_a_turn_that_says_nothing_says_done_and_keeps_its_manners() -> None:
    turn = turn_of("@delay 1s", 0)
    assert (text_of(turn, []), turn.delay_s) == ("Done.", 1.0)


def test_a_turn_of_calls_only_stays_silent() -> None:
    assert text_of(turn_of("@call bash {}", 0), []) == ""


def test_a_wrong_later_turn_is_found_at_the_first() -> None:
    with pytest.raises(ScriptInvalid):
        turn_of("@say fine\n@then\n@wrong", 0)


def test_quotes_show_the_first_lines_of_each_result() -> None:
    results = [("bash", "a\nb\nc"), ("todo", "x")]
    text = text_of(turn_of("@say Seen:\n@quote 2", 0), results)
    assert text == "Seen:\n\nbash:\n> a\n> b\ntodo:\n> x"
    assert text_of(turn_of("@quote 2", 0), []) == "No tool result to quote."


def test_windows_line_ends_are_no_part_of_an_argument() -> None:
    assert text_of(turn_of("@say one\r\n@delay 1s\r\n", 0), []) == "one"


@given(st.integers(min_value=1, max_value=3000))
def test_n_tokens_are_n_tokens_and_n_pieces(count: int) -> None:
    text = text_of(turn_of(f"@tokens {count}", 0), [])
    assert [token_count(piece) for piece in pieces(text)] == [1] * count
    assert token_count(text) == count


@given(st.text())
def test_pieces_are_the_whole_text_and_never_cheaper(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert sum(token_count(piece) for piece in pieces(text)) >= token_count(text)


@given(st.lists(st.text(max_size=20).map("@say {}".format) | st.from_regex(r"@[a-z]{1,6} .{0,20}")))
def test_any_text_is_a_script_or_refused_with_a_line(lines: list[str]) -> None:
    try:
        outcome = f"{len(parse(chr(10).join(lines)))} turns"
    except ScriptInvalid as error:
        outcome = str(error)
    assert re.match(r"[1-9]\d* turns|line [1-9]\d*, ['\"]@", outcome)


def test_what_happens_n_times_stops_happening() -> None:
    assert [applies(2, attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert applies(None, 99)
