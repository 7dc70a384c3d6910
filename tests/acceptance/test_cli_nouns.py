"""The nouns of the command line on a real service: every example, and what each prints."""

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from tests.conftest import TestDatabase
from tests.factories.commands import Command, Told, command, environment
from tests.factories.restartable import RestartableService, owner_key

import chargehand_client.executions
from chargehand.cli import agents, executions
from chargehand.cli.main import app
from chargehand_client import Chargehand, InvalidTransition, documents

CONFIG = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}
PLACEHOLDER = "0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34"
ESCAPE = "\x1b"
NOWHERE = {"CHARGEHAND_URL": "http://127.0.0.1:1", "CHARGEHAND_KEY": "chk_x"}
SERVING = ("up", "api", "worker")
ELSEWHERE = {"demo": "test_cli_demo"}
"""Examples that a module of their own plays, word for word."""


@dataclass(frozen=True)
class Place:
    """An organization on a service, and a client with its owner's key."""

    client: Chargehand
    organization: str
    settings: dict[str, str]
    folder: Path


@pytest.fixture
def place(lasting_service: RestartableService, tmp_path: Path) -> Iterator[Place]:
    service, urls = lasting_service, lasting_service.database.urls
    key = owner_key(service.database)
    with Chargehand(service.url, key) as client:
        profiles = tmp_path / "configuration" / "chargehand" / "profiles.toml"
        profiles.parent.mkdir(parents=True)
        profiles.touch(0o600)
        profiles.write_text(f'[staging]\nurl = "{service.url}"\nkey = "{key}"\n')
        settings = {
            "CHARGEHAND_URL": service.url,
            "CHARGEHAND_KEY": key,
            "CHARGEHAND_APP_URL": urls.app,
            "CHARGEHAND_SYSTEM_URL": urls.system,
            "XDG_CONFIG_HOME": str(profiles.parent.parent),
        }
        yield Place(client, client.me()["organization"]["slug"], settings, tmp_path)


