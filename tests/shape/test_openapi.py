"""The OpenAPI document as a document: its version, its names, its examples (SPEC API-1).

``operations.txt`` is what clients rely on. It is changed on purpose only:
python -m tests.shape.test_openapi > tests/shape/operations.txt
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import validator_for
from tests.factories.conformance import INTERNALS, Conformance
from tests.factories.described import described_app

from chargehand.web.error_codes import HTTP_ERRORS, STATUS_OF_CODE

SNAPSHOT = Path(__file__).with_name("operations.txt")
OF_FRAMEWORK = {"RouteNotFound", "MethodNotAllowed"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return described_app().openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def lines(document: dict[str, Any]) -> list[str]:
    """A line for each operation: its id, method, path, scopes and role."""
    found = [
        f"{op['operationId']}  {method.upper()} {path}  "
        f"{' '.join(_scopes(op)) or '-'}  {op.get('x-required-role', 'public')}"
        for method, path, op in operations(document)
    ]
    return sorted(found)


def _scopes(operation: dict[str, Any]) -> list[str]:
    return [scope for need in operation.get("security", ()) for scope in need["ApiKey"]]


def test_operations_and_their_ids_stay(document: dict[str, Any]) -> None:
    assert SNAPSHOT.read_text().splitlines() == lines(document)


def test_each_operation_has_an_id_of_its_own_a_summary_and_a_tag(
    document: dict[str, Any],
) -> None:
    ids = [op["operationId"] for _, _, op in operations(document)]
    assert len(set(ids)) == len(ids)
    for _, path, op in operations(document):
        assert op["summary"], path
        assert op["tags"], path


def test_it_is_openapi_3_1_of_json_schema_2020_12(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    for name, schema in document["components"]["schemas"].items():
        assert validator_for({**schema, "components": document["components"]}), name


def test_it_names_nothing_of_the_inside(document: dict[str, Any]) -> None:
    assert not INTERNALS.search(str({**document, "paths": _without_examples(document["paths"])}))
    assert not [name for name in document["components"]["schemas"] if "__" in name]


def _without_examples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_examples(v) for k, v in value.items() if k != "example"}
    return [_without_examples(item) for item in value] if isinstance(value, list) else value


def test_each_error_of_the_table_is_described_somewhere(document: dict[str, Any]) -> None:
    found = set[str]()
    for _, path, op in operations(document):
        for status, response in op["responses"].items():
            for code in response.get("x-error-codes", ()):
                assert STATUS_OF_CODE[code] == int(status), (path, code)
                assert f"`{code}`" in response["description"]
                found.add(code)
    assert found == {row.code for row in HTTP_ERRORS} - OF_FRAMEWORK


def test_each_operation_with_a_key_can_answer_what_keys_can_get(
    document: dict[str, Any],
) -> None:
    for _, path, op in operations(document):
        if "security" in op:
            assert {"400", "401", "500", "503"} <= op["responses"].keys(), path
        if _scopes(op) or op.get("x-required-role", "viewer") != "viewer":
            assert "403" in op["responses"], path
        if "application/json" in op.get("requestBody", {}).get("content", {}):
            assert {"413", "415"} <= op["responses"].keys(), path


def test_each_error_is_the_one_envelope(document: dict[str, Any]) -> None:
    for _, path, op in operations(document):
        for status, response in op["responses"].items():
            if int(status) >= 400 and path != "/readyz":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (path, status)


def test_each_answer_says_its_headers(document: dict[str, Any]) -> None:
    needed = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for _, path, op in operations(document):
        for status, response in op["responses"].items():
            assert "X-Request-Id" in response["headers"], (path, status)
            if status in needed and path != "/readyz":
                assert needed[status] in response["headers"], (path, status)
        if any(name["name"] == "If-Match" for name in op.get("parameters", ())):
            assert "412" in op["responses"], path
        if any(name["name"] == "Idempotency-Key" for name in op.get("parameters", ())):
            assert "422" in op["responses"], path
            done = next(op["responses"][code] for code in ("200", "202") if code in op["responses"])
            assert "Idempotency-Replayed" in done["headers"], path


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body that is sent or answered, with a name for messages."""
    for _, _, op in operations(document):
        for media_type, content in op.get("requestBody", {}).get("content", {}).items():
            yield f"{op['operationId']} takes {media_type}", content
        for status, response in op["responses"].items():
            for media_type, content in response.get("content", {}).items():
                yield f"{op['operationId']} {status} {media_type}", content


def test_each_body_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    conformance = Conformance(document)
    for name, content in contents(document):
        if name == "download_upload 200 application/gzip":
            continue  # no text
        found = conformance.validator(content["schema"]).iter_errors(content["example"])
        assert [f"{list(one.instance_path)}: {one.message}" for one in found] == [], name


def test_each_part_of_a_path_has_an_example_that_fits(document: dict[str, Any]) -> None:
    conformance = Conformance(document)
    for _, path, op in operations(document):
        for parameter in op.get("parameters", ()):
            if parameter["in"] == "path":
                assert conformance.validator(parameter["schema"]).is_valid(parameter["example"])
            assert parameter["in"] == "path" or parameter.get("description", "x"), path


def test_no_parameter_can_be_null(document: dict[str, Any]) -> None:
    for _, path, op in operations(document):
        for parameter in op.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), path


def test_an_agent_is_described_as_it_is_taken(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    visibility = schemas["AgentCreate"]["properties"]["visibility"]
    assert visibility["enum"] == ["private", "organization", "public"]
    cost = Conformance(document).validator(schemas["LimitsInput"]["properties"]["cost_usd"])
    assert [cost.is_valid(value) for value in ("0.5", 2, None)] == [True] * 3
    assert [cost.is_valid(value) for value in ("", "0", "-1", 0)] == [False] * 4


def test_the_key_is_a_bearer_token_whose_scopes_each_operation_names(
    document: dict[str, Any],
) -> None:
    scheme = document["components"]["securitySchemes"]["ApiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


if __name__ == "__main__":
    print("\n".join(lines(described_app().openapi())))
