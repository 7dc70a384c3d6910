"""``demo``: a real run on real processes, one of them killed half-way.

The model is simulated by this program, no key, no network, no cost, unless a real one is named.
Everything else is what an installation has: the embedded PostgreSQL, an API process, two worker
processes, the client.
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from chargehand.cli import output, review, stage
from chargehand.cli.review import Play
from chargehand.cli.stage import DemoFailed, Stage

if TYPE_CHECKING:
    from rich.console import Console

    from chargehand.kernel.schema import RuntimeUrls
    from chargehand_client import Chargehand, Event, Execution, Run


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker's end: under which claim, after how many steps, when (monotonic, seconds)."""

    worker: str
    epoch: int
    step: int
    at: float


@dataclass(slots=True)
class Watched:
    """What was seen of the run, live."""

    steps: int = 0
    kill: Kill | None = None
    taken_over_by: str | None = None
    take_over_s: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo shows in the end; ``cost`` is a decimal number as text, None is unpriced.

    Tokens and cost are simulated where the model is. ``steps_expected`` is None for a real one.
    """

    execution_id: str
    status: str
    model: str
    simulated: bool
    steps: int
    steps_expected: int | None
    steps_repeated: int
    model_calls: int
    tool_calls: int
    tokens: int
    cost: str | None
    currency: str
    killed_worker: str
    killed_after_step: int
    taken_over_by: str
    take_over_s: float
    run_s: float
    demo_s: float


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER:NAME",
            help="A real model, with the key and URL of the environment.",
            callback=output.utf8,
        ),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """See a run survive the end of its worker.

    An agent reviews Chargehand's own sources, and half-way its worker is killed. Takes about half
    a minute. The model is simulated: no key, no network, no cost; one that is named with --model is
    real, and so is its bill. Leaves nothing behind.

    Example: chargehand demo
    """
    from rich.console import Console

    from chargehand.kernel.errors import ChargehandError
    from chargehand_client import ChargehandClientError

    play, variables = _chosen(model)
    console = Console(quiet=True) if as_json else output.console(sys.stdout)
    with stage.stage(play.longest_s, variables) as ours:
        try:
            figures = _perform(ours, console, play)
        except (DemoFailed, ChargehandError, ChargehandClientError, OSError) as error:
            _fail(ours, error, as_json)
    if as_json:
        output.print_document(asdict(figures))
    console.print("Everything is stopped, and nothing is left behind.")


def _chosen(model: str | None) -> "tuple[Play, Mapping[str, str]]":
    """What to play, and the settings it needs; the simulated model none. Raises Invalid."""
    if model is None:
        return review.simulated_play(), {}
    from chargehand import settings

    variables = stage.model_variables()
    play = review.play_of(model, settings.load(variables).providers.connected())
    return play, {} if play.simulated else variables


def _perform(ours: Stage, console: "Console", play: Play) -> Figures:
    began = time.monotonic()
    console.print(_introduction(play), markup=False)
    urls, key = stage.start_database(ours)
    console.print(f"{_since(began)}  PostgreSQL runs, with its schema and a first key")
    with _start_service(ours, urls, key) as chargehand:
        console.print(f"{_since(began)}  an API process and two worker processes run")
        chargehand.create_agent("Code review", play.config, slug=review.SLUG)
        source = stage.copied_sources(ours)
        console.print(
            f"{_since(began)}  agent {review.SLUG} is published; it reads {_size(source)}"
        )
        watched = Watched()
        with chargehand.stream(review.SLUG, play.input, workspace=source) as run:
            console.print(f"{_since(began)}  run {run.id} begins\n")
            _watch(ours, console, run, urls, watched, play)
            execution = run.result()
        steps = list(chargehand.steps(execution.id))
        figures = figures_of(execution, steps, watched, play, time.monotonic() - began)
    _show(console, execution, figures)
    verify(figures)
    return figures


def _introduction(play: Play) -> str:
    if play.simulated:
        return (
            "Chargehand demo. The model is simulated by this program: no key, no network, no cost."
            "\nAll else is real: PostgreSQL, the API, two workers, the files, and kill -9.\n"
        )
    return (
        f"Chargehand demo. The model is {play.model}: its vendor is called, and may send a bill.\n"
        "All else is real too: PostgreSQL, the API, two workers, the files, and kill -9.\n"
    )


def _start_service(ours: Stage, urls: "RuntimeUrls", key: str) -> "Chargehand":
    """The API and two workers, each a process of its own; returns a client."""
    from chargehand_client import Chargehand

    api = stage.start_process(ours, urls, "api", "api", "--port", "0")
    workers = [stage.start_process(ours, urls, f"worker-{n}", "worker") for n in (1, 2)]
    url = str(stage.told(api)["url"])
    for process in workers:
        stage.told(process)
    return Chargehand(url, key)


def _watch(
    ours: Stage,
    console: "Console",
    run: "Run",
    urls: "RuntimeUrls",
    watched: Watched,
    play: Play,
) -> None:
    """Show the run's steps; kill its worker when enough are done; see it taken over."""
    from chargehand.cli.live import line_of
    from chargehand_client import StepCompleted

    with ExitStack() as silence:
        for event in run:
            if _is_take_over(event, watched):
                silence.close()
            if told := line_of(event):
                console.print(output.visible(told[0]), style=told[1], markup=False)
            watched.steps += isinstance(event, StepCompleted)
            if watched.kill is None and _is_time(event, watched, play):
                moment = "Half-way." if play.simulated else f"{watched.steps} steps are done."
                watched.kill = _kill(ours, console, run.id, urls, watched.steps, moment)
                silence.enter_context(_waiting(console))


