"""The tables of error codes are closed: nothing else is raised, and no row is dead (SPEC API-1)."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chargehand
from chargehand.web.error_codes import HTTP_ERRORS, RUN_ERRORS, HttpError
from chargehand_client.errors import error_of, run_error_of

PACKAGE = Path(chargehand.__file__).parent
CODES = {row.code for row in HTTP_ERRORS}

OF_FRAMEWORK = {"RouteNotFound", "MethodNotAllowed", "InternalError"}
"""No class of ours: ``web/problems.py`` answers them to what FastAPI and defects raise."""

KINDS = {"NotFound", "Conflict", "Unavailable", "ModelProviderFailed"}
"""Of the kinds themselves, which nobody raises without a code of its own."""

ELSEWHERE = {
    "DuplicateMember": "only the operator's commands add members",
    "DuplicateOrganization": "only the operator's commands make organizations",
    "DuplicateUser": "only the operator's commands make users",
    "InvalidSchema": "an agent's schemas are checked when it is saved, as InvalidAgentConfig",
    "InvalidSettings": "refuses to start",
    "LeaseLost": "between the worker and its run",
}
"""Codes of classes that the API's process knows, and never answers."""

LOADED = """
import json
from chargehand.entrypoints import api
from chargehand.kernel.errors import ChargehandError

def below(kind):
    yield kind.__name__, kind.code
    for each in kind.__subclasses__():
        yield from below(each)

print(json.dumps(sorted(set(below(ChargehandError)))))
"""


@pytest.fixture(scope="module")
def raised() -> dict[str, str]:
    """The code of each error class that the process of the API loads, by the class's name."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": ""},
    )
    return dict(json.loads(done.stdout))


def test_what_the_api_can_raise_is_in_the_table_or_excused(raised: dict[str, str]) -> None:
    assert set(raised.values()) - KINDS - set(ELSEWHERE) <= CODES


def test_no_row_is_dead(raised: dict[str, str]) -> None:
    assert set(raised.values()) | set(codes_given()) >= CODES - OF_FRAMEWORK


def test_no_excuse_is_dead(raised: dict[str, str]) -> None:
    assert set(raised.values()) >= set(ELSEWHERE) | KINDS
    assert not CODES & (set(ELSEWHERE) | KINDS)


def codes_given() -> Iterator[str]:
    """The constants given as ``code=`` to an error, anywhere."""
    for call in calls():
        for keyword in call.keywords:
            if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                yield keyword.value.value


def calls() -> Iterator[ast.Call]:
    for module in PACKAGE.rglob("*.py"):
        if module.parts[-2] in ("cli", "adapters"):
            continue
        nodes = ast.walk(ast.parse(module.read_text()))
        yield from (node for node in nodes if isinstance(node, ast.Call))


def test_codes_that_are_given_in_passing_are_in_the_table() -> None:
    assert set(codes_given()) <= CODES | set(ELSEWHERE)


def run_codes() -> Iterator[str]:
    """The codes that runs are ended with: ``error_code=…``, ``_fail(…)`` and ``Exceeded(…)``."""
    for call in calls():
        given = [keyword.value for keyword in call.keywords if keyword.arg == "error_code"]
        if isinstance(call.func, ast.Name) and call.func.id in ("_fail", "Exceeded"):
            given += call.args
        for value in given:
            if isinstance(value, ast.Constant) and " " not in value.value:
                yield value.value


def test_runs_end_with_the_codes_of_their_table() -> None:
    assert set(run_codes()) == {row.code for row in RUN_ERRORS}


def test_codes_are_unique_and_each_has_a_meaning_and_a_remedy() -> None:
    rows = [*HTTP_ERRORS, *RUN_ERRORS]
    assert len({row.code for row in rows}) == len(rows)
    for row in rows:
        assert row.meaning.endswith(".")
        assert row.remedy.endswith(".")


@pytest.mark.parametrize("row", HTTP_ERRORS, ids=lambda row: row.code)
def test_the_client_has_an_exception_for_each(row: HttpError) -> None:
    body = json.dumps({"error": {"code": row.code, "message": "m"}}).encode()
    error = error_of(row.status, body, "here")
    assert type(error).__name__ == row.code or type(error).__name__ == "Unauthenticated"
    assert (error.code, error.status) == (row.code, row.status)


def test_the_client_has_an_exception_for_each_end_of_a_run() -> None:
    for row in RUN_ERRORS:
        assert type(run_error_of(row.code, "m", {}, "id")).__name__ == row.code
