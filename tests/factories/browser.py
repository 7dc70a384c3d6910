"""A real browser, and a site for it: pages of the test's own, and the API below the same origin."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Answer = Callable[[], tuple[str, bytes]]


@dataclass
class Watched:
    """A page, and what it did that no page should."""

    page: Page
    errors: list[str] = field(default_factory=list[str])
    outside: list[str] = field(default_factory=list[str])


@contextmanager
def watched_page(origin: str) -> Generator[Watched]:
    """A page in chromium; skips the test where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: install chromium, or name one with CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        watched = Watched(browser.new_page())

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                watched.errors.append(f"{message.text} {message.location['url']}")

        def on_request(request: Request) -> None:
            if not request.url.startswith((f"{origin}/", "data:", "blob:")):
                watched.outside.append(request.url)

        watched.page.on("console", on_console)
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        watched.page.on("request", on_request)
        try:
            yield watched
        finally:
            browser.close()


@contextmanager
def site(answers: Mapping[str, Answer], api_url: str) -> Generator[str]:
    """Serves ``answers`` (media type and body, by path), and below ``/api/`` what the API answers.

    Like a proxy that is worth its name, it waits a while for an API that is being restarted.
    """
    loop, started = asyncio.new_event_loop(), threading.Event()
    ports = list[int]()

    async def serve() -> None:
        front = _Front(answers, api_url)
        server = await asyncio.start_server(front.connected, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await server.serve_forever()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    task = loop.create_task(serve())
    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:

        def stop() -> None:
            for each in asyncio.all_tasks(loop):
                each.cancel()

        loop.call_soon_threadsafe(stop)
        thread.join(10)


class _Front:
    def __init__(self, answers: Mapping[str, Answer], api_url: str) -> None:
        self._answers = answers
        self._api = urlsplit(api_url)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode().partition("?")[0]
            if path.startswith("/api/"):
                await self._forward(head, reader, writer)
            else:
                await self._answer(path, writer)
        writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path not in self._answers:
            writer.write(b"HTTP/1.1 404 .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        media_type, body = await asyncio.to_thread(self._answers[path])
        head = f"HTTP/1.1 200 .\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        api_reader, api_writer = await self._upstream()
        # One request a connection: else the next one would go unseen to the API too.
        api_writer.write(head.replace(b"Connection: keep-alive", b"Connection: close"))
        sending = asyncio.create_task(_pipe(reader, api_writer))
        try:
            await _pipe(api_reader, writer)
        finally:
            sending.cancel()
            api_writer.close()

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(200):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(self._api.hostname, self._api.port)
            await asyncio.sleep(0.1)
        raise ConnectionError("the API does not come back")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