def _is_time(event: "Event", watched: Watched, play: Play) -> bool:
    """Whether enough steps are done, and the run goes on: an answer without calls ends it."""
    from chargehand_client import StepCompleted

    if watched.steps < play.kill_after_steps or not isinstance(event, StepCompleted):
        return False
    return event.step_type != "model" or bool(event.tool_names)


def _is_take_over(event: "Event", watched: Watched) -> bool:
    """Whether another worker goes on after the kill; remembers who and when."""
    from chargehand_client import StatusChanged

    if not isinstance(event, StatusChanged) or watched.kill is None or event.epoch is None:
        return False
    if not event.taken_over or event.epoch <= watched.kill.epoch:
        return False
    watched.take_over_s = time.monotonic() - watched.kill.at
    watched.taken_over_by = event.worker
    return True


def _kill(
    ours: Stage,
    console: "Console",
    execution_id: str,
    urls: "RuntimeUrls",
    step: int,
    moment: str,
) -> Kill:
    worker, pid, epoch = stage.kill_owner(ours, urls, execution_id)
    killed = Kill(worker, epoch, step, time.monotonic())
    console.print(f"\n{moment} By its live row the run is owned by worker {worker}.")
    console.print(f"kill -9 {pid}", style="bold red")
    return killed


@contextmanager
def _waiting(console: "Console") -> Generator[None]:
    """Say that nothing comes, with the seconds where the terminal can show them."""
    text = "silence, until the dead worker's lease (10 s) runs out"
    if not console.is_terminal:
        console.print(f"      {text}\n")
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(text, total=None)
        yield


def figures_of(
    execution: "Execution",
    steps: Sequence[Mapping[str, Any]],
    watched: Watched,
    play: Play,
    demo_s: float,
) -> Figures:
    """Raises DemoFailed where there was no kill or no take-over to speak of."""
    kill, take_over_s = watched.kill, watched.take_over_s
    if kill is None or take_over_s is None or watched.taken_over_by is None:
        raise DemoFailed(_why_none_took_over(execution, watched, play))
    return Figures(
        execution_id=execution.id,
        status=execution.status,
        model=play.model,
        simulated=play.simulated,
        steps=len(steps),
        steps_expected=play.steps_expected,
        steps_repeated=repeated(steps),
        model_calls=sum(step["kind"] == "model" for step in steps),
        tool_calls=sum(step["kind"] == "tool" for step in steps),
        tokens=execution.usage.total_tokens,
        cost=None if execution.unpriced else f"{execution.cost.normalize():f}",
        currency=execution.currency,
        killed_worker=kill.worker,
        killed_after_step=kill.step,
        taken_over_by=watched.taken_over_by,
        take_over_s=round(take_over_s, 1),
        run_s=round((execution.duration_ms or 0) / 1000, 1),
        demo_s=round(demo_s, 1),
    )


