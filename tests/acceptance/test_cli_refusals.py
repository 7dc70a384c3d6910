"""What the command line refuses before it starts anything, and how it tells a defect."""

import json
import os
import subprocess
from asyncio import Event
from pathlib import Path

import pytest
from tests.factories.client_peer import a_story, running_peer
from tests.factories.commands import SOURCES, Command, Told, command, environment

from chargehand import settings
from chargehand.bootstrap import AddressUnusable, serve_api
from chargehand.kernel.schema import RuntimeUrls

PEER = {"CHARGEHAND_URL": "http://127.0.0.1:1", "CHARGEHAND_KEY": "chk_test"}
SECRET = "hunter2"


def checks(told: Told) -> dict[str, tuple[str, str]]:
    """What ``doctor --json`` found: each check's state and what it says."""
    return {
        check["name"]: (check["state"], f"{check['found']} {check['remedy']}")
        for check in json.loads(told.out)["checks"]
    }


@pytest.mark.parametrize("arguments", [["migrate"], ["keys", "list"], ["keys", "make"]])
def test_a_command_on_an_empty_data_folder_says_what_makes_it_and_makes_nothing(
    chargehand: Command, tmp_path: Path, arguments: list[str]
) -> None:
    folder = tmp_path / "none"
    by_option = chargehand(*arguments, "--data", str(folder), CHARGEHAND_DATA="/elsewhere")
    by_variable = chargehand(*arguments, CHARGEHAND_DATA=str(folder))
    assert by_option == by_variable
    assert (by_option.code, by_option.out) == (2, "")
    assert f"There is nothing in {folder} yet. Run `chargehand up`" in by_option.err
    assert list(tmp_path.iterdir()) == []


def test_doctor_looks_at_the_data_folder_that_is_named(chargehand: Command, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    told = chargehand("doctor", "--data", str(folder), "--json", CHARGEHAND_DATA="/dev/null")
    assert told.code == 0
    assert checks(told)["data folder"] == ("ok", f"{folder} is writable None")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["", "/deeper"])
def test_a_data_folder_that_is_a_file_is_refused(
    chargehand: Command, tmp_path: Path, inside: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    place = f"{file}{inside}"
    refused = chargehand("up", CHARGEHAND_DATA=place)
    assert refused.code == 2
    assert f"{file} is not a folder. Name another" in refused.err
    seen = chargehand("doctor", "--json", CHARGEHAND_DATA=place)
    assert seen.code == 1
    state, found = checks(seen)["data folder"]
    assert (state, f"{file} is not a folder" in found) == ("wrong", True)


def test_an_option_that_names_a_file_is_refused(chargehand: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (["up"], ["migrate"], ["keys", "list"], ["keys", "revoke", "x"], ["doctor"]):
        told = chargehand(*arguments, "--data", "file")
        assert (told.code, "'--data': dir 'file' is a file" in told.err) == (2, True)


@pytest.mark.parametrize("arguments", [["up"], ["migrate"], ["keys", "list"], ["worker"]])
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("~nobody-there/data", "~nobody-there/data: Could not determine home directory. Name"),
        ("\udcff", r"\udcff: its path is not UTF-8. Name"),
    ],
)
def test_a_data_folder_that_no_path_leads_to_is_refused(
    chargehand: Command, tmp_path: Path, arguments: list[str], place: str, problem: str
) -> None:
    told = chargehand(*arguments, CHARGEHAND_DATA=place)
    assert (told.code, problem in told.err) == (2, True), told.err
    assert list(tmp_path.iterdir()) == []


def test_doctor_goes_on_behind_a_data_folder_that_no_path_leads_to(chargehand: Command) -> None:
    told = chargehand("doctor", "--json", CHARGEHAND_DATA="~nobody-there")
    found = checks(told)
    assert told.code == 1
    assert found["data folder"][0] == "wrong"
    assert found["workspaces"][0] == "ok"


def test_doctor_looks_at_tiers_and_workspaces(chargehand: Command, tmp_path: Path) -> None:
    (tmp_path / "tiers.toml").write_text("[tiers.pro]\nactive_rums = 1\n")
    told = chargehand(
        *("doctor", "--json"),
        CHARGEHAND_TIERS_FILE="tiers.toml",
        CHARGEHAND_WORKSPACES="tiers.toml",
    )
    found = checks(told)
    assert told.code == 1
    assert found["tiers"][0] == found["workspaces"][0] == "wrong"
    assert "tiers.pro.active_rums" in found["tiers"][1]
    assert "tiers.toml is not a folder" in found["workspaces"][1]
    assert checks(chargehand("doctor", "--json"))["tiers"] == ("ok", "the built-in ones None")


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@host/name",
        f"postgresql://me:{SECRET}@host:99999/name",
        f"postgresql://me:{SECRET}@host:port/name",
        f"postgresql://me:{SECRET}@a..b/name",
        f"postgresql://me:{SECRET}\udcff@host/name",
        f"postgresql://me:{SECRET}@[::1/name",
        SECRET,
    ],
)
def test_a_url_that_is_none_of_postgresqls_is_refused_and_not_shown(
    chargehand: Command, url: str
) -> None:
    told = chargehand("migrate", DATABASE_URL=url)
    assert told.code == 2
    assert "DATABASE_URL is not the URL of a PostgreSQL database" in told.err
    assert SECRET not in told.err
    seen = chargehand("doctor", DATABASE_URL=url)
    assert (seen.code, "DATABASE_URL is not" in seen.out, SECRET in seen.out) == (1, True, False)


