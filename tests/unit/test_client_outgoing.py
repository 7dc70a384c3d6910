"""What the client checks before anything is sent: address, key, paths and documents."""

from typing import Any

import pytest

from chargehand_client import ArgumentRefused, Chargehand, FolderRefused, NotConfigured
from chargehand_client.outgoing import api_key, encoded, keyed, path_of, service_url

ELSEWHERE = "https://chargehand.example"
HERE = "http://127.0.0.1:1"
HALF_A_PAIR = "\ud800"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a b", "a space or a line break"),
        ("http://127.0.0.1:8420\n", "a space or a line break"),
        ("http://", "names no host"),
        ("http:///api/v1", "names no host"),
        ("127.0.0.1:8420", "does not begin with http"),
        ("localhost:8420", "does not begin with http"),
        ("ftp://host", "does not begin with http"),
        ("http://host:0", "0 is no port"),
        ("http://host:70000", "70000 is no port"),
        ("http://host:eighty", "port"),
        ("http://a..b", "label empty"),
        (f"http://{HALF_A_PAIR}", "hostname"),
        ("http://host?debug=1", r"behind \? or #"),
        ("http://host?", r"behind \? or #"),
        ("http://host/#top", r"behind \? or #"),
        ("http://me:hunter2@host", "in place of the key"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_its_reason(url: str, problem: str) -> None:
    with pytest.raises(NotConfigured, match=f"{problem}.*export CHARGEHAND_URL=") as refused:
        service_url(url)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("end", ["", "/", "/api/v1", "/api/v1/"])
def test_an_address_may_end_as_people_copy_it(end: str) -> None:
    assert service_url(f"http://host:8420/behind{end}") == "http://host:8420/behind"


@pytest.mark.parametrize("end", ["\n", " x", "ä", "\x1b", HALF_A_PAIR])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with pytest.raises(NotConfigured, match=r"position 12 .*Copy it to CHARGEHAND_KEY") as given:
        api_key(f"chk_hunter2{end}")
    assert "hunter2" not in given.value.message
    if end != HALF_A_PAIR:  # no variable can hold one
        monkeypatch.setenv("CHARGEHAND_KEY", f"chk_hunter2{end}")
        with pytest.raises(NotConfigured, match="position 12 "):
            Chargehand(HERE)


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "../keys", HALF_A_PAIR])
def test_a_name_that_would_be_another_path_is_refused(part: str) -> None:
    with pytest.raises(ArgumentRefused, match="no slug and no id"):
        path_of("agents", part, "execute")


def test_what_else_stands_in_a_name_is_quoted() -> None:
    assert path_of("agents", "a b?c#d%2f\\ä") == "/agents/a%20b%3Fc%23d%252f%5C%C3%A4"


def ring() -> list[Any]:
    ring = list[Any]()
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "float"),
        (float("inf"), "float"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        ({("a", "b"): 1}, "tuple"),
        (ring(), "Circular"),
        (HALF_A_PAIR, "character 11 .* half of a surrogate pair"),
    ],
)
def test_what_json_has_no_word_for_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(ArgumentRefused, match=f"cannot be sent as JSON: .*{reason}"):
        encoded({"input": value})


def test_a_document_goes_out_as_utf_8() -> None:
    assert encoded({"input": "grün"}) == '{"input":"grün"}'.encode()


@pytest.mark.parametrize("key", ["", "a b", "a\n", "a\u200bb", "ä", "x" * 256])
def test_an_idempotency_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(ArgumentRefused, match="1 to 255 visible ASCII characters"):
        keyed(key)


def test_an_idempotency_key_may_be_as_long_as_the_service_takes() -> None:
    assert keyed("x" * 255) == {"Idempotency-Key": "x" * 255}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "nope://proxy"),
        ("ALL_PROXY", "http://proxy:port"),
        ("SSL_CERT_FILE", "/nonexistent/certificates.pem"),
        ("SSL_CERT_FILE", __file__),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    for name in ("NO_PROXY", "no_proxy", variable.lower()):  # which would go before it
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(NotConfigured, match=f"Look at .*{variable}"):
        Chargehand(ELSEWHERE, "chk_test")
    Chargehand(HERE, "chk_test").close()  # which takes no proxy


@pytest.mark.parametrize("after", ["", "1", "1.2.3", "a.b", HALF_A_PAIR])
def test_following_needs_the_id_of_an_event(after: str) -> None:
    with (
        Chargehand(HERE, "chk_test") as client,
        pytest.raises(ArgumentRefused, match=r"not the id of an event.*1\.42"),
        client.follow("run", after=after),
    ):
        pass


@pytest.mark.parametrize("after", ["", "1.42", "0-0-0", f"{'0' * 16}-{'0' * 32}-{'0' * 8} "])
def test_following_a_user_needs_the_id_of_such_an_event(after: str) -> None:
    with (
        Chargehand(HERE, "chk_test") as client,
        pytest.raises(ArgumentRefused, match=r"not the id of an event.*000-000.*000-000"),
        client.follow_user(after=after),
    ):
        pass


def test_an_empty_name_is_not_taken_for_the_current_folder() -> None:
    with (
        Chargehand(HERE, "chk_test") as client,
        pytest.raises(FolderRefused, match="name of the folder is empty"),
    ):
        client.upload_folder("")
