"""The story that the OpenAPI document's examples are taken from: real requests, real answers.

What differs from one telling to the next (ids, times, keys) is replaced by what stays the same.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tests.factories.executions import Service, parse_events
from tests.factories.steered import begin

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
KEY = re.compile(r"chk_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}")
TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
CURSOR = re.compile(r"^[0-9a-f]{16}(?=-[0-9a-f]{32}-[0-9a-f]{8}$)")
PUBLIC_ID = "Q1w2E3r4T5y6"
SAME_NUMBERS = {"duration_ms": 840, "latency_ms": 120}


NAMES = [
    (re.compile(r"(org-)?[0-9a-f-]{36}@example.com"), "ada@example.com"),
    (re.compile(r"org-[0-9a-f-]{36}"), "acme"),
    (re.compile(r"[\w.-]+:\d+:[0-9a-f]{6}\b"), "host-1:4711:5068fb"),
]
"""Of what the tests make up, and of the machine that they run on."""


class Recorder:
    """Calls a service and keeps what was asked and answered, by operation id."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ids: dict[str, str] = {}
        self.recorded: dict[str, dict[str, Any]] = {}

    async def call(
        self,
        operation_id: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **path: str,
    ) -> Any:
        """The answer: a JSON document, or text. The first call of an operation is its example."""
        method, template = self._service.conformance.place_of(operation_id)
        address = template.format(**path) + (f"?{urlencode(query)}" if query else "")
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        given = {} if body is None else content
        answer = await self._service.client.request(method, address, headers=headers, **given)
        assert answer.status_code < 300, (operation_id, answer.text)
        declared = answer.headers.get("content-type", "") if answer.content else ""
        media_type = declared.partition(";")[0]
        said = answer.json() if media_type == "application/json" else answer.text
        self._keep(operation_id, path, query, headers, body, answer.status_code, media_type, said)
        return said

    def _keep(
        self,
        operation_id: str,
        path: Any,
        query: Any,
        headers: Any,
        body: Any,
        status: int,
        media_type: str,
        said: Any,
    ) -> None:
        asked: dict[str, Any] = {"path": path, "query": query, "header": headers}
        if body is not None:
            asked["body"] = body.decode() if isinstance(body, bytes) else body
        asked = {name: value for name, value in asked.items() if value}
        kept = self.recorded.setdefault(operation_id, {**self._same(asked), "answers": []})
        known = [(one["status"], one["media_type"]) for one in kept["answers"]]
        if media_type and (status, media_type) not in known:
            shown = self._same(_shown(operation_id, media_type, said))
            kept["answers"].append({"status": status, "media_type": media_type, "body": shown})

    def _same(self, value: Any, name: str = "") -> Any:
        match value:
            case dict():
                return {key: self._same(item, key) for key, item in value.items()}
            case list():
                return [self._same(item, name) for item in value]
            case int() if name in SAME_NUMBERS:
                return SAME_NUMBERS[name]
            case str() if name == "public_id":
                return PUBLIC_ID
            case str():
                text = KEY.sub(f"chk_{PUBLIC_ID}_{'0' * 32}_000000", value)
                text = TOKEN.sub("eyJ0.eyJ0b3BpYyI6IuKApiJ9.c2lnbmF0dXJl", text)
                text = CURSOR.sub("00000000000a1b2c", text)
                text = ID.sub(self._same_id, text)
                for ours, shown in NAMES:
                    text = ours.sub(shown, text)
                return TIME.sub(r"2026-11-24T09:00:00.000000\2", text)
            case _:
                return value

    def _same_id(self, found: re.Match[str]) -> str:
        number = len(self._ids) + 1
        return self._ids.setdefault(found[0], f"01935d5a-3c8e-7c4f-b1d2-{number:012x}")


def _shown(operation_id: str, media_type: str, said: Any) -> Any:
    """Of the document its head, of a stream one event."""
    if operation_id == "get_openapi":
        return {"openapi": said["openapi"], "info": said["info"], "paths": {}}
    if media_type == "text/event-stream":
        events = parse_events(said)
        id, event, data = next((e for e in events if e[1] == "output.delta"), events[0])
        return {"id": id, "event": event, "data": json.dumps(data)}
    return said


AGENT = {
    "name": "Code review",
    "description": "Reads a change and says what is wrong with it.",
    "visibility": "organization",
    "tags": ["engineering"],
    "config": {
        "model": {"provider": "simulated", "name": "standard", "temperature": 0.2},
        "instructions": "Name each defect with its file and line. Be brief.",
        "capabilities": {"todo": {}},
        "limits": {"steps": 20, "wall_time_s": 60},
    },
    "publish": True,
}


async def tell(service: Service) -> dict[str, dict[str, Any]]:
    """Call every operation at least once; the examples by operation id."""
    told = Recorder(service)
    await _installation(told)
    await _agents(told)
    await _runs(told, service)
    await _steering(told, service)
    await _uploads(told)
    await _keys(told)
    await told.call("delete_agent", agent="code-review")
    return dict(sorted(told.recorded.items()))


async def _installation(told: Recorder) -> None:
    await told.call("healthz")
    await told.call("readyz")
    await told.call("get_openapi")
    await told.call("get_me")
    await told.call("list_members", query={"limit": 20})
    await told.call("list_models", query={"provider": "simulated", "limit": 2})
    await told.call("list_providers", query={"check": "false"})


