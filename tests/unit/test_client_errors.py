"""One exception of the client per code of the service, below the same kind."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import chargehand
import chargehand_client
from chargehand.kernel.errors import ChargehandError
from chargehand.web.error_codes import HTTP_ERRORS, RUN_ERRORS
from chargehand_client import ApiError, ChargehandClientError, Execution, RunFailed, errors

# What has no kind stands beside them.
KINDS = {
    kind.__name__: kind
    for kind in ApiError.__subclasses__()
    if kind is not chargehand_client.InternalError
}
BY_CODE = errors.API_ERRORS | errors.RUN_ERRORS


def answered(status: int, code: str) -> ApiError:
    envelope = {"code": code, "message": "No.", "details": {"a": 1}, "request_id": "r"}
    return errors.error_of(status, json.dumps({"error": envelope}).encode(), "GET /x")


def test_every_code_of_the_service_has_its_exception_and_there_are_no_others() -> None:
    names = {error.code for error in HTTP_ERRORS}
    assert names == errors.API_ERRORS.keys() - (KINDS.keys() - names) - {"ApiError"}
    assert {error.code for error in RUN_ERRORS} == errors.RUN_ERRORS.keys() - {"RunFailed"}


@pytest.mark.parametrize("row", HTTP_ERRORS, ids=lambda row: row.code)
def test_an_answer_is_raised_as_its_code(row: Any) -> None:
    error = answered(row.status, row.code)
    assert type(error).__name__ == error.code == row.code
    assert (error.status, error.details, error.request_id) == (row.status, {"a": 1}, "r")


@pytest.mark.parametrize("status", sorted({row.status for row in HTTP_ERRORS} | {502, 504}))
def test_a_code_of_a_newer_service_falls_to_its_kind(status: int) -> None:
    error = answered(status, "MoonInTheWrongPhase")
    assert type(error) in {*KINDS.values(), ApiError}
    assert error.code == "MoonInTheWrongPhase"
    known = {type(answered(row.status, row.code)) for row in HTTP_ERRORS if row.status == status}
    # OrganizationLimitExceeded is a limit that is told as a refusal.
    assert not known or any(issubclass(each, type(error)) for each in known)


def below(kind: type[ChargehandError]) -> Iterator[type[ChargehandError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from below(each)


def test_an_exception_is_of_the_kind_that_it_is_in_the_service() -> None:
    for module in pkgutil.walk_packages(chargehand.__path__, "chargehand."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    codes = {row.code for row in HTTP_ERRORS}
    theirs = {kind.code: kind for kind in below(ChargehandError) if kind.code in codes}
    assert len(theirs) > 20
    for code, kind in theirs.items():
        kinds = {each.__name__ for each in kind.__mro__} & KINDS.keys()
        ours = {each.__name__ for each in BY_CODE[code].__mro__} & KINDS.keys()
        assert ours == kinds, code


def test_every_exception_can_be_imported_from_the_package_and_says_what_it_means() -> None:
    def all_below(kind: type[ChargehandClientError]) -> Iterator[type[ChargehandClientError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from all_below(each)

    for kind in all_below(ChargehandClientError):
        assert getattr(chargehand_client, kind.__name__) is kind
        assert kind.__name__ in chargehand_client.__all__
        assert kind.__doc__


def execution(status: str, error: Any) -> Execution:
    document = dict.fromkeys(Execution.__slots__) | {
        "id": "e1",
        "status": status,
        "error": error,
        "usage": dict.fromkeys(chargehand_client.Usage.__slots__, 0),
        "cost": "0",
        "created_at": "2026-11-21T10:00:00Z",
    }
    return Execution.of(document)


@pytest.mark.parametrize("row", RUN_ERRORS, ids=lambda row: row.code)
def test_a_run_that_failed_is_raised_where_that_is_wanted(row: Any) -> None:
    failed = execution("failed", {"code": row.code, "message": "No.", "details": {"a": 1}})
    with pytest.raises(errors.RUN_ERRORS[row.code], match=r"No\.") as raised:
        failed.raise_for_failure()
    assert type(raised.value).__name__ == raised.value.code == row.code
    assert (raised.value.execution_id, raised.value.details) == ("e1", {"a": 1})


def test_other_ends_of_a_run() -> None:
    good = execution("completed", None)
    assert good.raise_for_failure() is good
    unknown = execution("failed", {"code": "Moonstruck", "message": "No.", "details": {}})
    for run, code in ((unknown, "Moonstruck"), (execution("cancelled", None), "Cancelled")):
        with pytest.raises(RunFailed) as raised:
            run.raise_for_failure()
        assert (type(raised.value), raised.value.code) == (RunFailed, code)
