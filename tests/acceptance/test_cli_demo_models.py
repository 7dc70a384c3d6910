"""``chargehand demo --model``: the demonstration with a vendor's model, which here is a fake."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.factories.commands import chargehand, environment
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

ROOT = Path(__file__).parents[2]
MODEL = "gpt-4.1-mini"
FILES = ("kernel/errors.py", "kernel/clock.py", "kernel/database.py", "executions/states.py")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that the embedded server's user can enter too."""
    folder = Path(tempfile.mkdtemp(prefix="chargehand-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def a_review() -> str:
    """What a model does that was asked for a review: look around, read, then judge."""
    turns = ['@say I look around.\n@call list_dir {"path": "chargehand", "depth": 2}']
    turns += [f'@call read_file {{"path": "chargehand/{name}"}}' for name in FILES]
    turns += ["@say All is in good order."]
    return "\n@then\n".join(f"@delay 200ms\n{turn}" for turn in turns)


def demo(fake: RunningFakeProvider, model: str, temporary: Path, *arguments: str) -> Any:
    return chargehand(
        *("demo", "--model", model, *arguments),
        timeout_s=115,
        TMPDIR=str(temporary),
        OPENAI_API_KEY=fake.key,
        CHARGEHAND_OPENAI_URL=f"{fake.url}/v1",
        CHARGEHAND_MODEL_TIMEOUT_S="20",
        # Another installation's on this machine, which is none of the demo's.
        CHARGEHAND_APP_URL="postgresql://nobody@127.0.0.1:1/none",
        CHARGEHAND_TIERS_FILE="/nowhere",
    )


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("openai:gpt-5", {}, "set OPENAI_API_KEY"),
        ("azure:mine", {"AZURE_OPENAI_API_KEY": "key"}, "set CHARGEHAND_AZURE_URL"),
        ("opnai:gpt-5", {"OPENAI_API_KEY": "key"}, "did you mean 'openai'?"),
        ("openai", {"OPENAI_API_KEY": "key"}, "PROVIDER:NAME"),
        ("openai:", {"OPENAI_API_KEY": "key"}, "PROVIDER:NAME"),
        ("simulated:text", {}, "simulated:standard"),
        ("openai:gpt-5", {"OPENAI_API_KEY": "two words"}, "OPENAI_API_KEY"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(
    model: str, settings: dict[str, str], told: str, tmp_path: Path
) -> None:
    without = dict.fromkeys(("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"), "")
    given = {**without, **settings, "TMPDIR": str(tmp_path)}
    done = chargehand("demo", "--model", model, timeout_s=20, **given)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "two words" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_a_document_too(tmp_path: Path) -> None:
    done = chargehand("demo", "--model", "openai:x", "--json", OPENAI_API_KEY="")
    assert (done.returncode, done.stderr) == (2, "")
    assert "OPENAI_API_KEY" in json.loads(done.stdout)["error"]["message"]


def test_the_run_of_a_vendors_model_survives_its_worker(temporary: Path) -> None:
    with running_fake_provider(temporary, script=a_review()) as fake:
        done = demo(fake, f"openai:{MODEL}", temporary, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        asked = [call for call in fake.calls() if call.get("model") == MODEL]
    figures = json.loads(done.stdout)
    assert (figures["model"], figures["simulated"]) == (f"openai:{MODEL}", False)
    assert (figures["status"], figures["steps_repeated"]) == ("completed", 0)
    assert figures["killed_after_step"] >= 3
    assert figures["killed_worker"] != figures["taken_over_by"]
    assert figures["steps"] == 2 * (1 + len(FILES)) + 1
    assert figures["tokens"] > 0
    assert float(figures["cost"]) > 0
    assert asked
    assert fake.key not in done.stdout + done.stderr
    assert list(temporary.glob("chargehand-demo-*")) == []


def test_a_model_that_ends_too_soon_is_told_plainly(temporary: Path) -> None:
    with running_fake_provider(temporary, script="@say I have nothing to say.") as fake:
        done = demo(fake, f"openai:{MODEL}", temporary)
    assert done.returncode == 1
    introduction = done.stdout.partition("PostgreSQL runs")[0]
    assert f"openai:{MODEL}" in introduction
    assert not any(claim in introduction for claim in ("simulated", "no cost", "no key"))
    assert f"openai:{MODEL} ended the run at step 1, too soon" in done.stderr
    assert list(temporary.glob("chargehand-demo-*")) == []


def test_what_the_vendor_says_to_a_run_that_fails_is_told(temporary: Path) -> None:
    with running_fake_provider(temporary, script="@fail 400") as fake:
        done = demo(fake, f"openai:{MODEL}", temporary)
    assert done.returncode == 1
    assert "answered 400" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["MODEL=openai:gpt-5"], {}, "chargehand demo --model 'openai:gpt-5'"),
        ([], {}, "chargehand demo"),
        (["MODEL="], {}, "chargehand demo"),
        ([], {"MODEL": "of something else"}, "chargehand demo"),
    ],
)
def test_make_passes_a_model_on(
    arguments: list[str], variables: dict[str, str], expected: str
) -> None:
    # Without what a make that runs these tests hands down.
    inherited = {k: v for k, v in environment().items() if not k.startswith(("MAKE", "MODEL"))}
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/base", "demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, **variables},
    )
    assert done.stdout.strip().endswith(expected), done.stdout
