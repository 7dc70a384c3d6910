"""Which pages of other origins may read an address (CORS), and with which headers they may ask.

The Fetch standard has a browser ask first (a preflight) where a page sends a header of its own, as
a reader does that comes back with ``Last-Event-ID``.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
    "Access-Control-Max-Age": "3600",
}


class CrossOrigin:
    """Lets pages of the application's ``cors_origins`` read one path, refusals included."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = self._allowed_origin(scope)
        if origin is None:
            await self._app(scope, receive, send)
            return

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Access-Control-Allow-Origin"] = origin
                answer.add_vary_header("Origin")
            await send(message)

        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_ALLOWED)(scope, receive, send_readable)
        else:
            await self._app(scope, receive, send_readable)

    def _allowed_origin(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["path"] != self._path:
            return None
        origin = Headers(scope=scope).get("origin")
        return origin if origin in scope["app"].state.cors_origins else None
