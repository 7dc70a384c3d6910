"""Runs that are steered and answered on the command line, with and without a terminal."""

import json
import shlex
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from tests.factories.commands import Command, Told, command, environment
from tests.factories.restartable import RestartableService, owner_key
from tests.factories.terminal import Terminal, terminal

from chargehand_client import Chargehand, Execution

CONFIG = {
    "model": {"provider": "simulated", "name": "standard"},
    "capabilities": {"ask_user": {}, "await_event": {}, "metadata": {}, "todo": {}},
    "approvals": {"metadata_write": {}, "todo_write": {"persons": 2}},
}
END = "\n@then\n@quote 1"
ASKS = '@call ask_user {"question": "Which branch?"}' + END
HOW_MANY = '@call ask_user {"question": "How many?", "answer_schema": {"type": "integer"}}' + END
AS_TEXT = '@call ask_user {"question": "Its name?", "answer_schema": {"type": "string"}}' + END
WRITES = '@call metadata_write {"key": "n", "value": 1}' + END
AWAITS = '@call await_event {"event_type": "it\'s paid", "filter": {"number": 7}}' + END
LOOKUP = {"name": "lookup", "parameters": {"type": "object"}}

Say = Callable[..., Told]


@pytest.fixture
def settings(lasting_service: RestartableService) -> dict[str, str]:
    key = owner_key(lasting_service.database)
    return {"CHARGEHAND_URL": lasting_service.url, "CHARGEHAND_KEY": key}


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[Chargehand]:
    with Chargehand(settings["CHARGEHAND_URL"], settings["CHARGEHAND_KEY"]) as opened:
        opened.create_agent("Helper", CONFIG, slug="helper")
        yield opened


@pytest.fixture
def say(chargehand: Command, settings: dict[str, str]) -> Say:
    """Type a command line, which is to end with this code."""

    def typed(line: str, code: int = 0) -> Told:
        told = chargehand(*shlex.split(line), **settings)
        assert told.code == code, told
        return told

    return typed


def ended(client: Chargehand, execution_id: str) -> Execution:
    with client.follow(execution_id) as run:
        list(run)
    return client.execution(execution_id)


def commands_in(text: str) -> list[str]:
    """The command lines that a text tells its reader to type, without the program's name."""
    return [line.partition("chargehand ")[2] for line in text.splitlines() if " with: " in line]


def test_a_run_that_is_shown_says_what_it_waits_for_and_its_answer_works(
    client: Chargehand, say: Say
) -> None:
    run = client.run("helper", ASKS)
    shown = say(f"executions show {run.id}").out
    assert "\nIt asks: Which branch?\n" in shown
    (line,) = commands_in(shown)
    assert line == f"executions input {run.id} ANSWER --wait 1"
    stale = say(line.replace("--wait 1", "--wait 2").replace("ANSWER", "main"), code=1)
    assert "WaitClosed" in stale.err
    assert say(line.replace("ANSWER", "main")).out == f"Run {run.id} goes on.\n"
    assert ended(client, run.id).output == "ask_user:\n> main"
    assert commands_in(say(f"executions show {run.id}").out) == []


@pytest.mark.parametrize(
    ("script", "answer", "quoted"),
    [
        (ASKS, '{"a": 1}', '{"a": 1}'),
        (HOW_MANY, "3", "3"),
        (AS_TEXT, "3", "3"),
        (AS_TEXT, "main", "main"),
    ],
)
def test_an_answer_is_json_where_the_question_wants_other_than_text(
    client: Chargehand, say: Say, script: str, answer: str, quoted: str
) -> None:
    run = client.run("helper", script)
    say(f"executions input {run.id} {shlex.quote(answer)}")
    assert ended(client, run.id).output == f"ask_user:\n> {quoted}"


def test_an_answer_that_does_not_fit_is_wrong_use(client: Chargehand, say: Say) -> None:
    run = client.run("helper", HOW_MANY)
    assert "/input: " in say(f"executions input {run.id} many", code=2).err
    assert "give either an answer" in say(f"executions input {run.id}", code=2).err
    assert "give it as CALL=" in say(f"executions input {run.id} --result x", code=2).err
    client.cancel(run.id)
    assert "InvalidTransition" in say(f"executions input {run.id} 3", code=1).err


def test_results_of_ones_own_tools_are_given(client: Chargehand, say: Say) -> None:
    script = '@call lookup {"n": 1}\n@call lookup {"n": 2}' + END
    run = client.run("helper", script, tools=[LOOKUP])
    shown = say(f"executions show {run.id}").out
    assert '\n  lookup {"n": 1}\n  lookup {"n": 2}\n' in shown
    (line,) = commands_in(shown)
    second = (run.waiting_for or {})["calls"][1]["call_id"]
    half = line.replace(f"--result {second}=OUTPUT ", "").replace("OUTPUT", "'{\"a\": 1}'")
    assert say(half).out == f"Run {run.id} is awaiting_input.\n"
    say(f"executions input {run.id} --error '{second}=There is none.'")
    output = ended(client, run.id).output
    assert ('{"a":1}' in output, "There is none." in output) == (True, True)


def test_without_a_terminal_the_call_that_is_shown_is_approved(
    client: Chargehand, say: Say
) -> None:
    run = client.run("helper", WRITES)
    shown = say(f"executions show {run.id}").out
    verbs = [line.split()[1:2] for line in commands_in(shown)]
    assert verbs == [["approve"], ["deny"]]
    told = say(f"executions approve {run.id}")
    assert told.err.splitlines() == [
        "It waits until a person has approved:",
        '  metadata_write {"key": "n", "value": 1}',
    ]
    assert "n written" in ended(client, run.id).output
    refused = say(f"executions approve {run.id}", code=1)
    assert "InvalidTransition" in refused.err
    asking = client.run("helper", ASKS)
    assert "WaitClosed" in say(f"executions deny {asking.id}", code=1).err


