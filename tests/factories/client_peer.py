"""Start the peer that breaks off (see ``tests/acceptance/client_peer.py``)."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[1] / "acceptance" / "client_peer.py"
RUN = "0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34"


@dataclass(frozen=True)
class RunningPeer:
    url: str

    def seen(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=5) as answer:
            return json.load(answer)


@contextmanager
def running_peer(
    story: Sequence[Any] = (),
    *,
    cut_after: int = 0,
    overlap: int = 0,
    answers: dict[str, list[int]] | None = None,
    **plan: Any,
) -> Iterator[RunningPeer]:
    document = {"story": story, "cut_after": cut_after, "overlap": overlap}
    document |= {"answers": answers or {}, **plan}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(document)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield RunningPeer(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()


def a_story(steps: int = 3) -> list[list[Any]]:
    """A run of so many model steps, of which the last answers."""
    events: list[tuple[str, dict[str, Any]]] = [
        ("status.changed", {"status": "running", "epoch": 1, "worker": "w:1:a"})
    ]
    for number in range(1, steps + 1):
        names = ["list_dir"] if number < steps else []
        events += [
            ("step.started", {"step_number": number, "step_type": "model"}),
            ("output.delta", {"text": f"Teil {number}: grün "}),
            (
                "step.completed",
                {
                    "step_number": number,
                    "step_type": "model",
                    "has_tool_calls": bool(names),
                    "tool_names": names,
                    "tokens_used": 10,
                    "duration_ms": 5,
                    "cost": "0.0001",
                },
            ),
        ]
    events.append(("done", {"status": "completed", "error": None, "steps": steps}))
    return [[f"1.{number}", *event] for number, event in enumerate(events, 1)]


OTHER_RUN = "0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e35"


def a_topic(steps: int = 3) -> list[list[Any]]:
    """The topic of a user with two such runs that go on side by side."""
    told = [event for event in a_story(steps) if event[1] != "output.delta"]
    return [
        [f"{tx:016x}-{run.replace('-', '')}-{tx:08x}", kind, {**data, "execution_id": run}]
        for tx, (_, kind, data) in enumerate(told, 1)
        for run in (RUN, OTHER_RUN)
    ]
