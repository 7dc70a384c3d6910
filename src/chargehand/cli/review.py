"""The demo's agent, and what its model is told to do: real reads of real files.

The simulated model gets a script, a real one an instruction.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SLUG = "code-review"
SIMULATED = "simulated:standard"

CONFIG: Mapping[str, Any] = {
    "model": {"provider": "simulated", "name": "standard"},
    "instructions": "Review the code in the workspace. Read before you judge; change nothing.",
    "capabilities": {"files": {"mode": "read"}, "todo": {}, "metadata": {}},
    "limits": {"steps": 60, "tokens": 200_000, "wall_time_s": 180},
}


class Turn(NamedTuple):
    """One answer of the model: text, how much it quotes of what its calls brought, new calls."""

    says: str
    quotes_lines: int
    calls: Sequence[tuple[str, Mapping[str, Any]]]


def _todos(done: int) -> tuple[str, Mapping[str, Any]]:
    tasks = ("See what there is", "Look for broad excepts", "Read the core", "Write it down")
    todos = [
        {"content": task, "status": "completed" if number < done else "pending"}
        for number, task in enumerate(tasks)
    ]
    return "todo_write", {"todos": todos}


def _read(path: str, offset_line: int = 1) -> tuple[str, Mapping[str, Any]]:
    return "read_file", {"path": path, "offset_line": offset_line, "limit_lines": 30}


def _search(pattern: str) -> tuple[str, Mapping[str, Any]]:
    return "search_files", {"pattern": pattern, "glob": "*.py", "max_results": 10}


TURNS: Sequence[Turn] = (
    Turn("First a plan, and what there is.", 0, [_todos(0), ("list_dir", {"path": "chargehand"})]),
    Turn("These are the packages:", 14, [_search("except Exception")]),
    Turn(
        "Where an error could be swallowed:",
        5,
        [_todos(2), _read("chargehand/kernel/errors.py")],
    ),
    Turn("The error tree:", 12, [_read("chargehand/kernel/database.py", 60)]),
    Turn("How a transaction begins:", 8, [_search("for update skip locked")]),
    Turn(
        "Who waits for nobody:", 3, [("metadata_write", {"key": "read", "value": "errors, kernel"})]
    ),
    Turn("Noted. Last, the states:", 0, [_read("chargehand/executions/states.py", 4)]),
    Turn(
        "Done. What is quoted in this review comes from the files; the words between the quotes "
        "were given beforehand, for this model is simulated.",
        5,
        [],
    ),
)

STEPS = len(TURNS) + sum(len(turn.calls) for turn in TURNS)
"""Each answer of the model is a step, and so is each call of a tool."""


def script(delay_ms: int = 1300) -> str:
    """The run's input; the model thinks for ``delay_ms`` before each answer."""
    turns = "\n@then\n".join("\n".join(_directives(turn, delay_ms)) for turn in TURNS)
    return f"Review the code in the workspace.\n{turns}"


def _directives(turn: Turn, delay_ms: int) -> list[str]:
    quote = [f"@quote {turn.quotes_lines}"] if turn.quotes_lines else []
    calls = [f"@call {tool} {json.dumps(arguments)}" for tool, arguments in turn.calls]
    return [f"@delay {delay_ms}ms", "@pace 5ms", f"@say {turn.says}", *quote, *calls]


INSTRUCTION = """\
Review the Python sources in your workspace, as an experienced colleague would.
First list the folder chargehand, two levels deep.
Then read the five files that you judge to matter most, one at a time: one call of read_file in
each turn, at most 150 lines of each.
Then write down what you found: at most ten findings, the worst first, each in one or two sentences
with its file and line. Where a file is in good order, say so. Change nothing."""
"""It must take several steps: the worker is killed between two of them."""

LONGEST_ANSWER_TOKENS = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What the demo plays: a model (``provider:name``), its agent's configuration, the input.

    The worker is killed after ``kill_after_steps``. ``steps_expected`` is None where nobody knows
    beforehand how many steps a model takes.
    """

    model: str
    config: Mapping[str, Any]
    input: str
    kill_after_steps: int
    steps_expected: int | None
    longest_s: int

    @property
    def simulated(self) -> bool:
        return self.model == SIMULATED


def simulated_play() -> Play:
    return Play(
        model=SIMULATED,
        config=CONFIG,
        input=script(),
        kill_after_steps=STEPS // 2,
        steps_expected=STEPS,
        longest_s=110,
    )


def play_of(model: str, connected: Collection[str]) -> Play:
    """The play for a model as it was named. Raises Invalid where it cannot be played with.

    ``connected`` are the vendors whose keys and addresses the environment has.
    """
    from chargehand.catalog.providers import SIMULATED as SIMULATOR
    from chargehand.catalog.providers import VENDORS, not_connected
    from chargehand.kernel.errors import Invalid
    from chargehand.web.suggestions import did_you_mean

    if model == SIMULATED:
        return simulated_play()
    provider, _, name = model.partition(":")
    if problem := not_connected(provider, connected):
        hint = did_you_mean(provider, VENDORS) if provider not in VENDORS else ""
        raise Invalid(f"The demo cannot use {model!r}: {problem}{hint}.")
    if not name or provider == SIMULATOR:
        raise Invalid(
            f"The demo cannot use {model!r}. Name a model as PROVIDER:NAME, of one of the "
            f"providers {', '.join(VENDORS)}; {SIMULATED} is what it takes by itself."
        )
    return _real_play(provider, name)


def _real_play(provider: str, name: str) -> Play:
    return Play(
        model=f"{provider}:{name}",
        config={
            **CONFIG,
            "model": {"provider": provider, "name": name, **_room(provider, name)},
            "capabilities": {"files": {"mode": "read"}},
            "limits": {"steps": 60, "tokens": 500_000, "wall_time_s": 600},
        },
        input=INSTRUCTION,
        kill_after_steps=3,
        steps_expected=None,
        longest_s=720,
    )


def _room(provider: str, name: str) -> dict[str, int]:
    """``max_tokens``, where it is known that the model can write more than it would by itself."""
    from chargehand.catalog.models import find_model

    entry = find_model(provider, name)
    limit = entry.parameters.get("max_tokens") if entry else None
    if limit is None or (limit.default or 0) >= LONGEST_ANSWER_TOKENS:
        return {}
    return {"max_tokens": min(LONGEST_ANSWER_TOKENS, int(limit.maximum or LONGEST_ANSWER_TOKENS))}