def test_in_json_and_quietly_nothing_but_the_document_is_printed(
    client: Chargehand, say: Say
) -> None:
    run = client.run("helper", '@call todo_write {"todos": []}')
    told = say(f"executions approve {run.id} --json")
    assert (told.err, json.loads(told.out)["waiting_for"]["persons"]) == ("", 2)
    assert "AlreadyApproved" in say(f"executions approve {run.id} --quiet", code=1).err
    assert say(f"executions deny {run.id} --comment No. --quiet") == Told(0, "", "")


def test_on_a_terminal_a_decision_is_asked_for(
    client: Chargehand, settings: dict[str, str], tmp_path: Path
) -> None:
    run = client.run("helper", WRITES)
    given = environment(**settings, NO_COLOR="1")
    with terminal(tmp_path, given) as opened:
        answers(opened, shlex.join(command("executions", "approve", run.id)), "n")
        assert client.execution(run.id).status == "awaiting_input"
        answers(opened, shlex.join(command("executions", "approve", run.id)), "y")
    assert "n written" in ended(client, run.id).output
    other = client.run("helper", WRITES)
    with terminal(tmp_path, given) as opened:
        told = opened.run(shlex.join(command("executions", "deny", other.id, "--yes")))
    assert "metadata_write" in told
    assert "?" not in told
    assert "A person denied this call" in ended(client, other.id).output


def answers(opened: Terminal, line: str, answer: str) -> None:
    begin = len(opened.shown)
    # What is asked stands on a line without an end, which this terminal shows when it has one.
    opened.type(f"{line} || true")
    opened.until("metadata_write", begin)
    opened.type(answer)
    assert "Approve it?" in opened.ended(begin)


@contextmanager
def watching(settings: dict[str, str], *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A command that follows a run; it is killed when nothing has come of it for long."""
    with subprocess.Popen(
        command(*arguments),
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = Timer(30, process.kill)
        watchdog.start()
        yield process
        watchdog.cancel()


def told_at(words: str, process: subprocess.Popen[str]) -> str:
    """The command line behind these words, as soon as it is shown."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(words):
            return line.strip().removeprefix(f"{words}chargehand ")
    raise AssertionError(f"nobody said {words}")


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("more", [(), ("--quiet",)], ids=["loud", "quiet"])
def test_who_watches_a_run_is_told_and_watches_on(
    settings: dict[str, str], say: Say, more: tuple[str, ...]
) -> None:
    """Quietly too: whoever waits for results would wait for ever."""
    with watching(settings, "run", "helper", ASKS, *more) as process:
        say(told_at("answer with: ", process).replace("ANSWER", "main"))
        out, _ = process.communicate()
    assert (process.returncode, out) == (0, "ask_user:\n> main\n")


def test_who_watches_a_paused_run_is_told_how_it_goes_on(
    client: Chargehand, settings: dict[str, str], say: Say
) -> None:
    run = client.run("helper", ASKS)
    assert say(f"executions pause {run.id} --reason lunch").out == f"Run {run.id} is paused.\n"
    with watching(settings, "executions", "follow", run.id) as process:
        say(told_at("resume with: ", process))
        say(f"executions kill {run.id}")
        process.communicate()
    assert process.returncode == 1
    assert client.execution(run.id).force_killed


def test_an_event_is_sent_as_it_is_told(client: Chargehand, say: Say) -> None:
    run = client.start("helper", AWAITS)
    with client.follow(run.id) as events:
        next(event for event in events if event.type == "event.awaited")
    shown = say(f"executions show {run.id}").out
    assert 'It waits for the event it\'s paid with {"number": 7}.' in shown
    (line,) = commands_in(shown)
    assert say("events send nothing --json").out == '{"woken": []}\n'
    assert say(line).out == f"1 run waited for it's paid.\n{run.id}\n"
    assert say(line).out == "0 runs waited for it's paid.\n"
    assert '"number":7' in ended(client, run.id).output
    assert "it is not JSON" in say("events send paid {", code=2).err


def test_new_runs_are_told_by_their_ids(client: Chargehand, say: Say, tmp_path: Path) -> None:
    failed = client.run("helper", "@fail 400")
    again = say(f"executions retry {failed.id}").out.strip()
    origin = client.execution(again).origin or {}
    assert (origin["kind"], origin["execution_id"]) == ("retry", failed.id)
    done = client.run("helper", "@say One.")
    (tmp_path / "brief.txt").write_text("Be brief.")
    line = f"executions fork {done.id} --step 0 --input '@say Two.' --model simulated:unpriced"
    forked = say(f"{line} --instructions @brief.txt").out.strip()
    found = ended(client, forked)
    assert (found.output, found.unpriced) == ("Two.", True)
    assert "has no provider" in say(f"executions fork {done.id} --model standard", code=2).err
    assert "InvalidTransition" in say(f"executions retry {done.id}", code=1).err
    assert "/step" in say(f"executions fork {done.id} --step 9", code=2).err


def test_a_run_that_works_is_told_to_pause(client: Chargehand, say: Say) -> None:
    run = client.start("helper", "@delay 20s\n@say Never.")
    with client.follow(run.id) as events:
        next(one for one in events if one.data.get("status") == "running")
    assert say(f"executions pause {run.id}").out == f"Run {run.id} is being paused.\n"
    assert say(f"executions resume {run.id}").out == f"Run {run.id} goes on.\n"
    assert say(f"executions kill {run.id}").out == f"Run {run.id} is cancelled.\n"