async def _agents(told: Recorder) -> None:
    agent = "code-review"
    await told.call("validate_agent", body=AGENT)
    await told.call("create_agent", body=AGENT)
    await told.call("list_agents", query={"tag": "engineering", "limit": 20})
    await told.call("get_agent", agent=agent)
    config = {**AGENT["config"], "instructions": "Name each defect. Be brief, and kind."}
    patch = {"config": config, "bump": "minor", "changelog": "Kinder."}
    await told.call("update_agent", agent=agent, body=patch)
    draft = {"input": "@say The change is fine.", "timeout_s": 30}
    await told.call("test_agent", agent=agent, body=draft)
    await told.call("test_agent", agent=agent, body={**draft, "mode": "async"})
    await told.call("test_agent", agent=agent, body={**draft, "mode": "stream"})
    body = {"version": "1.1.0", "changelog": "Kinder."}
    await told.call("publish_agent", agent=agent, body=body)
    await told.call("list_agent_versions", agent=agent, query={"limit": 20})
    await told.call("get_agent_version", agent=agent, number="1.1.0")
    await told.call("deactivate_agent", agent=agent)
    await told.call("activate_agent", agent=agent)


async def settled(service: Service, everything: Mapping[str, str]) -> None:
    """Until the user's events are told: other tests' transactions on the server hold them up."""
    async with asyncio.timeout(20):
        while not parse_events(
            (await service.client.get("/api/v1/me/events", headers=everything)).text
        ):
            await asyncio.sleep(0.05)


async def _runs(told: Recorder, service: Service) -> None:
    body = {"input": "@say Line 7 divides by zero.", "metadata": {"change": "4711"}}
    headers = {"Idempotency-Key": "review-of-change-4711"}
    run = await told.call("execute_agent", agent="code-review", body=body, headers=headers)
    await told.call("execute_agent", agent="code-review", body={**body, "mode": "stream"})
    slow = {"input": "@pace 100ms\n@tokens 500", "mode": "async"}
    started = await told.call("execute_agent", agent="code-review", body=slow)
    await told.call("list_executions", query={"status": "completed", "limit": 1})
    await told.call("get_execution", execution_id=run["id"])
    await told.call("list_execution_steps", execution_id=run["id"], query={"limit": 100})
    await told.call("list_execution_logs", execution_id=run["id"], query={"limit": 100})
    await told.call("follow_execution", execution_id=run["id"])
    everything = {"Last-Event-ID": f"{0:016x}-{0:032x}-{0:08x}"}
    await settled(service, everything)
    await told.call("follow_user", headers=everything)
    made = await told.call("make_execution_subscription_token", execution_id=run["id"])
    await told.call("make_user_subscription_token")
    await told.call("follow_topic", query={name: made[name] for name in ("topic", "token")})
    await service.until(started["id"], "running")
    await told.call("cancel_execution", execution_id=started["id"])
    await service.until(started["id"], "cancelled")
    await told.call("cancel_execution", execution_id=started["id"])


async def _steering(told: Recorder, service: Service) -> None:
    agent = await service.agent(
        capabilities={"ask_user": {}, "await_event": {}, "metadata": {}},
        approvals={"metadata_write": {}},
    )
    waits = ("awaiting_input", "awaiting_event")

    async def waiting(script: str) -> dict[str, str]:
        run = await begin(service, agent, script)
        await service.until(run, *waits)
        return {"execution_id": run}

    asking = await waiting('@call ask_user {"question": "Which branch?"}\n@then\n@say Merged.')
    await told.call("pause_execution", body={"reason": "Ask Ada first."}, **asking)
    await told.call("resume_execution", **asking)
    await told.call("send_input", body={"input": "main", "wait": 1}, **asking)
    ended = await service.until(asking["execution_id"], "completed")
    body = {"step": 1, "instructions": "Be bold."}
    forked = await told.call("fork_execution", execution_id=ended["id"], body=body)
    await service.until(forked["id"], *waits)
    await told.call("kill_execution", execution_id=forked["id"])
    retried = await told.call("retry_execution", execution_id=forked["id"])
    await service.until(retried["id"], *waits)
    await told.call("delete_execution", execution_id=retried["id"])
    writes = '@call metadata_write {"key": "merged", "value": true}\n@then\n@say Done.'
    body = {"wait": 1, "comment": "Go on."}
    await told.call("approve_call", body=body, **await waiting(writes))
    body = {"wait": 1, "comment": "Not on a Friday."}
    await told.call("deny_call", body=body, **await waiting(writes))
    await waiting('@call await_event {"event_type": "build.passed", "filter": {"change": "4711"}}')
    body = {"event_type": "build.passed", "payload": {"change": "4711", "tests": 812}}
    await told.call("send_event", body=body)
    working = {"execution_id": await begin(service, agent, "@pace 100ms\n@tokens 500")}
    await service.until(working["execution_id"], "running")
    await told.call("pause_execution", body={}, **working)
    await told.call("resume_execution", **working)
    await told.call("kill_execution", **working)


async def _uploads(told: Recorder) -> None:
    content, query = b"-    return x\n+    return x / 0\n", {"kind": "file", "name": "change.diff"}
    headers = {"Content-Type": "application/octet-stream"}
    upload = await told.call("create_upload", body=content, query=query, headers=headers)
    await told.call("list_uploads", query={"limit": 20})
    await told.call("get_upload", upload_id=upload["id"])
    await told.call("download_upload", upload_id=upload["id"])
    await told.call("delete_upload", upload_id=upload["id"])


async def _keys(told: Recorder) -> None:
    body = {"name": "Nightly reviews", "scopes": ["agents:execute", "executions:read"]}
    key = await told.call("make_key", body={**body, "expires_in_days": 30})
    await told.call("list_keys", query={"limit": 1})
    await told.call("revoke_key", key_id=key["id"])
