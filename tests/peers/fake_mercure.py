"""A fake of a Mercure hub: a process that takes publications, and refuses what a hub would refuse.

``python fake_mercure.py --log FILE --mood FILE --secret S [--port N]`` prints its port and listens
on 127.0.0.1 only, for as long as who started it holds its standard input. The file ``mood`` says,
at each request, how it is: a status with which it answers, ``slow`` (it takes the update, and never
answers), ``redirect`` (to a page that answers 200) or, where it is empty or missing, well. ``delay
0.05`` is well, and takes its time.

The log has a JSON line per request before it is answered: ``fields`` (pairs, in their order),
``status``, ``path``, and ``in_hand``: how many requests were being answered, this one too. It never
holds a token.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import jwt
import orjson
import uvloop
from aiohttp import web

PATH = "/.well-known/mercure"
FORM = "application/x-www-form-urlencoded"


class Hub:
    def __init__(self, log: Path, mood: Path, secret: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._mood = mood
        self._secret = secret
        self._in_hand = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self._in_hand += 1
        try:
            return await self._answer(request)
        finally:
            self._in_hand -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(text="a page")
        mood = self._mood.read_text().strip() if self._mood.exists() else ""
        fields = parse_qsl((await request.read()).decode(), keep_blank_values=True)
        status = self._status(request, fields, mood)
        if mood.startswith("delay "):
            await asyncio.sleep(float(mood.removeprefix("delay ")))
        self._note(request, fields, status)
        if mood == "slow":
            await asyncio.sleep(3600)
        headers = {"Location": "/elsewhere"} if mood == "redirect" else {}
        return web.Response(status=status, text=dict(fields).get("id", ""), headers=headers)

    def _status(self, request: web.Request, fields: list[tuple[str, str]], mood: str) -> int:
        if request.path != PATH:
            return 404
        if not self._may_publish(request.headers.get("Authorization", "")):
            return 401
        if mood == "redirect":
            return 302
        if mood.isdigit():
            return int(mood)
        given = dict(fields)
        good = request.content_type == FORM and given.get("topic") and given.get("private") == "on"
        return 200 if good else 400

    def _may_publish(self, authorization: str) -> bool:
        token = authorization.removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], options={"require": ["exp"]}
            )
        except jwt.InvalidTokenError:
            return False
        return claims.get("mercure", {}).get("publish") == ["*"]

    def _note(self, request: web.Request, fields: list[tuple[str, str]], status: int) -> None:
        line = {
            "path": request.path,
            "fields": fields,
            "status": status,
            "in_hand": self._in_hand,
        }
        os.write(self._log, orjson.dumps(line) + b"\n")


async def main() -> None:
    parser = argparse.ArgumentParser(description="A fake of a Mercure hub.")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--mood", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    hub = Hub(arguments.log, arguments.mood, arguments.secret)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", arguments.port, reuse_address=True)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    await stdin.read()


if __name__ == "__main__":
    uvloop.run(main())