def test_each_of_the_urls_is_looked_at(chargehand: Command) -> None:
    for name in ("CHARGEHAND_APP_URL", "CHARGEHAND_SYSTEM_URL", "CHARGEHAND_LISTEN_URL"):
        told = chargehand("keys", "list", **{name: f"mysql://me:{SECRET}@host/name"})
        assert (told.code, f"{name} is not the URL" in told.err) == (2, True)
        assert SECRET not in told.err


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/name?sslmode=sometimes", "sslmode"),
        (f"postgresql://me@127.0.0.1:1/name?password={SECRET}", "127.0.0.1:1/name cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_the_password(
    chargehand: Command, url: str, problem: str
) -> None:
    told = chargehand("migrate", DATABASE_URL=url)
    assert (told.code, problem in told.err, SECRET in told.err) == (6, True, False), told.err


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("a..b", "there is no host 'a..b'"),
        ("::zz", "there is no host '::zz'"),
        ("\udcff", "there is no host"),
        ("203.0.113.7", "Cannot assign requested address"),
    ],
)
async def test_an_address_where_nobody_can_listen_is_refused_before_the_database_is_looked_for(
    host: str, problem: str
) -> None:
    chosen = settings.load({"CHARGEHAND_HOST": host, "CHARGEHAND_PORT": "0"})
    with pytest.raises(AddressUnusable, match=f"{problem}.*--host"):
        await serve_api(chosen, RuntimeUrls("", ""), stop=Event(), on_ready=print)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "name: String should have at least 1 character"),
        ("x" * 101, "name: String should have at most 100 characters"),
        ("a\x1b[31m", "name: must be one line, without control or format characters"),
        ("a\u202eb", "name: must be one line, without control or format characters"),
        ("\udcff", "name: Input should be a valid string"),
    ],
)
def test_a_key_that_the_route_would_refuse_is_refused_in_its_words(
    chargehand: Command, name: str, told: str
) -> None:
    made = chargehand("keys", "make", "--name", name)
    assert (made.code, told in made.err) == (2, True), made.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["keys", "list", "--org", "\udcff"], "'--org': it is not UTF-8 text"),
        (["keys", "make", "--user", "\udcff"], "'--user': it is not UTF-8 text"),
        (["keys", "revoke", "\udcff"], "'KEY': it is not UTF-8 text"),
        (["run", "helper", "\udcff"], "INPUT: it is not UTF-8 text"),
        (["run", "\udcff", "Hello"], r"'\udcff' is no slug and no id"),
        (["run", "helper", "Hello", "--version", "\udcff"], "half of a surrogate pair"),
        (["\udcff"], "No such command"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_refused(
    chargehand: Command, arguments: list[str], problem: str
) -> None:
    told = chargehand(*arguments, **PEER)
    assert (told.code, told.out) == (2, "")
    assert problem in told.err


def test_bytes_that_are_not_utf_8_are_refused_as_the_system_hands_them_over() -> None:
    for argument, stdin in (("\udcff", b""), ("-", b"\xff")):
        done = subprocess.run(
            command("run", "helper", argument),
            input=stdin,
            capture_output=True,
            env=environment(**PEER),
        )
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"INPUT: it is not UTF-8 text" in done.stderr
        assert b"--workspace" in done.stderr


def test_a_log_line_cannot_steer_the_terminal(chargehand: Command) -> None:
    first, *rest = a_story()
    log = ["1.0", "log", {"level": "error", "message": "\x1b[2Jgone\nFAKE"}]
    with running_peer([log, first, *rest]) as peer:
        told = chargehand("run", "helper", "Hello", **{**PEER, "CHARGEHAND_URL": peer.url})
    assert told.code == 0
    assert r"error: \x1b[2Jgone" in told.err
    assert "\x1b" not in told.err


def test_an_answer_that_is_not_unicode_is_printed_all_the_same(chargehand: Command) -> None:
    with running_peer(a_story(), output="half \ud800") as peer:
        where = {**PEER, "CHARGEHAND_URL": peer.url}
        plain = chargehand("run", "helper", "Hello", **where)
        document = chargehand("run", "helper", "Hello", "--async", "--json", **where)
    assert (plain.code, plain.out) == (0, "half \\ud800\n")
    assert json.loads(document.out)["output"] == "half \ud800"


def broken(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command whose standard input cannot be read, which nothing foresees."""
    with open(os.devnull, "wb") as only_for_writing:
        return subprocess.run(
            command(*arguments, "run", "helper", "-"),
            stdin=only_for_writing,
            capture_output=True,
            text=True,
            env=environment(**PEER),
        )


def test_a_defect_is_told_without_a_traceback_unless_asked_for() -> None:
    told, debugged = broken(), broken("--debug")
    assert (told.returncode, debugged.returncode) == (1, 1)
    assert "A defect of Chargehand: OSError: " in told.stderr
    assert "chargehand --debug" in told.stderr
    assert "Traceback" not in told.stderr
    assert len(told.stderr.splitlines()) <= 6
    assert "Traceback" in debugged.stderr
    assert f"{SOURCES}/chargehand/cli/runs.py" in debugged.stderr
