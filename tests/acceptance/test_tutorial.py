"""The tutorial, word for word, by a reader with two terminals and a browser.

What is typed, what is written to files and what must be seen stands in the document alone. Ports
are replaced, and ``make demo`` is not repeated here: CI runs it in a clean clone.
"""

import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.factories.browser import CHROMIUM, Watched, watched_page
from tests.factories.commands import environment
from tests.factories.documents import TUTORIAL, Block, assert_shown, blocks_of
from tests.factories.reader import CI, SYSTEM_PATH, checkout, free_port
from tests.factories.terminal import CommandFailed, Terminal, terminal

READY = "\n  stop   Ctrl-C\n"


@dataclass
class Tutorial:
    """``first`` and ``second`` are the reader's terminals; blocks are taken in order."""

    home: Path
    first: Terminal
    second: Terminal
    blocks: list[Block]
    replaced: dict[str, str]
    seen: str = field(default="", init=False)
    """What the commands of the last block have shown."""

    def take(self, language: str) -> Block:
        block = self.blocks.pop(0)
        assert block.language == language, f"{block} is not {language}"
        return block

    def text_of(self, block: Block) -> str:
        text = block.text
        for written, meant in self.replaced.items():
            text = text.replace(written, meant)
        return text

    def type(self, at: Terminal | None = None) -> None:
        """The next block's commands, which end by themselves."""
        text = self.text_of(self.take("sh"))
        assert "…" not in text
        self.seen = (at or self.second).run(text)

    def serve(self, at: Terminal, ready: str) -> None:
        """The next block's command, which goes on."""
        begin = len(at.shown)
        at.type(self.text_of(self.take("sh")))
        at.until(ready, begin)
        self.seen = at.shown[begin:]

    def see(self, shown: str | None = None) -> None:
        """The next block is what is seen now."""
        assert_shown(self.text_of(self.take("text")), self.seen if shown is None else shown)

    def write(self, language: str) -> str:
        """The next block's file; returns its text."""
        block = self.take(language)
        assert block.title.startswith("~/"), f"{block} names no file"
        file = self.home / block.title.removeprefix("~/")
        file.write_text(text := self.text_of(block))
        return text


@contextmanager
def tutorial() -> Generator[Tutorial]:
    with checkout() as folder, ExitStack() as held:
        home = folder.parent
        variables = environment(PATH=SYSTEM_PATH, HOME=str(home), NO_COLOR="1")
        service, page = str(free_port()), str(free_port())
        variables["CHARGEHAND_PORT"] = service
        first, second = [held.enter_context(terminal(folder, variables)) for _ in range(2)]
        yield Tutorial(home, first, second, blocks_of(TUTORIAL), {"8420": service, "8000": page})


def test_the_tutorial() -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: install chromium, or name one with CHROMIUM")
    with tutorial() as reader:
        assert reader.take("sh").text == "make demo\n"
        assert "make demo)" in CI
        start_the_service(reader)
        define_and_run_an_agent(reader)
        story = watch_it_from_python(reader)
        origin = serve_a_page(reader)
        with watched_page(origin) as watched:
            pull_the_plug(reader, watched, origin, story)
        reader.first.interrupt()
        reader.type()
        assert not (reader.home / "writer").exists()
        assert not (reader.home / "chargehand" / ".chargehand").exists()
        assert reader.blocks == []


def start_the_service(reader: Tutorial) -> None:
    reader.serve(reader.first, READY)
    reader.see()
    found = re.search(r"CHARGEHAND_KEY=(chk_\S+)", reader.seen)
    assert found
    reader.replaced["chk_…"] = found[1]
    reader.type()
    reader.type()
    reader.see()


def define_and_run_an_agent(reader: Tutorial) -> None:
    reader.type()
    reader.write("toml")
    reader.type()
    reader.see()
    reader.type()
    reader.see()


def watch_it_from_python(reader: Tutorial) -> list[str]:
    """Returns the chapters of the story."""
    chapters = re.findall(r"^@say (.*)$", reader.write("text"), re.MULTILINE)
    assert len(chapters) == 3
    reader.write("python")
    reader.type()
    reader.see()
    assert all(reader.seen.count(chapter) == 1 for chapter in chapters)
    return chapters


def serve_a_page(reader: Tutorial) -> str:
    reader.write("python")
    reader.write("html")
    reader.type()
    reader.first.interrupt()
    reader.serve(reader.first, READY)
    reader.see()
    reader.serve(reader.second, "The page is at")
    reader.see()
    return f"http://127.0.0.1:{reader.replaced['8000']}"


def pull_the_plug(reader: Tutorial, watched: Watched, origin: str, story: list[str]) -> None:
    page = watched.page
    page.goto(f"{origin}/")
    until_it_shows(page, "One: On the first day there")
    assert state(page) == "running"
    page.reload()
    until_it_shows(page, f"{story[0]}\n\nTwo: On the")
    page.evaluate("window.neverReloaded = true")
    before = list(watched.errors)

    reader.second.interrupt()
    killed = len(reader.first.shown)
    reader.type()
    with pytest.raises(CommandFailed, match=r"(?s)137.*Killed"):
        reader.first.ended(killed)
    left = page.text_content("#story") or ""
    assert left.startswith(f"{story[0]}\n\nTwo: On the")
    assert story[1] not in left
    reader.serve(reader.first, READY)

    until(page, "running, taken over")
    until(page, "completed")
    assert page.evaluate("window.neverReloaded") is True
    assert page.text_content("#story") == "".join(f"{chapter}\n\n" for chapter in story)
    reader.see(state(page))
    reader.type()
    reader.see()
    assert before == []
    assert {url.split("/api/")[0] for url in watched.outside} == {
        f"http://127.0.0.1:{reader.replaced['8420']}"
    }


def state(page: Page) -> str:
    return page.text_content("#state") or ""


def until_it_shows(page: Page, text: str) -> None:
    page.wait_for_function(
        "t => document.querySelector('#story').textContent.includes(t)", arg=text
    )


def until(page: Page, text: str) -> None:
    page.wait_for_function("t => document.querySelector('#state').textContent === t", arg=text)
