"""Somebody who does what a document says: each block is executed by its language, in order."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.conftest import TestDatabase
from tests.factories.browser import CHROMIUM, Answer, site, watched_page
from tests.factories.commands import environment
from tests.factories.documents import ROOT, Block
from tests.factories.empty_database import empty_database
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider
from tests.factories.restartable import RestartableService, owner_key, restartable_service
from tests.factories.terminal import Terminal, terminal

from chargehand import settings
from chargehand_client import Chargehand

README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
MODULE = ROOT / "clients" / "javascript" / "chargehand.js"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
AGENT = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}
ANSWER = "One two three."
PAGE = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><p id="answer"></p>'
# What the fake provider's model does for the demonstration: it looks around, then it judges.
REVIEW = "\n@then\n".join(
    ['@delay 200ms\n@call list_dir {"path": "chargehand"}'] * 4 + ["@say All is in good order."]
)
# What CI runs whole, in a clean clone.
_OF_CI = re.compile(r"(make demo|make test)\s*(#.*)?")
# The demonstration with a vendor's model, half a minute: once, where the README has it.
_OF_README = re.compile(r"(make demo MODEL=\S+)\s*(#.*)?")
# What serves until it is stopped, and what it shows once it does.
_SERVING = re.compile(r"(\S*chargehand (up|api|worker)\b[^#&]*)(#.*)?")
_READY = {"up": "\n  stop   Ctrl-C\n", "api": "The API answers at", "worker": " serves "}
_ASSIGNED = re.compile(r"(\w+=\S+\n?)+")
_START_BLOCK = re.compile(r"  API +(\S+)/api/v1 .*\n  key +(chk_\S+)")


class Unexecuted(AssertionError):
    """Nobody knows what to do with a block."""

    def __init__(self, block: Block) -> None:
        super().__init__(
            f"{block} is executed by nothing. Give it a language, or have tests/factories/reader.py"
            " do what its reader does with it."
        )


@dataclass
class Reader:
    """``folder`` looks like a checkout; services are started by the first block that needs them."""

    folder: Path
    database: TestDatabase
    starts_up: bool
    """Whether the document has its reader start the service; else there is one already."""
    held: ExitStack
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    """What the reader's own web server has, by path."""
    missing: set[str] = field(default_factory=set[str])
    """Programs that are not installed here, for whose want blocks were left out."""

    @cached_property
    def replaced(self) -> dict[str, str]:
        """What the reader puts for what is written: addresses, keys, and as little as possible."""
        always = {
            "sk-…": self.provider.key,
            "sk-ant-…": self.provider.key,
            "--host 0.0.0.0": "--host 127.0.0.1 --port 0",
            # So that the simulated model is still at it when it is cancelled.
            "Take your time.": "@delay 2s",
            # As if its virtual environment were not of this checkout.
            "make demo": "make -o .venv/base demo",
        }
        if self.starts_up:
            empty = shlex.quote(self.held.enter_context(empty_database()))
            return {**always, "postgresql://owner:password@db.example/chargehand": empty}
        return {**always, "https://chargehand.example": self.service.url, "chk_…": self.key}

    @cached_property
    def provider(self) -> RunningFakeProvider:
        return self.held.enter_context(running_fake_provider(self._beside, script=REVIEW))

    @cached_property
    def origin(self) -> str:
        return self.held.enter_context(site(self.answers, "http://127.0.0.1:1"))

    @cached_property
    def key(self) -> str:
        return owner_key(self.database)

    @cached_property
    def service(self) -> RestartableService:
        """One that is connected to every provider, with an agent ``assistant``."""
        given = {**self.provider.settings(), "CHARGEHAND_CORS_ORIGINS": self.origin}
        running = restartable_service(self.database, self._beside, **given)
        service = self.held.enter_context(running)
        with Chargehand(service.url, self.key) as client:
            client.create_agent("Assistant", AGENT, slug="assistant")
        return service

    @cached_property
    def terminal(self) -> Terminal:
        given, path = {**self.provider.settings(), "NO_COLOR": "1"}, SYSTEM_PATH
        if self.starts_up:
            given["OPENAI_API_KEY"] = ""
            given["CHARGEHAND_PORT"] = str(free_port())
        else:
            given |= {"CHARGEHAND_URL": self.service.url, "CHARGEHAND_KEY": self.key}
            path = f"{self.folder}/.venv/bin:{path}"
        return self.held.enter_context(
            terminal(self.folder, environment(**given, PATH=path, HOME=str(self.folder)))
        )

    @property
    def _beside(self) -> Path:
        (self.folder / ".services").mkdir(exist_ok=True)
        return self.folder / ".services"

    def read(self, blocks: Iterable[Block]) -> None:
        """Execute the blocks of a document, and see that what serves in the end ends well."""
        for block in blocks:
            try:
                self.execute(block)
            except Exception as error:
                error.add_note(f"This is about {block}.")
                raise
        if "terminal" in vars(self):
            self.terminal.run('for pid in $(jobs -p); do kill "$pid"; wait "$pid"; done')

    def execute(self, block: Block) -> None:
        """Do what a block says, and see that it is so. Raises Unexecuted, AssertionError."""
        does: dict[str, Callable[[Block], None]] = {
            "sh": self._type,
            "python": self._run_python,
            "js": self._run_javascript,
            "toml": self._read_toml,
            "json": self._compare_json,
            "text": look_for_files,
        }
        if block.language not in does:
            raise Unexecuted(block)
        does[block.language](block)

    def _meant(self, text: str) -> str:
        for written, meant in self.replaced.items():
            text = text.replace(written, meant)
        return text

    def _type(self, block: Block) -> None:
        for group in _groups(block.text):
            if ran := _OF_CI.fullmatch(group):
                assert re.search(rf"{ran[1]}\)?$", CI, re.MULTILINE), f"CI does not run {ran[1]}"
            elif again := _OF_README.fullmatch(group):
                assert f" {again[1]}\n" in README, f"{block} is not in the README"
            elif serving := _SERVING.fullmatch(group):
                self._serve(self._meant(serving[1]), _READY[serving[2]])
            elif _ASSIGNED.fullmatch(group):
                check_environment(block, self._meant(group))
            else:
                text = self._meant(group)
                if "curl " in text and not shutil.which("curl", path=SYSTEM_PATH):
                    pytest.skip("there is no curl")
                assert "…" not in text, f"{block}: nothing is put for the … of {text}"
                shown = self.terminal.run(text, 120)
                assert shown.strip() or text.startswith("export "), f"{block} shows nothing"

    def _serve(self, command: str, ready: str) -> None:
        begin = len(self.terminal.shown)
        self.terminal.type(f"{command} &")
        self.terminal.until(ready, begin, 30)
        shown = self.terminal.ended(begin)
        if found := _START_BLOCK.search(shown):
            self.replaced["http://127.0.0.1:8420"] = found[1]
            self.replaced["CHARGEHAND_KEY=…"] = f"CHARGEHAND_KEY={found[2]}"

    def _run_python(self, block: Block) -> None:
        file = self._written(block, ".py")
        shown = self._ran_quietly(f"python -W error {file.name}")
        assert shown.strip() or "print" not in block.text, f"{block} prints nothing"

    def _run_javascript(self, block: Block) -> None:
        in_page = "document." in block.text
        if not (CHROMIUM.exists() if in_page else shutil.which("node", path=SYSTEM_PATH)):
            self.missing.add("chromium" if in_page else "node")
            return
        if in_page:
            self._open_page(block)
            return
        (self.folder / MODULE.name).write_bytes(MODULE.read_bytes())
        shown = self._ran_quietly(f"node {self._written(block, '.mjs').name}")
        assert shown.strip() or "console.log" not in block.text, f"{block} prints nothing"

    def _written(self, block: Block, ending: str) -> Path:
        file = self.folder / f"line{block.line}{ending}"
        file.write_text(self._meant(block.text))
        return file

    def _ran_quietly(self, command: str) -> str:
        """What a program prints, which must say nothing on standard error."""
        shown = self.terminal.run(f"{command} 2> told.txt")
        assert (told := (self.folder / "told.txt").read_text()) == "", told
        return shown

    def _open_page(self, block: Block) -> None:
        """The page's server starts a run and gives the page its subscription, as the text says."""

        def asked() -> tuple[str, bytes]:
            with Chargehand(self.service.url, self.key) as client:
                started = client.start("assistant", f"@pace 20ms\n@say {ANSWER}")
                made = client.subscription_token(started.id)
            return "application/json", json.dumps(made).encode()

        page = f'{PAGE}<script type="module">\n{self._meant(block.text)}</script>'
        self.answers["/"] = lambda: ("text/html", page.encode())
        self.answers["/chargehand.js"] = lambda: ("text/javascript", MODULE.read_bytes())
        self.answers["/ask"] = asked
        assert self.service.url != self.origin
        with watched_page(self.origin) as watched:
            watched.page.goto(self.origin)
            watched.page.wait_for_selector("[data-status=completed]", timeout=20_000)
            assert watched.page.text_content("#answer") == ANSWER, str(block)
            assert watched.errors == []

    def _read_toml(self, block: Block) -> None:
        document = tomllib.loads(text := self._meant(block.text))
        if all(isinstance(value, dict) for value in document.values()):
            self._use_profiles(text, document)
        elif all(isinstance(value, str) for value in document.values()):
            check_credentials(self.folder / "credentials.toml", text, document)
        else:
            raise Unexecuted(block)

    def _use_profiles(self, text: str, profiles: dict[str, Any]) -> None:
        """Each profile is what a client that names it takes."""
        file = self.folder / "config" / "chargehand" / "profiles.toml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o600)
        program = (
            "import json, sys; from chargehand_client.profiles import resolved;"
            "print(json.dumps([resolved(None, None, name) for name in sys.argv[1:]]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *profiles],
            env=environment(XDG_CONFIG_HOME=str(file.parents[1])),
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == [[p["url"], p["key"]] for p in profiles.values()]

    def _compare_json(self, block: Block) -> None:
        """An error is word for word what the service answers, but for the time and the id."""
        document = json.loads(block.text)
        if document.keys() != {"error"} or document["error"]["code"] != "AgentNotFound":
            raise Unexecuted(block)
        with Chargehand(self.service.url, self.key) as client:
            client.create_agent("Code review", AGENT)
        answer = httpx2.get(
            f"{self.service.url}/api/v1/agents/code-revew",
            headers={"Authorization": f"Bearer {self.key}"},
        )
        assert _masked(document) == _masked(answer.json())


def _masked(document: dict[str, Any]) -> dict[str, Any]:
    """With the digits of the time and the id made alike."""
    error = document["error"]
    alike = {name: re.sub("[0-9a-f]", "0", error[name]) for name in ("timestamp", "request_id")}
    return {"error": {**error, **alike}}


def _groups(text: str) -> list[str]:
    """Commands to be typed together, apart from those that serve or are run elsewhere."""
    groups = [""]
    for line in text.splitlines():
        if any(kind.fullmatch(line) for kind in (_OF_CI, _OF_README, _SERVING)):
            groups += [line, ""]
        else:
            groups[-1] += f"{line}\n"
    return [group for group in groups if group.strip()]


def check_environment(block: Block, text: str) -> None:
    """Variables that the service takes, and that connect a provider."""
    variables = dict(line.split("=", 1) for line in text.replace("=…", "=key").split())
    before = settings.load({}).providers.connected()
    assert settings.load(variables).providers.connected() > before, f"{block} connects nothing"


def check_credentials(file: Path, text: str, variables: dict[str, str]) -> None:
    """The service has each variable of the file."""
    file.write_text(text)
    loaded = settings.load({"CHARGEHAND_CREDENTIALS_FILE": str(file)}).providers
    found = loaded.model_dump(by_alias=True)
    for name, value in variables.items():
        secret = found[name]
        assert (secret if isinstance(secret, str) else secret.get_secret_value()) == value
    assert len(loaded.connected()) >= len(variables)


def look_for_files(block: Block) -> None:
    """A picture of folders, each line ``names   what they are``; those below are indented."""
    above, seen = [(-1, ROOT)], 0
    for line in block.text.splitlines():
        names, _, about = line.strip().partition("  ")
        indent = len(line) - len(line.lstrip())
        while above[-1][0] >= indent:
            above.pop()
        for name in names.split():
            path = above[-1][1] / name
            if not about or not (path.is_dir() if name.endswith("/") else path.is_file()):
                raise Unexecuted(block)
            seen += 1
        above.append((indent, above[-1][1] / names.split()[0]))
    assert seen > 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def checkout() -> Generator[Path]:
    """A folder that looks like a checkout after its first ``make``, and holds nothing of a run.

    The embedded server's user can pass through it, where the tests are root's.
    """
    with tempfile.TemporaryDirectory(
        prefix="chargehand-reader-", ignore_cleanup_errors=True
    ) as made:
        folder = Path(made) / "chargehand"
        folder.mkdir()
        for each in (Path(made), folder):
            each.chmod(0o711)
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("Makefile", "clients", "docs", "migrations", "src"):
            (folder / name).symlink_to(ROOT / name)
        try:
            yield folder
        finally:
            _await_end_of(folder / ".chargehand/postgres/postmaster.pid")


def _await_end_of(pid_file: Path) -> None:
    """The embedded server ends by itself when who started it is killed, in a moment."""
    deadline = time.monotonic() + 10
    while pid_file.exists() and time.monotonic() < deadline:
        pid = pid_file.read_text().partition("\n")[0]
        if not Path("/proc", pid).exists():
            return
        time.sleep(0.05)


@contextmanager
def reader(database: TestDatabase, *, starts_up: bool) -> Generator[Reader]:
    with checkout() as folder, ExitStack() as held:
        (folder / "project").mkdir()
        (folder / "project" / "note.txt").write_text("A note.")
        # Else a refusal would pass for an answer.
        (folder / ".curlrc").write_text("fail\n")
        yield Reader(folder, database, starts_up, held)
