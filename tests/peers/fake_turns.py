"""Which answer is due, by the script in the user's text: what the simulated model does. Pure."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fake_faults import Wire, wire_of, without_wire
from fake_shapes import Answer, Asked, Finish, ToolCall, ToolResult, Usage, digest_of, tokens_in

from chargehand.adapters import simulated_script as script

TOKENS_PER_FILE = 256
NOT_JSON = '{"unfinished": '


@dataclass(frozen=True)
class Due:
    """The turn that is due and what goes wrong with it on the wire."""

    turn: script.Turn
    wire: Wire


def due(asked: Asked, default_script: str | None, attempt: int) -> Due:
    """The turn of the newest script in the user's text; of ``default_script`` where none is.

    The default script begins anew at the newest text of the user. Raises ScriptInvalid.
    """
    answered, since_text = 0, None
    for message in reversed(asked.messages):
        if message.role == "assistant":
            answered += 1
        elif script.holds_directives(message.text):
            return _due_in(message.text, answered, attempt)
        elif message.text and since_text is None:
            since_text = answered
    if default_script is not None:
        return _due_in(default_script, since_text or 0, attempt)
    return Due(script.Turn(paragraphs=(_introduction(asked),)), Wire())


def answer_of(asked: Asked, due: Due, seed: str, call_id: Callable[[str], str]) -> Answer:
    """The answer due; ``call_id`` dresses a digest up as one of the vendor's tool call ids."""
    text, stopped_by = _until_stop(script.text_of(due.turn, _results(asked)), asked.stop)
    refused = due.wire.refusal is not None
    text = "" if refused else text
    calls = () if refused else tuple(_calls(asked, due, seed, call_id))
    pieces, kept, full = _within(asked.max_tokens, script.pieces(text), calls)
    finish = _finish(due, full=full, stopped=stopped_by is not None, calls=bool(kept))
    return Answer(
        id=digest_of(seed, asked.model, asked.answers),
        created=int(time.time()),
        pieces=pieces,
        calls=kept,
        finish=finish,
        usage=_usage(asked, due, pieces, kept),
        thinking=due.wire.thinking,
        refusal=due.wire.refusal,
        stopped_by=stopped_by if finish == "stop_sequence" else None,
        empty=due.wire.empty,
        malformed_call=due.wire.bad_arguments and bool(kept),
    )


def _due_in(text: str, index: int, attempt: int) -> Due:
    turn = script.turn_of(without_wire(text), index)
    return Due(turn, wire_of(text, index, attempt))


def _introduction(asked: Asked) -> str:
    return (
        "[fake provider] I am a fake, not a language model. "
        f"I saw {len(asked.messages)} message(s), {len(asked.files)} file(s), "
        f"tools: {', '.join(asked.tools) or 'none'}."
    )


def _until_stop(text: str, stops: Iterable[str]) -> tuple[str, str | None]:
    stopped_by = None
    for stop in stops:
        if stop in text:
            text, stopped_by = text.partition(stop)[0], stop
    return text, stopped_by


def _results(asked: Asked) -> list[tuple[str, str]]:
    """The (tool, content) of every result since the last answer."""
    results = list[ToolResult]()
    for message in reversed(asked.messages):
        if message.role == "assistant":
            break
        results[:0] = message.results
    return [(result.tool, result.content) for result in results]


def _calls(asked: Asked, due: Due, seed: str, call_id: Callable[[str], str]) -> Iterable[ToolCall]:
    for index, call in enumerate(due.turn.calls):
        digest = "same" if due.wire.same_call_ids else digest_of(seed, asked.answers, index)
        arguments = NOT_JSON if due.wire.bad_arguments else call.arguments
        yield ToolCall(call_id(digest), call.tool, arguments)


def _within(
    limit: int | None, pieces: Iterable[str], calls: Iterable[ToolCall]
) -> tuple[tuple[str, ...], tuple[ToolCall, ...], bool]:
    """What has room within the limit, and whether something had none."""
    kept, spent = list[str](), 0
    for piece in pieces:
        spent += tokens_in(piece)
        if limit is not None and spent > limit:
            return tuple(kept), (), True
        kept.append(piece)
    called = list[ToolCall]()
    for call in calls:
        spent += tokens_in(call.name + call.arguments)
        if limit is not None and spent > limit:
            return tuple(kept), tuple(called), True
        called.append(call)
    return tuple(kept), tuple(called), False


def _finish(due: Due, *, full: bool, stopped: bool, calls: bool) -> Finish:
    if due.wire.refusal is not None:
        return "refusal"
    if due.turn.finish is not None:
        return due.turn.finish
    if full:
        return "length"
    return "tool_call" if calls else "stop_sequence" if stopped else "stop"


def _usage(asked: Asked, due: Due, pieces: Iterable[str], calls: Iterable[ToolCall]) -> Usage:
    told = due.turn.usage
    cached = told.get("cache_read", 0) + told.get("cache_write", 0)
    thought = tokens_in(due.wire.thinking or "")
    spent = sum(map(tokens_in, pieces)) + tokens_in(due.wire.refusal or "")
    spent += sum(tokens_in(call.name + call.arguments) for call in calls)
    reasoning = told.get("reasoning", thought)
    return Usage(
        input=told.get("input", max(_input(asked), cached)),
        output=told.get("output", max(spent + thought, reasoning)),
        cache_read=told.get("cache_read", 0),
        cache_write=told.get("cache_write", 0),
        reasoning=min(reasoning, told.get("output", reasoning)),
    )


def _input(asked: Asked) -> int:
    seen = len(asked.instructions) + asked.schemas
    for message in asked.messages:
        seen += len(message.text)
        seen += sum(len(call.name) + len(call.arguments) for call in message.calls)
        seen += sum(len(result.content) for result in message.results)
    return -(-seen // 4) + TOKENS_PER_FILE * len(asked.files)
