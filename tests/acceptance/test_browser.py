"""The JavaScript client in a real browser: a page follows a run through everything."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.conftest import TestDatabase
from tests.factories.browser import Answer, Watched, site, watched_page
from tests.factories.restartable import RestartableService, owner_key, restartable_service

from chargehand_client import Chargehand

MODULE = Path(__file__).parents[2] / "clients" / "javascript" / "chargehand.js"
CONFIG = {"model": {"provider": "simulated", "name": "standard"}, "instructions": "Answer."}
WORDS = 60
TEXT = " ".join(f"grün{number}" for number in range(WORDS))
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A run</title><link rel="icon" href="data:,">
</head><body><h1>A run</h1><pre id="text"></pre><p id="state">running</p>
<script type="module">
  import { Chargehand, ChargehandError } from "/chargehand.js";
  window.ids = [];
  const text = document.querySelector("#text"), state = document.querySelector("#state");
  const given = await (await fetch("/given", { method: "POST" })).json();
  const chargehand = new Chargehand(given.key ? { key: given.key } : {});
  const events = given.key
    ? chargehand.stream("writer", given.input)
    : chargehand.subscribe(given.subscription);
  try {
    for await (const { id, type, data } of events) {
      window.ids.push(id);
      if (type === "output.delta") text.textContent += data.text;
      if (type === "output.reset") text.textContent = "";
      if (type === "status.changed" && data.taken_over) document.title = "Taken over";
      if (type === "done") state.textContent = data.status;
    }
  } catch (error) {
    state.textContent = `${error.code}: ${error.message}`;
  }
</script></body></html>
"""


@pytest.fixture
def service(clone: TestDatabase, tmp_path: Path) -> Iterator[RestartableService]:
    with restartable_service(clone, tmp_path) as running:
        yield running


def answers(given: Callable[[], object]) -> dict[str, Answer]:
    return {
        "/": lambda: ("text/html; charset=utf-8", PAGE.encode()),
        "/chargehand.js": lambda: ("text/javascript", MODULE.read_bytes()),
        "/given": lambda: ("application/json", json.dumps(given()).encode()),
    }


def until_it_shows(page: Page, word: str) -> None:
    page.wait_for_function("w => document.querySelector('#text').textContent.includes(w)", arg=word)


def network_log(error: str, origin: str) -> bool:
    """What the browser itself notes of a connection that broke; no page can prevent it."""
    return (
        "Failed to load resource" in error or "net::ERR_" in error
    ) and f"{origin}/api/" in error


@pytest.mark.parametrize("way", ["restarted", "killed"])
def test_a_page_shows_a_run_through_a_restart_of_the_api_and_a_kill_of_the_worker(
    service: RestartableService, clone: TestDatabase, way: str
) -> None:
    key = owner_key(clone)
    with Chargehand(service.url, key) as client:
        client.create_agent("Writer", CONFIG, slug="writer")
    given = {"key": key, "input": f"@pace 60ms\n@say {TEXT}"}
    with (
        site(answers(lambda: given), service.url) as origin,
        watched_page(origin) as watched,
    ):
        the_page_survives(service, watched, origin, way)
        if way == "killed":
            watched.errors = [each for each in watched.errors if not network_log(each, origin)]
        assert (watched.errors, watched.outside) == ([], [])


def the_page_survives(service: RestartableService, watched: Watched, origin: str, way: str) -> None:
    page = watched.page
    page.goto(f"{origin}/")
    until_it_shows(page, "grün3 ")
    service.stop_api(signal.SIGTERM if way == "restarted" else signal.SIGKILL)
    service.kill_worker()
    service.start_api()
    service.start_worker()
    page.wait_for_function(
        "document.querySelector('#state').textContent !== 'running'", timeout=30_000
    )
    assert page.text_content("#state") == "completed"
    assert page.text_content("#text") == TEXT
    assert page.title() == "Taken over"
    seqs = [int(each.partition(".")[2]) for each in page.evaluate("window.ids")]
    assert seqs == list(range(1, len(seqs) + 1))
