"""Schemathesis against a whole service: an API and a worker of their own, and a real database."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tests.conftest import TestDatabase
from tests.factories.api_process import running_api
from tests.factories.commands import SOURCES, command, environment
from tests.factories.examples import AGENT

from chargehand.entrypoints.description import examples

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fuzzing:
    """How long: ``examples`` for each operation; with ``seconds`` again until they are over."""

    seed: int
    examples: int
    seconds: int | None = None

    def arguments(self) -> list[str]:
        again = [] if self.seconds is None else [f"--max-time={self.seconds}"]
        return [f"--seed={self.seed}", f"--max-examples={self.examples}", *again]


@contextmanager
def running_worker(database: TestDatabase, folder: Path) -> Iterator[None]:
    settings = {
        "CHARGEHAND_APP_URL": database.urls.app,
        "CHARGEHAND_SYSTEM_URL": database.urls.system,
        "CHARGEHAND_WORKSPACES": str(folder / "workspaces"),
    }
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command("worker"), env=environment(**settings), stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.kill()
            process.wait(20)


def fuzz(
    database: TestDatabase, folder: Path, key: str, fuzzing: Fuzzing
) -> subprocess.CompletedProcess[str]:
    """``schemathesis run`` with all checks, of the document that the service itself gives."""
    with running_api(database) as url, running_worker(database, folder):
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=f"{url}/api/v1", headers=headers) as client:
            seeds = _sow(client)
        arguments = [
            "--checks=all",
            # It has no end.
            "--exclude-operation-id=follow_user",
            *fuzzing.arguments(),
            f"--header=Authorization: Bearer {key}",
            "--generation-database=none",
            "--continue-on-failure",
            "--no-color",
        ]
        return subprocess.run(
            [*SCHEMATHESIS, "run", *arguments, f"{url}/api/v1/openapi.json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            timeout=(fuzzing.seconds or 0) * 2 + 600,
            env=environment(
                PYTHONPATH=f"{ROOT}:{SOURCES}",
                SCHEMATHESIS_HOOKS="tests.factories.fuzzing_hooks",
                FUZZING_KEY_ID=seeds.key_id,
                FUZZING_IDS=json.dumps(seeds.ids),
            ),
        )


@dataclass(frozen=True)
class Seeds:
    """``ids`` are of real things, by the ids that the document's examples have for them."""

    key_id: str
    ids: dict[str, str]


def _sow(client: httpx2.Client) -> Seeds:
    """What the operations need to have something to work on."""
    key_id = client.get("/me").json()["key"]["id"]
    client.post("/agents", json={**AGENT, "name": "Code review"}).raise_for_status()
    patch = {"config": {**AGENT["config"], "instructions": "Be brief."}, "version": "1.1.0"}
    client.patch("/agents/code-review", json=patch).raise_for_status()
    client.post("/agents/code-review/publish").raise_for_status()
    run = client.post("/agents/code-review/execute", json={"input": "@say Hi."}).json()
    upload = client.post("/uploads?kind=file&name=a.txt", content=b"a").json()
    shown = examples()
    return Seeds(
        key_id,
        {
            shown["get_execution"]["path"]["execution_id"]: run["id"],
            shown["get_upload"]["path"]["upload_id"]: upload["id"],
        },
    )


SCHEMATHESIS = [sys.executable, "-m", "schemathesis.cli"]
