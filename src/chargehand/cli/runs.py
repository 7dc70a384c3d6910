"""``run``: through the client package, like anybody else's program."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli import completion, live, options, output

if TYPE_CHECKING:
    from chargehand_client import Chargehand, Execution, Run, RunOptions

Agent = Annotated[
    str,
    typer.Argument(
        metavar="AGENT", help="The agent's slug or id.", autocompletion=completion.agents
    ),
]
Input = Annotated[
    str | None,
    typer.Argument(
        metavar="INPUT", help="What to give it; read from standard input if left out or `-`."
    ),
]
Workspace = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, metavar="DIR", help="A folder to work in: a copy of it."
    ),
]
EndUser = Annotated[str | None, typer.Option(help="On whose behalf you call.")]
InBackground = Annotated[
    bool, typer.Option("--async", help="Start the run, print its id and leave.")
]
AsJsonLines = Annotated[
    bool, typer.Option("--json", help="Print the events as JSON Lines, then the run.")
]


def run(
    agent: Agent,
    text: Input = None,
    workspace: Workspace = None,
    version: Annotated[
        str | None, typer.Option(help="One of the agent's versions; else the current one.")
    ] = None,
    end_user: EndUser = None,
    in_background: InBackground = False,
    as_json: AsJsonLines = False,
) -> None:
    """Run an agent and watch it.

    The answer goes to standard output, the steps to standard error. Ctrl-C cancels the run. The
    service is the one of CHARGEHAND_URL and CHARGEHAND_KEY, or of a profile.

    Example: chargehand run code-review "Review this" --workspace ./src
    """
    started(
        agent,
        text,
        {"workspace": workspace, "version": version, "end_user": end_user},
        in_background=in_background,
        as_json=as_json,
    )


def started(
    agent: str, text: str | None, given: "RunOptions", *, in_background: bool, as_json: bool
) -> None:
    """Start a run and watch it, or only tell its id; exits with 1 unless it completes."""
    with options.service() as chargehand:
        if in_background:
            _show_started(chargehand.start(agent, _input(text), **given), as_json)
            return
        with chargehand.stream(agent, _input(text), **given) as stream:
            execution = _watch(chargehand, stream, as_json)
    leave(execution)


def leave(execution: "Execution") -> None:
    """End as the run did."""
    raise typer.Exit(0 if execution.status == "completed" else output.FAILED)


def _input(text: str | None) -> str:
    """The argument, else standard input. Raises typer.BadParameter where it is not UTF-8."""
    if text is None and sys.stdin.isatty():
        raise typer.BadParameter("give it after the agent, or through a pipe", param_hint="INPUT")
    try:
        given = sys.stdin.read() if text is None or text == "-" else text
        given.encode()
    except UnicodeError as error:
        raise typer.BadParameter(
            "it is not UTF-8 text; to give an agent other files, put them in a folder and name "
            "that with --workspace",
            param_hint="INPUT",
        ) from error
    return given


def _show_started(execution: "Execution", as_json: bool) -> None:
    if as_json:
        output.print_document(execution.document)
    else:
        print(execution.id)


def _watch(chargehand: "Chargehand", stream: "Run", as_json: bool) -> "Execution":
    """Show the run until it ends; Ctrl-C cancels it and leaves."""
    try:
        return live.stream_lines(stream) if as_json else live.show_live(stream)
    except KeyboardInterrupt:
        told = cancelled(chargehand.cancel(stream.id).status)
        print(f"\nRun {stream.id} {told}.", file=sys.stderr)
        raise typer.Exit(output.INTERRUPTED) from None


def cancelled(status: str) -> str:
    """What is said of a run that was told to stop."""
    return "is cancelled" if status == "cancelled" else "is being cancelled"
