"""The examples of the OpenAPI document are requests that work, with the answers they get.

To write them anew, when a shape has changed on purpose or an operation has come:
WRITE_EXAMPLES=1 python -m pytest tests/features/test_openapi_examples.py
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories import examples
from tests.factories.executions import Service, running_service

from chargehand.entrypoints import description
from chargehand.kernel.database import Database

FILE = Path(description.__file__).with_name("examples.json")
AGAIN = "run it with WRITE_EXAMPLES=1, and look at what has changed"


@pytest.fixture
async def service(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> AsyncIterator[Service]:
    async with running_service(database, clone.urls.system, tmp_path) as running:
        yield running


async def test_the_examples_are_what_is_asked_and_answered(service: Service) -> None:
    told = await examples.tell(service)
    if os.environ.get("WRITE_EXAMPLES") == "1":
        FILE.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    kept = json.loads(FILE.read_text())
    assert list(kept) == list(told), AGAIN
    for operation, example in told.items():
        for place in ("path", "query", "header", "body"):
            assert kept[operation].get(place) == example.get(place), (operation, place, AGAIN)
        assert shape(kept[operation]["answers"]) == shape(example["answers"]), (operation, AGAIN)


def shape(value: Any) -> Any:
    """Names and types, without values; of a list its first item, of a stream its fields."""
    match value:
        case {"status": int(), "media_type": str(), "body": body}:
            return {**value, "body": shape(body)}
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return (
                [shape(item) for item in value[:1]] if not _answers(value) else [*map(shape, value)]
            )
        case _:
            return type(value).__name__


def _answers(value: list[Any]) -> bool:
    return any(isinstance(item, dict) and "media_type" in item and "body" in item for item in value)


async def test_each_operation_has_an_example(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    ids = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert sorted(ids) == sorted(json.loads(FILE.read_text())), AGAIN
