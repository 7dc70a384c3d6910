"""What commands print: one line per line, nothing that a terminal would obey, no traceback."""

import json
import sys

import pytest
import typer
from structlog.testing import capture_logs

from chargehand.cli import output
from chargehand.cli.live import line_of
from chargehand.cli.main import tell_defect
from chargehand.kernel.errors import Invalid, Violation
from chargehand_client.events import read_event

RED = "\x1b[31mred"
SHOWN = r"\x1b[31mred"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (RED, SHOWN),
        ("a\tb\rc\nd", r"a\tb\rc\nd"),
        ("turned\u202ename", r"turned\u202ename"),
        ("half \ud800", r"half \ud800"),
        ("grün – 緑 🙂", "grün – 緑 🙂"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert output.visible(text) == shown


def test_a_table_stays_a_table_whatever_its_cells_hold(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "state"), [(RED, "active"), ("two\nlines", "revoked")])
    assert capsys.readouterr().out.splitlines() == [
        "name         state",
        f"{SHOWN}  active",
        r"two\nlines   revoked",
    ]


def test_an_error_spells_out_what_others_wrote_into_it(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Violation(f"/{RED}", f"no {RED}\nno more").as_json()
    code = output.report(Invalid(f"First {RED}.\nSecond.", violations=[wrong]), as_json=False)
    assert (code, capsys.readouterr().err.splitlines()) == (
        2,
        [
            f"Error: First {SHOWN}.",
            "  Second.",
            rf"  /{SHOWN}: no {SHOWN}\nno more",
            "  code InvalidInput",
        ],
    )


def test_an_option_that_is_not_utf_8_is_refused() -> None:
    assert (output.utf8("grün"), output.utf8(None)) == ("grün", None)
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        output.utf8("\udcff")


def told_of_a_defect() -> None:
    error = RuntimeError(f"it broke\n  {RED}" + "!" * 1000)
    tell_defect(RuntimeError, error, None)


def test_a_defect_is_told_short_and_kept_whole_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capture_logs() as logged:
        told_of_a_defect()
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"Error: A defect of Chargehand: RuntimeError: it broke {SHOWN}!")
    assert len(first) < 400
    assert "--debug" in second
    assert last == "  code InternalError"
    assert [(entry["event"], entry["exc_info"][0]) for entry in logged] == [
        ("defect", RuntimeError)
    ]


def test_a_defect_is_one_document_where_json_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["chargehand", "run", "--json"])
    told_of_a_defect()
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == "InternalError"
    assert told.err == ""


def test_a_line_of_the_log_is_shown_unless_another_event_tells_it() -> None:
    def shown(event_type: str, level: str = "warning") -> object:
        data = {"level": level, "event_type": event_type, "message": "It is so."}
        return line_of(read_event("1.7", "log", json.dumps(data), "a run"))

    assert shown("disk.full") == ("      warning: It is so.", "yellow")
    assert shown("disk.full", "info") is None
    for told in ("execution.taken_over", "execution.failed", "step.tool"):
        assert shown(told) is None
