"""A fake of the model providers: a process that speaks their wire protocols and obeys a script.

``python fake_provider.py --log FILE [--script FILE] [--port N] [--key K]`` prints its port and
listens on 127.0.0.1 only, until SIGTERM or, with ``--until-stdin-ends``, as long as who started it
holds its standard input. It answers OpenAI (``/v1``), what is compatible with it
(``/compat/v1``, without a key), Anthropic (``/v1/messages``), Gemini (``/v1beta``) and Azure
(``/openai``), as the script in the user's text tells (``chargehand.adapters.simulated_script``,
and ``fake_faults`` for what goes wrong on the wire); ``--script`` is for texts without one.

The log has a JSON line when a call starts and one when it ends: ``call_id``, ``attempt``,
``event`` (``started``; then ``answered``, ``failed``, or ``aborted``: the client went away before
the end), ``protocol``, ``path``, ``model``, ``stream``, ``messages`` (how many), ``tools``,
``schema``, ``files``, ``settings``, ``thinking`` and ``signatures`` (what came back of earlier
answers), ``status`` (of the answer) and ``at``. It never holds a key.
"""

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import orjson
import uvloop
from fake_anthropic import Anthropic
from fake_azure import Azure, AzureResponses
from fake_gemini import Gemini
from fake_http import Connection, Reply
from fake_openai_chat import Chat, Compatible
from fake_openai_responses import Responses
from fake_shapes import Answer, Asked, Dialect, Refused, Request, digest_of
from fake_turns import Due, answer_of, due

from chargehand.adapters import simulated_script as script

KEY = "fake-key"
Outcome = Literal["answered", "failed", "aborted"]

