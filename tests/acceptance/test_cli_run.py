"""``chargehand run`` and what every command prints, against the imitated service."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.factories import commands
from tests.factories.client_peer import RUN, RunningPeer, a_story, running_peer

ESCAPE = "\x1b"


def chargehand(
    peer: RunningPeer | None, *arguments: str, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    return commands.chargehand(*arguments, stdin=stdin, **towards(peer), **more)


def towards(peer: RunningPeer | None) -> dict[str, str]:
    return {"CHARGEHAND_URL": peer.url, "CHARGEHAND_KEY": "chk_test"} if peer else {}


def test_in_a_pipe_the_answer_is_apart_from_the_steps() -> None:
    with running_peer(a_story()) as peer:
        done = chargehand(peer, "run", "helper", "Hello")
    assert done.returncode == 0
    assert done.stdout == "All is well.\n"
    lines = done.stderr.splitlines()
    assert lines[0] == f"run {RUN}"
    assert lines[1].split() == ["1", "model", "calls", "list_dir", "10", "tokens", "5", "ms"]
    assert lines[-1] == "completed in 2.5 s, 3 steps, 1,234 tokens, 0.0012 USD"
    assert ESCAPE not in done.stdout + done.stderr


def test_json_is_one_event_a_line_and_the_run_last() -> None:
    story = a_story()
    with running_peer(story, cut_after=400) as peer:
        done = chargehand(peer, "run", "helper", "Hello", "--json")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [[event["id"], event["type"], event["data"]] for event in events] == story
    assert (last["type"], last["data"]["output"]) == ("execution", "All is well.")
    assert done.stderr == ""


def test_in_the_background_only_the_id_is_printed() -> None:
    with running_peer() as peer:
        plain = chargehand(peer, "run", "helper", "Hello", "--async")
        document = chargehand(peer, "run", "helper", "Hello", "--async", "--json")
    assert plain.stdout == f"{RUN}\n"
    assert json.loads(document.stdout)["id"] == RUN


def test_the_input_may_come_through_a_pipe() -> None:
    with running_peer(a_story()) as peer:
        short = chargehand(peer, "run", "helper", stdin="Hi")
        long = chargehand(peer, "run", "helper", "-", stdin="Hi" * 1000)
        starts = [request["size"] for request in peer.seen() if request["method"] == "POST"]
    assert (short.returncode, long.returncode) == (0, 0)
    assert starts[1] - starts[0] == 1998


def test_a_run_that_failed_is_status_1_and_says_why() -> None:
    with running_peer(a_story(), status="failed", output=None) as peer:
        done = chargehand(peer, "run", "helper", "Hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ResourceExhausted: Too many steps." in done.stderr


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (404, 3), (403, 4), (401, 4), (429, 5), (500, 1)]
)
def test_each_kind_of_refusal_has_its_exit_code(status: int, code: int) -> None:
    with running_peer(answers={"POST /agents/helper/execute": [status] * 2}) as peer:
        plain = chargehand(peer, "run", "helper", "Hello")
        document = chargehand(peer, "run", "helper", "Hello", "--json")
    assert (plain.returncode, document.returncode) == (code, code)
    assert plain.stdout == ""
    assert f"Answered {status} on purpose" in plain.stderr
    assert "request req-1" in plain.stderr
    assert len(plain.stderr.splitlines()) <= 6
    assert "Traceback" not in plain.stderr
    assert json.loads(document.stdout)["error"]["request_id"] == "req-1"
    assert document.stderr == ""


def test_nobody_there_is_status_6() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        peer = RunningPeer(f"http://127.0.0.1:{unused.getsockname()[1]}")
        done = chargehand(peer, "run", "helper", "Hello")
    assert done.returncode == 6
    assert peer.url in done.stderr
    assert "chargehand up" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "helper", "Hello"], "CHARGEHAND_URL is not set"),
        (["run"], "Missing argument"),
        (["runn"], "Did you mean 'run'?"),
        (["worker", "--queues", "agents,fast"], "there is no queue fast"),
        (["api"], "DATABASE_URL"),
        (["up", "--port", "99999"], "65535"),
    ],
)
def test_wrong_use_is_status_2_and_says_how(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    done = chargehand(None, *arguments, CHARGEHAND_DATA=str(tmp_path / "none"))
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert "Traceback" not in done.stderr


def test_ctrl_c_cancels_the_run() -> None:
    with (
        running_peer(a_story()[:4], stalls=True, status="cancelled") as peer,
        subprocess.Popen(
            commands.command("run", "helper", "Hello"),
            stderr=subprocess.PIPE,
            env=commands.environment(**towards(peer)),
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        process.stderr.readline()
        # Not before the first line: until then there is no run to cancel.
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert f"Run {RUN} is cancelled." in process.stderr.read()
        paths = [request["path"] for request in peer.seen()]
    assert f"/executions/{RUN}/cancel" in paths


def test_ctrl_c_ends_the_watching_of_a_run_and_not_the_run() -> None:
    with (
        running_peer(a_story()[:4], stalls=True) as peer,
        subprocess.Popen(
            commands.command("executions", "follow", RUN),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=commands.environment(**towards(peer)),
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()
        paths = [request["path"] for request in peer.seen()]
    assert f"/executions/{RUN}/events" in paths
    assert f"/executions/{RUN}/cancel" not in paths


def on_a_terminal(peer: RunningPeer, *options: str, **more: str) -> str:
    """What ``run`` writes where both streams are a terminal."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        commands.command("run", "helper", "Hello", *options),
        stdout=theirs,
        stderr=theirs,
        env=commands.environment(**towards(peer), TERM="xterm", **more),
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # Linux: the other end is closed
            break
    os.close(ours)
    assert process.wait(10) == 0
    return shown.decode()


def test_on_a_terminal_the_text_is_streamed_among_the_steps() -> None:
    with running_peer(a_story()) as peer:
        shown = on_a_terminal(peer, NO_COLOR="")
    assert ESCAPE in shown
    assert shown.index("Teil 1: grün") < shown.index("calls list_dir") < shown.index("Teil 3")
    assert "All is well." not in shown  # it was streamed already, in its pieces


def test_no_color_means_no_escape_codes() -> None:
    with running_peer(a_story()) as peer:
        by_variable = on_a_terminal(peer, NO_COLOR="1")
        by_option = on_a_terminal(peer, "--no-color", NO_COLOR="")
    for shown in (by_variable, by_option):
        assert "Teil 3" in shown
        assert ESCAPE not in shown


def test_quietly_there_is_the_answer_and_no_more() -> None:
    with running_peer(a_story()) as peer:
        done = chargehand(peer, "run", "helper", "Hello", "-q")
    with running_peer(a_story(), status="failed", output=None) as peer:
        failed = chargehand(peer, "run", "helper", "Hello", "-q")
    assert (done.stdout, done.stderr) == ("All is well.\n", "")
    assert (failed.stdout, failed.stderr) == ("", "ResourceExhausted: Too many steps.\n")
