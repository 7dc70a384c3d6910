"""Input as text, JSON or blocks; schemas; the workspace; tools (EXE-2, EXE-19, TOL-1)."""

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.conftest import TestDatabase
from tests.factories.executions import Service, running_service

from chargehand.kernel.database import Database

ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


async def refused(service: Service, agent: str, document: Any, **body: Any) -> dict[str, Any]:
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute", json={"input": document, **body}
    )
    assert answer.status_code in (400, 404), answer.text
    assert (await service.get("/executions"))["items"] == []
    return answer.json()["error"]


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def upload(service: Service, kind: str, content: bytes, media_type: str) -> str:
    answer = await service.client.post(
        f"/api/v1/uploads?kind={kind}&name=sample",
        content=content,
        headers={"Content-Type": media_type},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_input_must_fit_the_input_schema(service: Service) -> None:
    agent = await service.agent(input_schema=ORDER)
    error = await refused(service, agent, {"id": "7", "extra": 1})
    assert error["code"] == "InvalidInput"
    assert {v["pointer"] for v in error["details"]["violations"]} == {"/input", "/input/id"}
    assert (await service.run(agent, {"id": 7}))["status"] == "completed"


async def test_output_must_fit_the_output_schema(service: Service) -> None:
    agent = await service.agent(output_schema=ORDER)
    assert (await service.run(agent, '@json {"id": 7}'))["output"] == {"id": 7}


async def test_a_wrong_output_is_repaired_once(service: Service) -> None:
    agent = await service.agent(output_schema=ORDER)
    done = await service.run(agent, '@json {"id": "x"}\n@then\n@json {"id": 8}')
    assert (done["status"], done["output"], done["steps"]) == ("completed", {"id": 8}, 2)


async def test_an_output_that_stays_wrong_is_an_error_with_the_output_kept(
    service: Service,
) -> None:
    agent = await service.agent(output_schema=ORDER)
    done = await service.run(agent, '@json {"id": "x"}\n@then\n@json {"id": "y"}')
    assert (done["status"], done["error"]["code"]) == ("failed", "OutputInvalid")
    assert done["error"]["details"]["violations"][0]["pointer"] == "/id"
    assert orjson.loads(done["output"]) == {"id": "y"}
    assert done["steps"] == 2


async def test_blocks_reach_the_model(service: Service) -> None:
    agent = await service.agent()
    image = await upload(service, "file", b"\x89PNG\r\n\x1a\n", "image/png")
    blocks = [
        {"type": "text", "text": "@say I saw it."},
        {"type": "image", "upload_id": image},
    ]
    done = await service.run(agent, blocks)
    assert (done["status"], done["output"]) == ("completed", "I saw it.")
    assert done["input"] == blocks


async def test_a_block_that_the_model_does_not_take_is_refused(service: Service) -> None:
    agent = await service.agent(model={"provider": "simulated", "name": "text"})
    image = await upload(service, "file", b"\x89PNG\r\n\x1a\n", "image/png")
    error = await refused(service, agent, [{"type": "image", "upload_id": image}])
    assert error["details"]["violations"][0]["pointer"] == "/input/0"


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([{"type": "text"}], "/input/0/text"),
        ([{"type": "sound", "upload_id": "x"}], "/input/0"),
        ([{"type": "image", "upload_id": "x"}], "/input/0/upload_id"),
        ("a\0b", "/input"),
        ({"deep": ["\ud800"]}, "/input/deep/0"),
        ("x" * 100_001, "/input"),
        (None, "/input"),
        ([], "/input"),
    ],
)
async def test_bad_input_is_refused_with_its_place(
    service: Service, document: Any, place: str
) -> None:
    agent = await service.agent()
    import json

    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute",
        content=json.dumps({"input": document}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400, answer.text
    violations = answer.json()["error"]["details"]["violations"]
    assert place in [violation["pointer"] for violation in violations]


@pytest.mark.parametrize(("field", "size"), [("metadata", 20_000), ("variables", 200_000)])
async def test_what_is_kept_with_a_run_is_bounded(service: Service, field: str, size: int) -> None:
    agent = await service.agent()
    error = await refused(service, agent, "x", **{field: {"much": "x" * size}})
    assert error["details"]["violations"][0]["pointer"] == f"/{field}"


async def test_a_body_beyond_the_limit_is_refused(service: Service) -> None:
    answer = await service.client.post("/api/v1/agents/validate", json={"x": "y" * 3_000_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PayloadTooLarge")


async def test_an_upload_that_is_not_there_is_refused(service: Service) -> None:
    agent = await service.agent()
    missing = "01890000-0000-7000-8000-000000000000"
    error = await refused(service, agent, "x", workspace={"upload_id": missing})
    assert error["code"] == "UploadNotFound"
    assert error["details"]["violations"][0]["pointer"] == "/workspace/upload_id"


async def test_tools_work_on_the_uploaded_folder(service: Service) -> None:
    agent = await service.agent(capabilities={"files": {"mode": "read"}, "metadata": {}})
    folder = await upload(
        service,
        "folder",
        archive(readme_txt="first\nsecond", src__a_py="x = 1"),
        "application/gzip",
    )
    script = "\n".join(
        [
            '@call list_dir {"path": "."}',
            '@call read_file {"path": "readme.txt"}',
            '@call read_file {"path": "../../etc/passwd"}',
            '@call metadata_write {"key": "lines", "value": 2}',
            "@then",
            "@quote 3",
        ]
    )
    done = await service.run(agent, script, workspace={"upload_id": folder})
    assert done["status"] == "completed"
    assert "readme.txt" in done["output"]
    assert "first" in done["output"]
    assert "root:" not in done["output"]
    steps = await service.get(f"/executions/{done['id']}/steps")
    assert [step["error"] is None for step in steps] == [True, True, True, False, True, True]


async def test_a_workspace_outlives_its_upload(service: Service) -> None:
    agent = await service.agent(capabilities={"files": {}})
    folder = await upload(service, "folder", archive(a_txt="kept"), "application/gzip")
    script = '@delay 500ms\n@call read_file {"path": "a.txt"}\n@then\n@quote 2'
    answer = await service.client.post(
        f"/api/v1/agents/{agent}/execute",
        json={"input": script, "mode": "async", "workspace": {"upload_id": folder}},
    )
    assert (await service.client.delete(f"/api/v1/uploads/{folder}")).status_code == 204
    done = await service.until(answer.json()["id"], "completed", "failed")
    assert "kept" in done["output"]


async def test_a_tool_that_is_not_there_is_told_to_the_model(service: Service) -> None:
    done = await service.run(await service.agent(), "@call launch {}\n@then\n@quote 1")
    assert done["status"] == "completed"
    assert "launch" in done["output"]
