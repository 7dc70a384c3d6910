"""HTTP/1.1 for the fake provider: keep-alive, chunked answers, and rude endings on demand.

One request at a time on a connection; a client that goes away cancels what answers it.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools
from fake_shapes import Request

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Reply:
    """The answer to one request: ``whole``, or ``begin``, ``send`` and ``end``; or a ``reset``.

    What ends it is done by ``finish`` only: who sees the end must find it in the log already.
    """

    def __init__(self, transport: asyncio.Transport, room: asyncio.Event) -> None:
        self._transport = transport
        self._room = room
        self._ending: Callable[[], None] | None = None
        self.status: int | None = None

    def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        head = _head(status, {**headers, "content-length": str(len(body))})
        self._ending = partial(self._transport.write, head + body)

    def part(self, status: int, body: bytes, headers: Mapping[str, str], *, of: int) -> None:
        """Part of an answer, whose head promises a body of the length ``of``."""
        self.status = status
        self._transport.write(_head(status, {**headers, "content-length": str(of)}) + body)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self._transport.write(_head(status, {**headers, "transfer-encoding": "chunked"}))

    async def send(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._room.wait()

    def end(self) -> None:
        self._ending = partial(self._transport.write, b"0\r\n\r\n")

    def reset(self) -> None:
        """Break the connection: the client sees a reset, not an end."""
        self._ending = self._break

    def finish(self) -> None:
        if self._ending is not None:
            self._ending()

    def _break(self) -> None:
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


class Connection(asyncio.Protocol):
    """``answer`` is run for each request; it is cancelled when the client goes away."""

    _transport: asyncio.Transport

    def __init__(self, answer: Callable[[Request, Reply], Awaitable[None]]) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._room = asyncio.Event()
        self._room.set()
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()
        if self._answering is not None:
            self._answering.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers = dict[str, str]()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._answering is not None and not self._answering.done():
            self._transport.close()
            return
        self._answering = asyncio.get_running_loop().create_task(self._serve(self._request()))

    async def _serve(self, request: Request) -> None:
        try:
            await self._answer(request, Reply(self._transport, self._room))
        except BaseException:
            # A client must never wait for an answer that the fake failed to make.
            self._transport.abort()
            raise

    def _request(self) -> Request:
        target = urlsplit(self._url.decode("latin-1"))
        return Request(
            method=self._parser.get_method().decode(),
            path=unquote(target.path),
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            headers=self._headers,
            body=bytes(self._body),
        )


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"
