"""API-1: a client made of the OpenAPI document by somebody else's generator compiles and works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
from tests.conftest import TestDatabase
from tests.factories.api_process import running_api
from tests.factories.fuzzing import running_worker
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database

GENERATOR = Path(sys.prefix) / "openapi-client"
"""Beside the packages of the tests, with which it does not agree about typer."""

USER = Path(__file__).parents[1] / "peers" / "generated_client_user.py"
CONFIG = """
post_hooks: []
content_type_overrides:
  "*/*": application/octet-stream
  application/gzip: application/octet-stream
"""


def run(*arguments: str | Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{GENERATOR}:{folder}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-5000:]


async def test_it_is_made_without_a_warning_and_works(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    assert GENERATOR.is_dir(), f"{GENERATOR} is missing; `make .venv/dev` installs it"
    _, key = await make_caller(database)
    with running_api(clone) as url, running_worker(clone, tmp_path):
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
            document = (await client.get("/api/v1/openapi.json")).json()
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "config.yml").write_text(CONFIG)
        generate = ["-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta=none"]
        places = ["--path=openapi.json", "--config=config.yml", "--output-path=made_client"]
        run(*generate, *places, folder=tmp_path)
        run("-W", "error", "-m", "compileall", "-q", "made_client", folder=tmp_path)
        run(USER, url, key, folder=tmp_path)