def commands(group: Any = None, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command of the program, by its words."""
    group = group or typer.main.get_command(app)
    found = dict[str, Any]()
    for name, one in group.commands.items():
        words = (*path, name)
        found |= commands(one, words) if hasattr(one, "commands") else {" ".join(words): one}
    return found


def example_of(one: Any) -> str:
    examples = re.findall(r"^Example: (.+)$", one.help, re.MULTILINE)
    assert len(examples) == 1, one.name
    return examples[0]


def test_every_command_has_an_example_on_a_line_and_speaks_json(chargehand: Command) -> None:
    for words, one in commands().items():
        assert example_of(one) in chargehand(*words.split(), "--help").out
        assert f"chargehand {words}" in example_of(one)
        assert "--json" in {name for parameter in one.params for name in parameter.opts}, words


def test_what_may_be_chosen_is_what_the_client_has() -> None:
    """Written twice, because the client would take half of the time that help may take."""
    assert get_args(executions.Status) == get_args(chargehand_client.executions.Status)
    assert get_args(agents.Visibility) == get_args(documents.Visibility)


def test_every_example_works_in_words_and_in_json(
    place: Place, clone: TestDatabase, chargehand: Command
) -> None:
    write_files(place.folder)
    played = set[str]()
    for words, one in commands().items():
        if words in SERVING or words in ELSEWHERE:
            continue
        given = {**place.settings, "DATABASE_URL": clone.owner_url} | (
            {} if words in ("migrate", "doctor") else {"DATABASE_URL": ""}
        )
        for json_wanted in (False, True):
            subject = prepared(place, words)
            example = example_of(one).replace(PLACEHOLDER, subject)
            example = example.replace("--org default", f"--org {place.organization}")
            arguments = shlex.split(re.split(r"(?:^| )chargehand ", example, maxsplit=1)[1])
            told = chargehand(*arguments, *(["--json"] * json_wanted), **given)
            assert (told.code, ESCAPE in told.out + told.err) == (0, False), (words, told)
            if json_wanted:
                assert told.err == ""
                one_document_or_lines(words, arguments, told)
        played.add(words)
    assert played | set(SERVING) | set(ELSEWHERE) == set(commands())


def one_document_or_lines(words: str, arguments: list[str], told: Told) -> None:
    if words in ("run", "agents test", "executions follow") or "-f" in arguments[-1:]:
        lines = [json.loads(line) for line in told.out.splitlines()]
        assert len(lines) > 1, words
    else:
        assert isinstance(json.loads(told.out), dict), words


def write_files(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "code.py").write_text("print(1 / 0)\n")
    (folder / "agent.json").write_text(json.dumps({"name": "Checked", "config": CONFIG}))
    (folder / "instructions.txt").write_text("Be kind.")


def prepared(place: Place, words: str) -> str:
    """What an example speaks of; returns the id that its placeholder stands for."""
    client = place.client
    for running in list(client.executions(status="running")):
        with suppress(InvalidTransition):  # it has ended meanwhile
            client.cancel(running.id)
        with client.follow(running.id) as run:
            list(run)
    for agent in [*client.agents(), *client.agents(status="archived")]:
        client.delete_agent(agent["id"], purge=True)
    client.create_agent("Assistant", CONFIG, slug="assistant", tags=["demo"])
    client.update_agent("assistant", config=CONFIG | {"instructions": "Answer briefly."})
    client.create_agent("Code review", CONFIG, slug="code-review")
    (place.folder / "src.tar.gz").unlink(missing_ok=True)
    if words == "executions cancel":
        return client.start("assistant", "@delay 60s\n@say Never.").id
    if words in STEERED:
        return steerable(client, words)
    if words.startswith("uploads"):
        return client.upload_folder(place.folder / "src")["id"]
    if words == "keys revoke":
        return client.create_key("to be revoked", ["agents:read"])["id"]
    return client.run("assistant", "@say Hello.").id


STEERED = {
    f"executions {verb}"
    for verb in ("pause", "resume", "kill", "input", "approve", "deny", "retry", "fork")
}
ASKS = '@call ask_user {"question": "Which branch?"}\n@then\n@say Done.'
WRITES = '@call todo_write {"todos": []}\n@then\n@say Done.'


def steerable(client: Chargehand, words: str) -> str:
    """A run that the example of this command can be played on."""
    config = CONFIG | {
        "capabilities": {"ask_user": {}, "todo": {}},
        "approvals": {"todo_write": {}},
    }
    client.update_agent("assistant", config=config)
    client.publish_agent("assistant")
    run = client.run("assistant", WRITES if words.endswith(("approve", "deny")) else ASKS)
    if words == "executions resume":
        client.pause(run.id)
    if words == "executions retry":
        client.cancel(run.id)
    return run.id


@pytest.mark.parametrize("words", SERVING)
def test_the_examples_of_what_serves_serve_until_they_are_told_to_stop(
    words: str, clone: TestDatabase
) -> None:
    example = example_of(commands()[words]).replace("8420", "0").replace("0.0.0.0", "127.0.0.1")
    arguments = shlex.split(example.removeprefix("chargehand "))
    with subprocess.Popen(
        command(*arguments, "--json"),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(
            DATABASE_URL=clone.owner_url,
            CHARGEHAND_APP_URL=clone.urls.app,
            CHARGEHAND_SYSTEM_URL=clone.urls.system,
            CHARGEHAND_LOG_LEVEL="error",
        ),
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert json.loads(first)
    assert rest == ""


def test_an_agents_life(place: Place, chargehand: Command) -> None:
    def told(*arguments: str) -> str:
        done = chargehand(*arguments, **place.settings)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    (place.folder / "helper.toml").write_text(
        'name = "Helper"\ndescription = "Helps."\ntags = ["a"]\n'
        '[config]\ninstructions = "Help."\n'
        '[config.model]\nprovider = "simulated"\nname = "standard"\ntemperature = 0.5\n'
    )
    assert told("agents", "validate", "-f", "helper.toml") == "It can be created.\n"
    made = told("agents", "create", "-f", "helper.toml", "--slug", "helper", "--draft")
    assert made == "Agent helper (1.0.0, draft 1.0.0) is created as a draft.\n"
    assert "1.0.0) is published" in told("agents", "publish", "helper", "--changelog", "The first.")
    changed = told("agents", "update", "helper", "--instructions", "Help more.", "--bump", "minor")
    assert changed == "Agent helper (1.0.0, draft 1.1.0) is changed.\n"
    # A second change goes on from the draft; the model's settings stay as they are.
    told("agents", "update", "helper", "--model", "simulated:standard", "--tag", "b")
    draft = json.loads(told("agents", "show", "helper", "--version", "1.1.0", "--json"))
    assert draft["config"]["model"]["temperature"] == 0.5
    assert draft["config"]["instructions"] == "Help more."
    assert told("agents", "test", "helper", "@say Draft.", "--quiet") == "Draft.\n"
    (test,) = json.loads(told("executions", "list", "--tests", "--json"))["items"]
    assert (test["agent_version"], test["is_test"]) == ("1.1.0", True)
    assert told("agents", "publish", "helper", "--quiet") == ""
    versions = [line.split()[:2] for line in told("agents", "versions", "helper").splitlines()]
    assert versions[1:] == [["1.1.0", "published"], ["1.0.0", "published"]]
    shown = told("agents", "show", "helper")
    assert re.search(r"^tags +b$", shown, re.MULTILINE)
    assert '"instructions": "Help more."' in shown
    told("agents", "deactivate", "helper")
    assert "helper" in told("agents", "list", "--inactive")
    assert "helper" not in told("agents", "list", "--active")
    assert told("agents", "activate", "helper") == "Agent helper (1.1.0) may be run.\n"
    assert told("agents", "delete", "helper", "--yes") == "Agent helper is archived.\n"


def test_runs_are_listed_followed_and_looked_at(place: Place, chargehand: Command) -> None:
    def told(*arguments: str, code: int = 0) -> Told:
        done = chargehand(*arguments, **place.settings)
        assert done.code == code, done
        return done

    place.client.create_agent("Assistant", CONFIG, slug="assistant")
    first = place.client.run("assistant", "@say Hello.")
    failed = place.client.run("assistant", "@fail 400")
    ids = [line.split()[:2] for line in told("executions", "list").out.splitlines()[1:]]
    assert ids == [[failed.id, "assistant"], [first.id, "assistant"]]
    only = told("executions", "list", "--status", "completed", "--since", "1h", "--json").out
    assert [one["id"] for one in json.loads(only)["items"]] == [first.id]
    assert told("executions", "list", "--until", "1h").out.splitlines()[1:] == []
    cut = told("executions", "list", "--limit", "1")
    assert (len(cut.out.splitlines()), "There are more" in cut.err) == (2, True)
    assert json.loads(told("executions", "list", "--limit", "1", "--json").out)["more"]
    shown = told("executions", "show", first.id).out
    assert re.search(r"^output +Hello\.$", shown, re.MULTILINE)
    steps = told("executions", "steps", first.id).out.splitlines()
    assert steps[1].split()[:3] == ["1", "model", "simulated:standard"]
    watched = told("executions", "follow", first.id)
    assert watched.out == "Hello.\n"
    assert "completed in" in watched.err
    assert told("executions", "follow", first.id, "--quiet").err == ""
    assert told("executions", "follow", failed.id, code=1).out == ""
    lines = told("logs", first.id).out.splitlines()
    assert lines == told("logs", first.id, "-f").out.splitlines()
    assert len(lines) == len(list(place.client.logs(first.id))) >= 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  info     \S.*", lines[0])
    ended = told("executions", "cancel", first.id, code=1)
    assert "InvalidTransition" in ended.err


def test_uploads_come_back_as_they_went(place: Place, chargehand: Command) -> None:
    def told(*arguments: str) -> Told:
        return chargehand(*arguments, **place.settings)

    (place.folder / "note.txt").write_text("A note.")
    upload = told("uploads", "create", "note.txt").out.strip()
    assert told("uploads", "list").out.splitlines()[1].split()[:3] == [upload, "file", "note.txt"]
    there = told("uploads", "download", upload)
    assert (there.code, "note.txt is there already" in there.err) == (2, True)
    assert told("uploads", "download", upload, "--to", "copy.txt").code == 0
    assert (place.folder / "copy.txt").read_text() == "A note."
    refused = told("uploads", "delete", upload)
    assert (refused.code, refused.out) == (2, "")
    assert "There is no terminal to answer on; say it with --yes" in refused.err
    assert told("uploads", "show", upload).code == 0
    assert told("uploads", "delete", upload, "-y").code == 0
    assert told("uploads", "show", upload).code == 3


def test_keys_are_the_services_unless_the_database_is_named(
    place: Place, chargehand: Command
) -> None:
    def told(*arguments: str) -> Told:
        return chargehand(*arguments, **place.settings)

    email = place.client.me()["user"]["email"]
    made = json.loads(told("keys", "make", "--scope", "agents:read", "--user", email, "--json").out)
    with Chargehand(place.client.url, made["key"]) as limited:
        assert limited.me()["scopes"] == ["agents:read"]
        assert limited.me()["user"]["email"] == email
    # Whoever names the organization is the operator, whose lists are the organization's too.
    by_service, by_database = (
        told("keys", "list"),
        told("keys", "list", "--org", place.organization),
    )
    assert by_service == by_database
    without_service = {**place.settings, **NOWHERE}
    assert chargehand("keys", "list", "--org", place.organization, **without_service) == by_database
    assert chargehand("keys", "list", **without_service).code == 6
    assert made["public_id"] in by_service.out
    nobody = told("keys", "make", "--user", "nobody@example.com")
    assert (nobody.code, "chargehand members list" in nobody.err) == (3, True)
    assert told("keys", "revoke", made["public_id"]).code == 0
    assert json.loads(told("keys", "list", "--json").out)["items"][0]["state"] == "revoked"
    settings = {**place.settings, "CHARGEHAND_KEY": made["key"]}
    assert chargehand("keys", "list", **settings).code == 4


def test_options_for_all_stand_before_a_command_or_behind_it(
    place: Place, chargehand: Command
) -> None:
    elsewhere = {**place.settings, **NOWHERE}
    before = chargehand("--json", "--profile", "staging", "me", **elsewhere)
    behind = chargehand("me", "--profile", "staging", "--json", **elsewhere)
    assert before == behind
    assert json.loads(before.out)["url"] == place.client.url
    assert chargehand("me", **elsewhere).code == 6
    unknown = chargehand("--profile", "nowhere", "me", **elsewhere)
    assert (unknown.code, "there are: staging" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["agents", "create"], "give it, or a file that has it"),
        (["agents", "create", "A", "--model", "standard"], "has no provider"),
        (["agents", "create", "-f", "missing.json"], "missing.json cannot be read: No such file"),
        (["agents", "create", "-f", "broken.json"], "broken.json is not JSON: Expecting"),
        (["agents", "create", "-f", "broken.toml"], "broken.toml is not TOML: "),
        (["agents", "create", "-f", "list.json"], "list.json holds no object"),
        (["agents", "create", "-f", "more.json"], "more.json has 'nmae'; it may have name, slug"),
        (["agents", "create", "A", "--instructions", "@missing"], "missing cannot be read"),
        (["executions", "list", "--since", "soon"], "'soon' is no time"),
        (["executions", "list", "--status", "done"], "'pending', 'running'"),
        (["uploads", "create", "missing"], "does not exist"),
        (["agents", "delete", "assistant"], "say it with --yes"),
        (["completion", "powershell"], "'bash', 'zsh', 'fish'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    chargehand: Command, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    (tmp_path / "broken.json").write_text('{"name": }')
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "more.json").write_text('{"nmae": "A", "config": {}}')
    told = chargehand(*arguments, **NOWHERE)
    assert (told.code, told.out) == (2, "")
    assert problem in told.err


def test_a_refusal_says_where_and_the_nearest_name(place: Place, chargehand: Command) -> None:
    place.client.create_agent("Assistant", CONFIG, slug="assistant")
    unknown = chargehand("agents", "show", "asistant", **place.settings)
    assert (unknown.code, "Did you mean assistant?" in unknown.err) == (3, True)
    (place.folder / "wrong.json").write_text('{"name": "A", "config": {"modle": {}}}')
    created = chargehand("agents", "create", "-f", "wrong.json", **place.settings)
    checked = chargehand("agents", "validate", "-f", "wrong.json", **place.settings)
    assert (created.code, checked.code) == (2, 2)
    for told in (created.err, checked.out):
        assert "/config/modle: " in told
        assert "/config/model: " in told
    document = chargehand("agents", "validate", "-f", "wrong.json", "--json", **place.settings)
    assert (document.code, json.loads(document.out)["valid"]) == (2, False)


def run_in_bash(script: str, place: Place) -> str:
    programs = f"{Path(command()[0]).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "--norc", "-ec", script],
        env=environment(**place.settings, PATH=programs),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_commands_options_and_what_the_service_has(place: Place) -> None:
    place.client.create_agent("Assistant", CONFIG, slug="assistant")
    place.client.create_agent("Other", CONFIG, slug="other")
    execution = place.client.run("assistant", "@say Hello.")
    lines = ["chargehand ex", "chargehand agents show as", f"chargehand logs {execution.id[:8]}"]
    lines += ["chargehand executions list --status comp"]
    lines += ["chargehand --profile staging run a", "chargehand run --profile staging o"]
    script = 'eval "$(chargehand completion bash)"; complete -p chargehand >/dev/null\n'
    for line in lines:
        words = line.split()
        if "--profile" in words:
            # So that the profile alone says where to ask.
            script += "".join(f"export {name}={value}\n" for name, value in NOWHERE.items())
        script += f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        script += 'COMPREPLY=(); _chargehand_completion chargehand; echo "${COMPREPLY[@]}"\n'
    offered = run_in_bash(script, place).splitlines()
    assert offered == ["executions", "assistant", execution.id, "completed", "assistant", "other"]


@pytest.mark.parametrize(
    ("shell", "asking"),
    [
        ("bash", {"COMP_WORDS": "chargehand agents show ", "COMP_CWORD": "3"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "chargehand agents show "}),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "chargehand agents show ",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
        ),
    ],
)
def test_each_shell_is_answered_and_without_a_service_with_nothing(
    place: Place, shell: str, asking: dict[str, str]
) -> None:
    place.client.create_agent("Assistant", CONFIG, slug="assistant")

    def answered(**changed: str) -> subprocess.CompletedProcess[str]:
        given = {**place.settings, **asking, "_CHARGEHAND_COMPLETE": f"complete_{shell}", **changed}
        return subprocess.run(
            command(), env=environment(**given), capture_output=True, text=True, timeout=30
        )

    there, gone = answered(), answered(**NOWHERE)
    assert "assistant" in there.stdout
    # Where nothing is offered, zsh is told to look for files.
    assert (gone.stdout.strip(), gone.stderr) in (("", ""), ("_files", ""))
    assert ESCAPE not in there.stdout