ROUTES: tuple[tuple[str, str, Dialect], ...] = (
    ("POST", r"/v1/chat/completions", Chat()),
    ("POST", r"/v1/responses", Responses()),
    ("POST", r"/v1/messages", Anthropic()),
    ("POST", r"/v1beta/models/[^/:]+:(streamG|g)enerateContent", Gemini()),
    ("POST", r"/compat/v1/chat/completions", Compatible()),
    ("POST", r"/openai/deployments/[^/]+/chat/completions", Azure()),
    ("POST", r"/openai/v1/chat/completions", Azure()),
    ("POST", r"/openai(/v1)?/responses", AzureResponses()),
    ("GET", r"/v1/models", Chat()),
    ("GET", r"/v1beta/models", Gemini()),
    ("GET", r"/compat/v1/models", Compatible()),
    ("GET", r"/openai(/v1)?/models", Azure()),
)
_HTML = (
    b"<html>\r\n<head><title>%d</title></head>\r\n<body>\r\n<center><h1>%d</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_GARBAGE = b"<!-- upstream said nothing of use -->\n{]"
_GARBAGE_EVENT = b'event: message_start\ndata: {"id": "chatcmpl-\n\n'


@dataclass
class Call:
    """One request on its way to an answer."""

    dialect: Dialect
    request: Request
    reply: Reply
    asked: Asked

    @property
    def id(self) -> str:
        return self.request.headers.get("x-client-request-id", "")

    @property
    def attempt(self) -> int:
        return int(self.request.headers.get("x-chargehand-attempt", "1"))

    @property
    def request_id(self) -> str:
        return f"req_{digest_of(self.id, self.attempt, time.monotonic_ns())}"

    def headers(self, content_type: str = "application/json", **more: str) -> dict[str, str]:
        return {
            "content-type": content_type,
            self.dialect.request_id_header: self.request_id,
            **more,
        }

    def refuse(self, refused: Refused, more: Mapping[str, str] | None = None) -> Outcome:
        body = orjson.dumps(self.dialect.error(refused, self.request_id))
        self.reply.whole(refused.status, body, {**self.headers(), **(more or {})})
        return "failed"


class Log:
    """Whole lines only, even of several processes: each is one append."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, call: Call) -> None:
        asked = call.asked
        line = {
            "call_id": call.id,
            "attempt": call.attempt,
            "event": event,
            "protocol": call.dialect.protocol,
            "path": call.request.path,
            "model": asked.model,
            "stream": asked.stream,
            "messages": len(asked.messages),
            "tools": asked.tools,
            "schema": asked.schema,
            "files": asked.files,
            "settings": asked.settings,
            "instructions": asked.instructions,
            "thinking": asked.thinking,
            "signatures": asked.signatures,
            "fields": call.request.fields(),
            "status": call.reply.status,
            "at": time.time(),
        }
        os.write(self._file, orjson.dumps(line) + b"\n")


class FakeProvider:
    def __init__(self, log: Log, *, key: str, default_script: str | None) -> None:
        self._log = log
        self._key = key
        self._default_script = default_script

    async def answer(self, request: Request, reply: Reply) -> None:
        dialect = _dialect_of(request)
        if dialect is None:
            reply.whole(404, b'{"error": "no such route"}', {"content-type": "application/json"})
        elif request.method == "GET":
            self._list_models(Call(dialect, request, reply, Asked()))
        else:
            await self._converse(Call(dialect, request, reply, Asked()))
        reply.finish()

    def _list_models(self, call: Call) -> None:
        try:
            call.dialect.authorize(call.request, self._key)
        except Refused as refused:
            call.refuse(refused)
        else:
            call.reply.whole(200, orjson.dumps(call.dialect.models()), call.headers())

    async def _converse(self, call: Call) -> None:
        refused: Refused | None = None
        try:
            call.dialect.authorize(call.request, self._key)
            call.dialect.read(call.request, call.asked)
            planned = due(call.asked, self._default_script, call.attempt)
        except Refused as error:
            refused = error
        except script.ScriptInvalid as error:
            refused = Refused(400, str(error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            refused = Refused(400, f"This request is not formed as it should: {error!r}")
        self._log.note("started", call)
        outcome: Outcome = "aborted"
        try:
            outcome = call.refuse(refused) if refused else await _perform(call, planned)
        except Refused as error:
            outcome = call.refuse(error)
        finally:
            self._log.note(outcome, call)


def _dialect_of(request: Request) -> Dialect | None:
    anthropic = request.headers.keys() & {"x-api-key", "anthropic-version"}
    if request.path == "/v1/models" and anthropic:
        return Anthropic()
    return next(
        (
            dialect
            for method, path, dialect in ROUTES
            if method == request.method and re.fullmatch(path, request.path)
        ),
        None,
    )


async def _perform(call: Call, due: Due) -> Outcome:
    """Answer, or fail, as the turn tells. Cancelled when the client goes away."""
    failure, wire = due.turn.failure, due.wire
    await asyncio.sleep(wire.slow_headers_s)
    if failure is not None and script.applies(failure.times, call.attempt):
        await asyncio.sleep(due.turn.delay_s)
        return await _fail(call, due, failure)
    if wire.html is not None:
        page = _HTML % (wire.html, wire.html)
        call.reply.whole(wire.html, page, {"content-type": "text/html"})
        return "failed"
    if wire.garbage:
        return await _talk_nonsense(call)
    answer = answer_of(call.asked, due, f"{call.id}/{call.attempt}", call.dialect.call_id)
    if call.asked.stream:
        return await _stream(call, due, answer)
    await asyncio.sleep(due.turn.delay_s)
    return await _answer_whole(call, due, answer)


async def _fail(call: Call, due: Due, failure: script.Failure) -> Outcome:
    match failure.kind:
        case "timeout":
            return await _for_ever()
        case "connection":
            call.reply.reset()
            return "failed"
        case status:
            refused = Refused(int(status), "", retry_after_s=failure.retry_after_s)
            return call.refuse(refused, _retry_after(call, due, failure))


def _retry_after(call: Call, due: Due, failure: script.Failure) -> dict[str, str]:
    """Google tells the wait in the error's details, and so has no header unless told."""
    if (raw := due.wire.retry_after) is not None:
        name = "retry-after-ms" if raw.startswith("ms=") else "retry-after"
        return {name: raw.removeprefix("ms=")}
    if failure.retry_after_s is None or call.dialect.protocol == "gemini":
        return {}
    return {"retry-after": f"{failure.retry_after_s:g}"}


async def _talk_nonsense(call: Call) -> Outcome:
    if call.asked.stream:
        call.reply.begin(200, call.headers("text/event-stream"))
        await call.reply.send(_GARBAGE_EVENT)
        call.reply.end()
    else:
        call.reply.whole(200, _GARBAGE, call.headers())
    return "failed"


async def _answer_whole(call: Call, due: Due, answer: Answer) -> Outcome:
    """What breaks a stream breaks the whole answer in its middle."""
    body = orjson.dumps(call.dialect.whole(call.asked, answer))
    half = body[: len(body) // 2]
    if due.wire.error_event is not None:
        return call.refuse(Refused(_status_of(due.wire.error_event, call), ""))
    if due.wire.eof is not None:
        call.reply.whole(200, half, call.headers())
        return "failed"
    if due.wire.silence is not None or _cut(call, due) is not None:
        call.reply.part(200, half, call.headers(), of=len(body))
        return await _break_off(call, due, _cut(call, due) is not None)
    call.reply.whole(200, body, call.headers())
    return "answered"


def _status_of(error_event: str, call: Call) -> int:
    """The status of an error that a stream would tell in an event."""
    if "overloaded" in error_event:
        return 529 if call.dialect.protocol == "anthropic" else 503
    return 429 if "rate_limit" in error_event else 500


async def _stream(call: Call, due: Due, answer: Answer) -> Outcome:
    events = call.dialect.stream(call.asked, answer)
    cut = _cut(call, due)
    limit = cut if cut is not None else due.wire.breaks_at()
    call.reply.begin(200, call.headers("text/event-stream; charset=utf-8"))
    spent, delay = 0, due.turn.delay_s
    for event in events:
        spent += event.tokens
        if limit is not None and (spent > limit or event.ends):
            return await _break_off(call, due, cut is not None)
        if event.tokens or event.ends:
            await asyncio.sleep(delay)
            delay = 0
        if event.tokens:
            await asyncio.sleep(due.turn.pace_s)
        await call.reply.send(event.data)
    call.reply.end()
    return "answered"


async def _break_off(call: Call, due: Due, cut: bool) -> Outcome:
    if cut:
        call.reply.reset()
        return "failed"
    if due.wire.error_event is not None:
        await call.reply.send(call.dialect.error_event(due.wire.error_event, call.request_id))
    elif due.wire.silence is not None:
        return await _for_ever()
    call.reply.end()
    return "failed"


def _cut(call: Call, due: Due) -> int | None:
    cut = due.turn.cut
    return cut.tokens if cut and script.applies(cut.times, call.attempt) else None


async def _for_ever() -> Outcome:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this future but the client's going away")


async def main() -> None:
    arguments = _arguments()
    default = arguments.script.read_text("utf-8") if arguments.script else None
    provider = FakeProvider(Log(arguments.log), key=arguments.key, default_script=default)
    server = await asyncio.get_running_loop().create_server(
        partial(Connection, provider.answer), "127.0.0.1", arguments.port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    if arguments.until_stdin_ends:
        await _end_of_stdin()
    else:
        await server.serve_forever()


async def _end_of_stdin() -> None:
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, stdin), sys.stdin
    )
    await stdin.read()


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="A fake of the model providers.")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--until-stdin-ends", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
