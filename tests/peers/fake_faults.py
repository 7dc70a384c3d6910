"""What a fake provider does wrong on the wire: the ``@wire`` lines of a script. Pure.

``@wire NAME ARGUMENTS [times=N]``, each of them for the turn that it stands in and, with
``times``, only while the attempt is at most N:

``retry-after VALUE`` (the raw header of a @fail; ``ms=1500`` is the retry-after-ms header),
``garbage`` (a 200 that is not what it says), ``html STATUS`` (a proxy's error page),
``slow-headers 3s``, ``eof N`` (the stream ends politely but early, after N tokens),
``silence N`` (nothing more comes after N tokens), ``error-event TYPE [after=N]`` (an error inside
a 200 stream; ``overloaded``, ``rate_limit`` and ``server_error`` become the vendor's own word),
``refusal [TEXT]`` (without text the prompt is blocked, where the vendor knows that),
``thinking TEXT``, ``bad-arguments``, ``same-call-ids``, ``empty``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from chargehand.adapters import simulated_script as script

_LINE = re.compile(r"\s*@wire\s+([a-z-]+)(?:\s+(.*))?$")
_THEN = re.compile(r"\s*@then\s*$")
_TIMES = re.compile(r"\s*\btimes=(\d+)\s*$")
_AFTER = re.compile(r"\s*\bafter=(\d+)\s*$")


@dataclass(frozen=True)
class Wire:
    """The faults of one turn at one attempt."""

    retry_after: str | None = None
    garbage: bool = False
    html: int | None = None
    slow_headers_s: float = 0.0
    eof: int | None = None
    silence: int | None = None
    error_event: str | None = None
    error_after: int = 2
    refusal: str | None = None
    thinking: str | None = None
    bad_arguments: bool = False
    same_call_ids: bool = False
    empty: bool = False

    def breaks_at(self) -> int | None:
        """After how many tokens a stream goes wrong other than by a cut."""
        if self.error_event is not None:
            return self.error_after
        return self.eof if self.eof is not None else self.silence


def without_wire(text: str) -> str:
    """The script as the simulator's parser takes it, with its lines where they were."""
    return "\n".join("" if _is_wire(line) else line for line in text.split("\n"))


def wire_of(text: str, index: int, attempt: int) -> Wire:
    """The faults of the ``index``-th turn. Raises ScriptInvalid for any wrong line."""
    wire, turn = Wire(), 0
    for line in text.split("\n"):
        turn += bool(_THEN.match(line))
        if _is_wire(line):
            told = _told(Wire() if turn != index else wire, line, attempt)
            wire = told if turn == index else wire
    return wire


def _is_wire(line: str) -> bool:
    return line.lstrip().startswith("@wire")


def _told(wire: Wire, line: str, attempt: int) -> Wire:
    match = _LINE.match(line)
    if match is None or match[1] not in _READERS:
        known = ", ".join(_READERS)
        raise script.ScriptInvalid(f"{line.strip()!r}: write @wire and one of {known}")
    arguments = (match[2] or "").strip()
    times = _TIMES.search(arguments)
    arguments = _TIMES.sub("", arguments)
    try:
        told = _READERS[match[1]](wire, arguments)
    except ValueError as error:
        raise script.ScriptInvalid(f"{line.strip()!r}: {error}") from error
    return told if script.applies(int(times[1]) if times else None, attempt) else wire


def _read_slow_headers(wire: Wire, arguments: str) -> Wire:
    unit = 1000 if arguments.endswith("ms") else 1
    return replace(wire, slow_headers_s=float(arguments.rstrip("ms")) / unit)


def _read_error_event(wire: Wire, arguments: str) -> Wire:
    after = _AFTER.search(arguments)
    kind = _AFTER.sub("", arguments) or "server_error"
    return replace(wire, error_event=kind, error_after=int(after[1]) if after else 2)


_READERS: dict[str, Callable[[Wire, str], Wire]] = {
    "retry-after": lambda wire, value: replace(wire, retry_after=value),
    "garbage": lambda wire, _: replace(wire, garbage=True),
    "html": lambda wire, value: replace(wire, html=int(value)),
    "slow-headers": _read_slow_headers,
    "eof": lambda wire, value: replace(wire, eof=int(value)),
    "silence": lambda wire, value: replace(wire, silence=int(value)),
    "error-event": _read_error_event,
    "refusal": lambda wire, value: replace(wire, refusal=value),
    "thinking": lambda wire, value: replace(wire, thinking=value),
    "bad-arguments": lambda wire, _: replace(wire, bad_arguments=True),
    "same-call-ids": lambda wire, _: replace(wire, same_call_ids=True),
    "empty": lambda wire, _: replace(wire, empty=True),
}