def repeated(steps: Sequence[Mapping[str, Any]]) -> int:
    """How many of a run's steps were not due: each began again what had been done before it.

    An answer of the model is followed by one step for each call that it asks for, and only then by
    the next answer.
    """
    count, answer_due, open_calls = 0, True, Counter[str]()
    for step in steps:
        if step["kind"] == "model":
            count += not answer_due
            open_calls = Counter(step["tool_names"])
            answer_due = False
        elif open_calls[step["tool_name"]]:
            open_calls[step["tool_name"]] -= 1
            answer_due = not open_calls.total()
        else:
            count += 1
    return count


def _why_none_took_over(execution: "Execution", watched: Watched, play: Play) -> str:
    if execution.status == "completed" and watched.kill is None and not play.simulated:
        return (
            f"{play.model} ended the run at step {watched.steps}, too soon: its worker is killed "
            f"when {play.kill_after_steps} steps are done and more are to come. Nothing is wrong "
            "with the run. Try again, or take a model that calls tools."
        )
    reason = f": {execution.error.message}" if execution.error else ""
    return f"The run ended ({execution.status}{reason}) without a take-over."


def _show(console: "Console", execution: "Execution", figures: Figures) -> None:
    console.print("\nThe end of its answer:")
    for line in deque(str(execution.output).splitlines(), maxlen=7):
        shown = output.visible(f"  {line[:96]}".expandtabs())
        console.print(shown, style="dim", markup=False)
    console.print()
    for name, value in rows_of(figures):
        console.print(f"  {name:<16}{value}", markup=False)
    console.print()


def rows_of(figures: Figures) -> list[tuple[str, str]]:
    """The figures as they are shown: name and value."""
    kinds = f"{figures.model_calls} model calls, {figures.tool_calls} tool calls"
    expected = f" of {figures.steps_expected}" if figures.steps_expected is not None else ""
    repeated = str(figures.steps_repeated or "none; the new worker went on with the next one")
    return [
        *([] if figures.simulated else [("model", figures.model)]),
        ("run", f"{figures.status} in {figures.run_s} s"),
        ("steps", f"{figures.steps}{expected}: {kinds}"),
        ("steps repeated", repeated),
        *_spent(figures),
        ("killed", f"worker {figures.killed_worker} after step {figures.killed_after_step}"),
        ("taken over by", f"worker {figures.taken_over_by}"),
        ("take-over", f"{figures.take_over_s} s after the kill"),
        ("whole demo", f"{figures.demo_s} s"),
    ]


def _spent(figures: Figures) -> list[tuple[str, str]]:
    cost = f"{figures.cost} {figures.currency}"
    if figures.simulated:
        return [
            ("tokens", f"{figures.tokens:,} (simulated)"),
            ("cost", f"{cost} (simulated: nobody is paid)"),
        ]
    unpriced = f"unpriced: no price of {figures.model} is known here"
    return [
        ("tokens", f"{figures.tokens:,}"),
        ("cost", unpriced if figures.cost is None else cost),
    ]


def verify(figures: Figures) -> None:
    """Raises DemoFailed where the run did not come out as if nothing had happened."""
    if figures.status != "completed":
        raise DemoFailed(f"The run ended as {figures.status}.")
    if figures.steps != (figures.steps_expected or figures.steps) or figures.steps_repeated:
        expected = figures.steps_expected or figures.steps - figures.steps_repeated
        raise DemoFailed(f"{figures.steps} steps were stored, {expected} expected.")
    if figures.taken_over_by == figures.killed_worker:
        raise DemoFailed("The killed worker went on.")


def _since(began: float) -> str:
    return f"{time.monotonic() - began:5.1f} s"


def _size(folder: Path) -> str:
    files = list(folder.rglob("*.py"))
    lines = sum(path.read_text().count("\n") for path in files)
    return f"its own {len(files)} source files, {lines:,} lines"


def _fail(ours: Stage, error: Exception, as_json: bool) -> NoReturn:
    """Say what failed, with the end of every log, and leave with status 1."""
    if as_json:
        output.print_document({"error": {"code": "DemoFailed", "message": str(error)}})
    else:
        lines = [f"Error: the demo failed: {error}", *ours.log_tails()]
        print("\n  ".join(lines), file=sys.stderr)
    raise typer.Exit(output.FAILED)
