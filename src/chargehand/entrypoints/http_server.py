"""How uvicorn serves the application: HTTP/1.1 and WebSocket, one process."""

import asyncio
import contextlib
import resource
from collections.abc import Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from chargehand.kernel.errors import Unavailable
from chargehand.web.streaming import ABORT

SOCKET_MESSAGE_BYTES = 64_000
PING_S = 15.0
MOST_FILES = 65_536


class _Http(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # pyright: ignore[reportAssignmentType]
        scope["extensions"] = {ABORT: self.transport.abort}


class _Socket(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        # The application begins to run only after this.
        if hasattr(self, "scope"):
            scope: dict[str, Any] = self.scope  # pyright: ignore[reportAssignmentType]
            scope["extensions"][ABORT] = self.transport.abort


class Server(uvicorn.Server):
    """Leaves signals to the command that runs it."""

    def install_signal_handlers(self) -> None:
        pass

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def answering(self, serving: asyncio.Task[None]) -> None:
        """Wait until it answers. Raises Unavailable, or what ``serving`` has raised."""
        while not self.started:
            if serving.done():
                serving.result()
                raise Unavailable("The HTTP server ended before it answered; see the log.")
            await asyncio.sleep(0.01)


def allow_many_connections() -> None:
    """Open as many files as the system allows: the usual limit is 1,024, and each reader is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_of(app: Any) -> Server:
    """A server for the application; it listens on the sockets that ``serve`` is given."""
    return Server(
        uvicorn.Config(
            app,
            http=_Http,
            ws=_Socket,
            ws_max_size=SOCKET_MESSAGE_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            # A compressor per connection costs more memory than a thousand listeners should.
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=10,
        )
    )
