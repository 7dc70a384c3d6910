"""Starts of runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from chargehand_client.options import RunOptions
from chargehand_client.outgoing import encoded, keyed, path_of
from chargehand_client.requests import Request, given_of

Mode = Literal["wait", "async", "stream"]


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be started; one with a ``workspace`` needs it uploaded before."""

    workspace: Path | str | None
    _path: str
    _headers: Mapping[str, str]
    _body: Mapping[str, Any]

    def request(self, upload_id: str | None) -> Request:
        body = dict(self._body)
        if upload_id is not None:
            body["workspace"] = {"upload_id": upload_id}
        headers = {"Content-Type": "application/json", **self._headers}
        return Request(method="POST", path=self._path, headers=headers, content=encoded(body))


def start(agent: str, input: Any, mode: Mode, options: RunOptions) -> Start:
    """Raises ArgumentRefused for what cannot be sent: no megabytes go up for such a run."""
    body = given_of(options)
    route = "test" if body.pop("draft", False) else "execute"
    path = path_of("agents", agent, route)
    headers = keyed(body.pop("idempotency_key", None))
    workspace = body.pop("workspace", None)
    if isinstance(at := body.get("run_at"), datetime):
        body["run_at"] = at.isoformat()
    body |= {"input": input, "mode": mode}
    encoded(body)
    return Start(workspace, path, headers, body)
