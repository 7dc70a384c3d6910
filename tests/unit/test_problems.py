"""Errors on the wire: one envelope, the right status, and nothing of the inside (SPEC API-1)."""

from datetime import datetime
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict

from chargehand.kernel.errors import ChargehandError, LimitReached, NotFound, Unauthenticated
from chargehand.web import problems
from chargehand.web.error_codes import HTTP_ERRORS, HttpError
from chargehand.web.requests import check_request
from chargehand.web.texts import ONE_LINE

ORDER = {"count": 1}


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    lines: list[dict[str, int]] = []
    body: int = 0


Note = Annotated[str, Query(alias="side-note"), ONE_LINE]


async def paging(page: Annotated[int, Query(ge=1)] = 1) -> None:
    """A dependency with a parameter of its own."""


def app_raising(error: Exception) -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.post("/orders", dependencies=[Depends(check_request)])
    async def order(
        order: Order, paging: Annotated[None, Depends(paging)], note: Note = "", text: str = ""
    ) -> None:
        raise error

    return app


async def answer(
    error: Exception,
    method: str = "POST",
    path: str = "/orders",
    body: object = ORDER,
) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app_raising(error), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, json=body)


@pytest.mark.parametrize("row", HTTP_ERRORS, ids=lambda row: row.code)
async def test_each_code_has_its_status(row: HttpError) -> None:
    response = await answer(ChargehandError("what, where, why", code=row.code))
    assert response.status_code == row.status
    error = response.json()["error"]
    if row.code != "InternalError":
        assert (error["code"], error["message"]) == (row.code, "what, where, why")


async def test_a_code_that_is_not_in_the_table_is_a_defect() -> None:
    response = await answer(NotFound("whatever", code="Unlisted"))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "InternalError"
    assert "whatever" not in response.text


async def test_the_envelope_has_five_members_and_a_time_in_utc() -> None:
    error = (await answer(NotFound("gone", code="AgentNotFound", agent="a1"))).json()["error"]
    assert set(error) == {"code", "message", "details", "timestamp", "request_id"}
    assert error["details"] == {"agent": "a1"}
    assert error["timestamp"].endswith("Z")
    assert datetime.fromisoformat(error["timestamp"]).utcoffset() is not None


async def test_where_waiting_helps_the_answer_says_how_long() -> None:
    response = await answer(LimitReached("slow down", retry_after_s=12.4))
    assert response.headers["retry-after"] == "12"
    at_once = await answer(LimitReached("slow down", retry_after_s=0.1))
    assert at_once.headers["retry-after"] == "1"
    assert "retry-after" not in (await answer(LimitReached("full"))).headers


async def test_an_unknown_caller_is_asked_for_a_bearer_token() -> None:
    assert (await answer(Unauthenticated("who"))).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/orders", {"count": "many"}, "/count"),
        ("/orders", {"count": 1, "lines": [{}, {"a": "x"}]}, "/lines/1/a"),
        ("/orders?page=0", ORDER, "/query/page"),
        ("/orders", {"count": 1, "body": "x"}, "/body"),
        ("/orders", {"count": 1, "cuont": 1}, "/cuont"),
        ("/orders?side-note=%0A", ORDER, "/query/side-note"),
        ("/orders", None, ""),
    ],
)
async def test_an_invalid_request_is_told_where_it_is_wrong(
    path: str, body: Any, pointer: str
) -> None:
    response = await answer(AssertionError("not reached"), path=path, body=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "InvalidInput")
    assert [violation["pointer"] for violation in error["details"]["violations"]] == [pointer]
    assert (pointer or "the body") in error["message"]


async def test_an_unknown_field_is_called_so_and_a_pattern_is_told_in_words() -> None:
    bad = {"count": "x", "cuont": 1}
    response = await answer(AssertionError("not reached"), path="/orders?side-note=%0A", body=bad)
    error = response.json()["error"]
    messages = {one["pointer"]: one["message"] for one in error["details"]["violations"]}
    assert messages["/cuont"] == "unknown field"
    assert messages["/query/side-note"].startswith("must be one line")
    assert "And 2 more" in error["message"]


