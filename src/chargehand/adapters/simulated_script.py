"""What the simulated model is told to do: directives in the user's text (MOD-1). Pure.

One directive a line; other lines are ordinary text. ``@then`` begins the next turn, that is the
next answer of the model within the run. A script is read anew at each call: which turn is due
follows from the history alone, so the simulator keeps no state.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

HELP = """\
@say TEXT; @json {...}; @tokens N; @quote N (first N lines of each tool result); \
@call TOOL {...}; @delay 300ms; @pace 5ms; \
@fail 429 [retry_after=1.5] [times=2] (or timeout, connection); @cut N [times=1]; \
@usage input=1 output=1 cache_read=0 cache_write=0 reasoning=0; \
@finish length|content_filter; @then (next turn)."""

MAX_TOKENS = 100_000
MAX_DELAY_S = 3600.0
FAILURES = ("400", "401", "403", "408", "429", "500", "503", "529", "timeout", "connection")
USAGE_KEYS = ("input", "output", "cache_read", "cache_write", "reasoning")

_DIRECTIVE = re.compile(r"\s*@([A-Za-z]\w*)(?:\s+(.*))?$")
_PIECE = re.compile(r"\S+\s*|\s+")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)")
_COUNT = re.compile(r"\d{1,9}")
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
# Three letters and a space are four characters: one token each by ``token_count``.
_FILLER = ("lor ", "ips ", "dol ", "sit ", "ame ", "con ", "adi ", "eli ")


class ScriptInvalid(ValueError):
    """A directive is unknown or its arguments are wrong; the message names line and remedy."""


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """``arguments`` is the JSON object's text, as a model would stream it."""

    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The call fails before its first token while its attempt is at most ``times``."""

    kind: str
    retry_after_s: float | None
    times: int | None


@dataclass(frozen=True, slots=True)
class Cut:
    """The stream breaks once ``tokens`` have come, while its attempt is at most ``times``."""

    tokens: int
    times: int | None


@dataclass(frozen=True, slots=True)
class Quote:
    """A paragraph made of the first ``lines`` of each tool result that the call brings."""

    lines: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the model."""

    paragraphs: tuple[str | Quote, ...] = ()
    calls: tuple[ScriptedCall, ...] = ()
    delay_s: float = 0.0
    pace_s: float = 0.0
    failure: Failure | None = None
    cut: Cut | None = None
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    finish: Literal["length", "content_filter"] | None = None


DONE = Turn(paragraphs=("Done.",))


def holds_directives(text: str) -> bool:
    return any(_DIRECTIVE.match(line) for line in text.split("\n"))


def turn_of(script: str, index: int) -> Turn:
    """The ``index``-th turn (from 0) of the script; past its end, or empty, it says "Done.".

    Raises ScriptInvalid for any wrong directive of the script, whatever its turn.
    """
    turns = parse(script)
    turn = turns[index] if index < len(turns) else DONE
    silent = not turn.paragraphs and not turn.calls
    return replace(turn, paragraphs=DONE.paragraphs) if silent else turn


def parse(script: str) -> tuple[Turn, ...]:
    """The script's turns, at least one. Raises ScriptInvalid."""
    turns = [Turn()]
    for number, line in enumerate(script.split("\n"), start=1):
        match = _DIRECTIVE.match(line)
        if match is None:
            continue
        name, arguments = match[1], (match[2] or "").strip()
        if name == "then":
            turns.append(Turn())
            continue
        try:
            turns[-1] = _reader(name)(turns[-1], arguments)
        except ScriptInvalid as error:
            raise ScriptInvalid(f"line {number}, {line.strip()[:80]!r}: {error}") from error
    return tuple(turns)


def text_of(turn: Turn, results: Sequence[tuple[str, str]]) -> str:
    """The turn's text; ``results`` are the (tool, content) that quotes are taken from."""
    shown = (
        _quotation(part.lines, results) if isinstance(part, Quote) else part
        for part in turn.paragraphs
    )
    return "\n\n".join(shown)


def pieces(text: str) -> list[str]:
    """The text in the pieces that it is streamed in: words with the space after them."""
    return _PIECE.findall(text)


