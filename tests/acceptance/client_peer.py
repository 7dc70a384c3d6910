"""A service that breaks off: a peer of the client on the wire, run as a process of its own.

``python client_peer.py PLAN`` prints its port. The plan is JSON: ``story`` (the run's events as
[id, type, data]), ``cut_after`` (bytes of events that a connection carries before it breaks; 0:
never), ``overlap`` (how many events already seen a resumed stream repeats), ``begins_at`` (of a
user's topic: the id that its first connection begins with; one that says no id later has missed
the whole story), ``status`` and ``output`` of the run, ``answers``: for "METHOD path", statuses (0:
hang up unanswered) to give before the real answer, and ``stranger``: to be a web server that knows
nothing of Chargehand. ``GET /seen`` tells the requests that came.
"""

import asyncio
import json
import sys
from typing import Any

RUN = "0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34"


def execution(plan: dict[str, Any]) -> dict[str, Any]:
    failed = {"code": "ResourceExhausted", "message": "Too many steps.", "details": {}}
    return {
        "id": RUN,
        "agent_id": RUN,
        "agent_version": "1.0.0",
        "status": plan.get("status", "completed"),
        "input": "",
        "output": plan.get("output", "All is well."),
        "finish_reason": "stop",
        "steps": 3,
        "model_attempts": 2,
        "tool_calls": 1,
        "usage": {
            "input_tokens": 1000,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 234,
            "reasoning_tokens": 0,
            "total_tokens": 1234,
        },
        "cost": "0.00120",
        "currency": "USD",
        "unpriced": False,
        "error": failed if plan.get("status") == "failed" else None,
        "waiting_for": None,
        "pause_reason": None,
        "force_killed": False,
        "origin": None,
        "warnings": [],
        "metadata": {},
        "created_at": "2026-11-21T10:00:00Z",
        "scheduled_at": None,
        "paused_at": None,
        "started_at": "2026-11-21T10:00:00.5Z",
        "completed_at": "2026-11-21T10:00:03Z",
        "duration_ms": 2500,
    }


class Peer:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.seen = list[dict[str, Any]]()
        self.begun = 0
        self.answers = {where: list(statuses) for where, statuses in plan["answers"].items()}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            await self.answer(method, path, headers, body, writer)
            await writer.drain()
        finally:
            writer.close()

    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: Any
    ) -> None:
        if path == "/seen":
            return reply(writer, 200, self.seen)
        path, _, query = path.removeprefix("/api/v1").partition("?")
        request = {"method": method, "path": path, "query": query}
        self.seen.append({**request, "headers": headers, "size": len(body)})
        if self.plan.get("stranger"):
            return welcome(writer)
        pending = self.answers.get(f"{method} {path}")
        if pending:
            status = pending.pop(0)
            return reply(writer, status, envelope(status)) if status else None
        if path.endswith("/execute") and json.loads(body)["mode"] != "stream":
            return reply(writer, 200, execution(self.plan))
        if path.endswith("/subscription-token"):
            subject = path.split("/")[2:3]
            topic = f"agent/{subject[0]}" if path.startswith("/executions/") else "user/1/agents"
            return reply(writer, 201, {"token": "jwt", "hub_url": "/api/v1/hub", "topic": topic})
        if path.endswith(("/execute", "/events", "/hub", "/mercure")):
            return await self.stream(headers, writer)
        if path == "/uploads":
            return reply(writer, 201, {"id": RUN, "file_count": 1})
        if path.startswith("/executions/"):
            return reply(writer, 200, execution(self.plan))
        return reply(writer, 404, envelope(404))

    async def stream(self, headers: dict[str, str], writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
            + f"X-Execution-Id: {RUN}\r\n\r\n: hello\n\n".encode()
        )
        story, last = self.plan["story"], headers.get("last-event-id")
        begins_at, self.begun = self.plan.get("begins_at"), self.begun + 1
        if begins_at and self.begun == 1:
            writer.write(f"id: {begins_at}\n\n".encode())
            await writer.drain()
            return
        begin = next((n + 1 for n, event in enumerate(story) if event[0] == last), 0)
        begin = max(0, begin - self.plan["overlap"])
        if begins_at and last is None:
            begin = len(story)
        text = "".join(
            f"id: {id_}\nevent: {type_}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
            for id_, type_, data in story[begin:]
        ).encode()
        cut = self.plan["cut_after"]
        writer.write(text[:cut] if cut else text)
        await writer.drain()
        while self.plan.get("stalls"):  # a run that goes on, of which nothing is heard
            await asyncio.sleep(0.05)
            writer.write(b": heartbeat\n\n")
            await writer.drain()


def envelope(status: int) -> dict[str, Any]:
    codes = {404: "AgentNotFound", 401: "Unauthenticated", 403: "AgentAccessDenied"}
    codes |= {429: "RateLimitExceeded", 400: "InvalidInput", 503: "Unavailable"}
    return {
        "error": {
            "code": codes.get(status, "InternalError"),
            "message": f"Answered {status} on purpose. Try another.",
            "details": {"retry_after_s": 1} if status == 429 else {},
            "timestamp": "2026-11-21T10:00:00Z",
            "request_id": "req-1",
        }
    }


def welcome(writer: Any) -> None:
    page = b"<h1>It works!</h1>"
    head = f"HTTP/1.1 200 .\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n"
    writer.write(head.encode() + page)


def reply(writer: Any, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)


async def main() -> None:
    peer = Peer(json.loads(sys.argv[1]))
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