async def raw(
    content: bytes, content_type: str | None = "application/json", path: str = "/orders"
) -> tuple[int, Any]:
    app = app_raising(NotFound("reached", code="AgentNotFound"))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post(path, content=content, headers=headers)
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{bad", "the body is not JSON: Expecting property name enclosed in double quotes at "),
        (b'{"count": 1,}', "the body is not JSON: "),
        (b'{"count": "\xff"}', "the body is not UTF-8 text: invalid start byte at byte 11"),
        (b'{"count": 1%b}' % (b"0" * 5000), "the body holds an integer of more than 4300 digits"),
        (b"[" * 100_000, "the body is nested too deeply to be read"),
    ],
)
async def test_a_body_that_cannot_be_read_is_told_why(content: bytes, reason: str) -> None:
    status, error = await raw(content)
    assert (status, error["code"]) == (400, "InvalidInput")
    (violation,) = error["details"]["violations"]
    assert violation["pointer"] == ""
    assert violation["message"].startswith(reason)
    assert error["message"].startswith(reason[:1].upper() + reason[1:])
    assert error["message"].endswith("Correct it and send it again.")


async def test_where_json_goes_wrong_is_told_in_characters() -> None:
    _, error = await raw(b"{bad")
    assert "at character 1." in error["message"]


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "text/json", "application/x-www-form-urlencoded", "application/", "json"],
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(content_type: str | None) -> None:
    status, error = await raw(b'{"count": 1}', content_type)
    assert (status, error["code"]) == (415, "UnsupportedMediaType")
    assert "send Content-Type: application/json" in error["message"]
    assert (content_type or "without a Content-Type") in error["message"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"],
)
async def test_json_is_taken_under_each_of_its_names(content_type: str) -> None:
    assert (await raw(b'{"count": 1}', content_type))[0] == 404


async def test_no_body_needs_no_content_type() -> None:
    status, error = await raw(b"", None)
    assert (status, error["code"]) == (400, "InvalidInput")


@pytest.mark.parametrize(
    ("query", "pointer", "message"),
    [
        ("texts=zz", "/query/texts", "unknown parameter (did you mean 'text'?)"),
        ("sidenote=1", "/query/sidenote", "unknown parameter (did you mean 'side-note'?)"),
        ("note=1", "/query/note", "unknown parameter (did you mean 'side-note'?)"),
        ("x~/y=1", "/query/x~0~1y", "unknown parameter"),
        ("page=1&zz=", "/query/zz", "unknown parameter"),
    ],
)
async def test_an_unknown_query_parameter_is_refused(
    query: str, pointer: str, message: str
) -> None:
    status, error = await raw(b'{"count": 1}', path=f"/orders?{query}")
    assert (status, error["code"]) == (400, "InvalidInput")
    assert error["details"]["violations"] == [{"pointer": pointer, "message": message}]
    assert "it takes page, side-note, text" in error["message"]


async def test_known_query_parameters_are_taken() -> None:
    path = "/orders?page=2&side-note=x&text=&text=y"
    assert (await raw(b'{"count": 1}', path=path))[0] == 404


async def test_a_flood_of_unknown_parameters_is_told_in_part() -> None:
    query = "&".join(f"x{number}=1" for number in range(3000))
    _, error = await raw(b'{"count": 1}', path=f"/orders?{query}")
    assert len(error["details"]["violations"]) == 10


async def test_a_defect_answers_500_and_tells_nothing_of_the_inside() -> None:
    response = await answer(RuntimeError("password=secret"))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "InternalError"
    assert "secret" not in response.text


async def test_a_route_that_is_not_there_answers_in_the_same_envelope() -> None:
    missing = await answer(AssertionError("not reached"), path="/nowhere")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "RouteNotFound")
    wrong = await answer(AssertionError("not reached"), method="DELETE")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "MethodNotAllowed")
    assert wrong.headers["allow"] == "POST"