def token_count(text: str) -> int:
    """The simulator's own measure of text, not a tokeniser: characters / 4, rounded up."""
    return -(-len(text) // 4)


def applies(times: int | None, attempt: int) -> bool:
    """Whether what is to happen ``times`` times (None: always) happens at this attempt."""
    return times is None or attempt <= times


def _quotation(lines: int, results: Sequence[tuple[str, str]]) -> str:
    if not results:
        return "No tool result to quote."
    return "\n".join(
        "\n".join([f"{tool}:", *(f"> {line}" for line in content.splitlines()[:lines])])
        for tool, content in results
    )


def _reader(name: str) -> "Callable[[Turn, str], Turn]":
    if name in _READERS:
        return _READERS[name]
    known = [*_READERS, "then"]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean @{near[0]}?" if near else "known are @" + ", @".join(known) + "."
    raise ScriptInvalid(f"the simulated model knows no directive @{name}; {hint}")


def _read_say(turn: Turn, arguments: str) -> Turn:
    return replace(turn, paragraphs=(*turn.paragraphs, arguments))


def _read_json(turn: Turn, arguments: str) -> Turn:
    _json(arguments)
    return _read_say(turn, arguments)


def _read_tokens(turn: Turn, arguments: str) -> Turn:
    count = _count(arguments, at_most=MAX_TOKENS)
    words = (_FILLER[index % len(_FILLER)] for index in range(count))
    return _read_say(turn, "".join(words).rstrip())


def _read_quote(turn: Turn, arguments: str) -> Turn:
    return replace(turn, paragraphs=(*turn.paragraphs, Quote(_count(arguments))))


def _read_call(turn: Turn, arguments: str) -> Turn:
    tool, _, given = arguments.partition(" ")
    given = given.strip() or "{}"
    if not tool or not isinstance(_json(given), dict):
        raise ScriptInvalid("write a tool's name and a JSON object, as in @call bash {...}")
    return replace(turn, calls=(*turn.calls, ScriptedCall(tool, given)))


def _read_delay(turn: Turn, arguments: str) -> Turn:
    return replace(turn, delay_s=_duration_s(arguments))


def _read_pace(turn: Turn, arguments: str) -> Turn:
    return replace(turn, pace_s=_duration_s(arguments))


def _read_fail(turn: Turn, arguments: str) -> Turn:
    kind, *rest = arguments.split() or [""]
    if kind not in FAILURES:
        raise ScriptInvalid(f"write what to fail with: one of {', '.join(FAILURES)}")
    options = _options(rest, ("retry_after", "times"))
    retry_after = options.get("retry_after")
    if retry_after is not None and not _SECONDS.fullmatch(retry_after):
        raise ScriptInvalid("write retry_after in seconds, as in retry_after=1.5")
    seconds = None if retry_after is None else float(retry_after)
    return replace(turn, failure=Failure(kind, seconds, _times(options)))


def _read_cut(turn: Turn, arguments: str) -> Turn:
    count, *rest = arguments.split() or [""]
    return replace(turn, cut=Cut(_count(count), _times(_options(rest, ("times",)))))


def _read_usage(turn: Turn, arguments: str) -> Turn:
    given = _options(arguments.split(), USAGE_KEYS)
    usage = {key: _count(value) for key, value in given.items()}
    cached = usage.get("cache_read", 0) + usage.get("cache_write", 0)
    if not usage or cached > usage.get("input", cached):
        raise ScriptInvalid("write input=N and so on; input includes cache_read and cache_write")
    if usage.get("reasoning", 0) > usage.get("output", usage.get("reasoning", 0)):
        raise ScriptInvalid("output includes reasoning, so it cannot be the smaller one")
    return replace(turn, usage=usage)


def _read_finish(turn: Turn, arguments: str) -> Turn:
    match arguments:
        case "length" | "content_filter":
            return replace(turn, finish=arguments)
        case _:
            raise ScriptInvalid("write @finish length or @finish content_filter")


_READERS: dict[str, Callable[[Turn, str], Turn]] = {
    "say": _read_say,
    "json": _read_json,
    "tokens": _read_tokens,
    "quote": _read_quote,
    "call": _read_call,
    "delay": _read_delay,
    "pace": _read_pace,
    "fail": _read_fail,
    "cut": _read_cut,
    "usage": _read_usage,
    "finish": _read_finish,
}


def _options(given: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    options = dict[str, str]()
    for option in given:
        name, _, value = option.partition("=")
        if name not in known:
            raise ScriptInvalid(f"write options as {', '.join(f'{key}=…' for key in known)}")
        options[name] = value
    return options


def _times(options: Mapping[str, str]) -> int | None:
    return _count(options["times"]) if "times" in options else None


def _count(text: str, *, at_most: int = 999_999_999) -> int:
    if not _COUNT.fullmatch(text) or int(text) > at_most:
        raise ScriptInvalid(f"write a whole number from 0 to {at_most}, not {text[:20]!r}")
    return int(text)


def _duration_s(text: str) -> float:
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else -1.0
    if not 0 <= seconds <= MAX_DELAY_S:
        raise ScriptInvalid("write a duration up to an hour, as in 300ms or 1.5s")
    return seconds


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScriptInvalid(f"what follows is not JSON ({error})") from error
