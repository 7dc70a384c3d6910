"""A model server that is never the bottleneck: OpenAI's Chat Completions, canned, on raw asyncio.

Prints its port. Each call waits ``--delay-ms`` and answers with ``--tokens`` tokens, streamed
``--pace-ms`` apart where the request asks for a stream.
"""

import argparse
import asyncio
import json
from typing import cast

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n"
_USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
_ANSWER = {"id": "chatcmpl-1", "created": 1, "model": "bench"}


def _chunk(body: dict[str, object] | None) -> bytes:
    data = b"data: %s\n\n" % (b"[DONE]" if body is None else json.dumps(body).encode())
    return b"%x\r\n%s\r\n" % (len(data), data)


def _delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return _chunk({**_ANSWER, "object": "chat.completion.chunk", "choices": [choice]})


class Model(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, delay_s: float, tokens: int, pace_s: float) -> None:
        self._delay_s, self._tokens, self._pace_s = delay_s, tokens, pace_s
        self._received = b""
        self._token = _delta("tok ")
        message = {"role": "assistant", "content": "tok " * tokens}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {**_ANSWER, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
        whole = json.dumps(body).encode()
        self._whole = _HEAD % (b"application/json", b"content-length: %d\r\n" % len(whole)) + whole
        last = _chunk(
            {**_ANSWER, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
        )
        self._tail = _delta("", "stop") + last + _chunk(None) + b"0\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        self._received = b""
        streamed = b'"stream":true' in body.replace(b" ", b"")
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay_s, self._stream if streamed else self._answer)

    def _answer(self) -> None:
        self._transport.write(self._whole)

    def _stream(self) -> None:
        chunked = b"transfer-encoding: chunked\r\n"
        self._transport.write(_HEAD % (b"text/event-stream", chunked))
        self._send(0)

    def _send(self, sent: int) -> None:
        if sent == self._tokens:
            self._transport.write(self._tail)
            return
        self._transport.write(self._token)
        asyncio.get_running_loop().call_later(self._pace_s, self._send, sent + 1)


async def serve(delay_s: float, tokens: int, pace_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Model(delay_s, tokens, pace_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--pace-ms", type=float, default=0)
    given = parser.parse_args()
    uvloop.run(serve(given.delay_ms / 1000, given.tokens, given.pace_ms / 1000))
