"""``executions`` and ``logs``: what was run and what it did, through the client package."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from chargehand.cli import completion, lists, live, options, output, runs
from chargehand.cli.waits import told_of

if TYPE_CHECKING:
    from chargehand_client import Chargehand, Execution
    from chargehand_client.documents import Log, Step

executions = options.noun("Look at runs, follow, steer and answer them.")

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.executions)
]
Status = Literal[
    "pending",
    "running",
    "awaiting_input",
    "awaiting_event",
    "paused",
    "completed",
    "failed",
    "cancelled",
]


@options.command(executions, "list")
def list_(
    status: Annotated[Status | None, typer.Option(help="Those that are this.")] = None,
    agent: Annotated[
        str | None, typer.Option(help="Those of an agent.", autocompletion=completion.agents)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Those that a user started, by id.")] = None,
    end_user: Annotated[str | None, typer.Option(help="Those on this one's behalf.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Those that failed with this.")] = None,
    tests: Annotated[
        bool | None, typer.Option("--tests/--no-tests", help="Only tests, or none.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 30m, 2h, 7d or ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    limit: lists.Limit = lists.DEFAULT_LIMIT,
    as_json: output.AsJson = False,
) -> None:
    """List the runs that you may see, newest first.

    Example: chargehand executions list --status failed --since 24h
    """
    with options.service() as chargehand:
        found = chargehand.executions(
            status=status,
            agent=agent,
            user=user,
            end_user=end_user,
            error_code=error_code,
            is_test=tests,
            created_after=lists.time_of(since, "--since"),
            created_before=lists.time_of(until, "--until"),
        )
        columns = ("id", "agent", "version", "status", "created", "took", "steps", "tokens", "cost")
        slugs = Slugs(chargehand)
        lists.show(found, limit, columns, slugs.row, lambda run: run.document, as_json)


class Slugs:
    """Rows of runs with the slug of their agent, each asked for once."""

    def __init__(self, chargehand: "Chargehand") -> None:
        self._chargehand = chargehand
        self._known = dict[str, str]()

    def row(self, execution: "Execution") -> tuple[str, ...]:
        took = "-" if execution.duration_ms is None else live.seconds(execution.duration_ms)
        return (
            execution.id,
            self._of(execution.agent_id),
            execution.agent_version,
            execution.status,
            lists.minute(execution.created_at),
            took,
            str(execution.steps),
            f"{execution.usage.total_tokens:,}",
            live.cost_of(execution),
        )

    def _of(self, agent_id: str) -> str:
        from chargehand_client import AgentNotFound

        if agent_id not in self._known:
            try:
                self._known[agent_id] = self._chargehand.agent(agent_id)["slug"]
            except AgentNotFound:
                # Its runs may be seen, or outlived it.
                self._known[agent_id] = agent_id
        return self._known[agent_id]


@options.command(executions)
def show(run: Run, as_json: output.AsJson = False) -> None:
    """Show a run as it stands.

    Example: chargehand executions show 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        execution = chargehand.execution(run)
    if as_json:
        output.print_document(execution.document)
        return
    output.print_fields(execution.document)
    if execution.waiting_for is not None:
        print()
        for line in told_of(execution.waiting_for, execution.id):
            print(output.visible(line))


@options.command(executions)
def steps(run: Run, as_json: output.AsJson = False) -> None:
    """List the steps of a run: calls of the model and of tools.

    Example: chargehand executions steps 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        found = list(chargehand.steps(run))
    if as_json:
        output.print_document({"items": found})
        return
    columns = ("step", "kind", "what", "took", "tokens", "cost", "error")
    output.print_table(columns, [_step_row(step) for step in found])


@options.command(executions)
def follow(
    run: Run,
    after: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Only what is behind this event's id.")
    ] = None,
    as_json: runs.AsJsonLines = False,
) -> None:
    """Watch a run that was started already, from its beginning.

    Ends with the run's status. Ctrl-C stops watching, not the run.

    Example: chargehand executions follow 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    try:
        with options.service() as chargehand, chargehand.follow(run, after=after) as stream:
            execution = live.stream_lines(stream) if as_json else live.show_live(stream)
    except KeyboardInterrupt:
        raise typer.Exit(output.INTERRUPTED) from None
    runs.leave(execution)


@options.command(executions)
def cancel(run: Run, as_json: output.AsJson = False) -> None:
    """Cancel a run: at once, or within 2 s where it is being executed.

    Example: chargehand executions cancel 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        execution = chargehand.cancel(run)
    if as_json:
        output.print_document(execution.document)
    else:
        options.tell(f"Run {execution.id} {runs.cancelled(execution.status)}.")


def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with -f, JSON Lines.")
    ] = False,
) -> None:
    """Print the log of a run.

    Example: chargehand logs 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 -f
    """
    try:
        with options.service() as chargehand:
            if follow:
                for line in _followed(chargehand, run):
                    live.print_line(line) if as_json else _print_log(line)
                return
            found = list(chargehand.logs(run))
    except KeyboardInterrupt:
        raise typer.Exit(output.INTERRUPTED) from None
    if as_json:
        output.print_document({"items": found})
        return
    for line in found:
        _print_log(line)


def _followed(chargehand: "Chargehand", run: str) -> Iterator[Mapping[str, Any]]:
    """The lines of a run's log as they are written. Raises InsufficientPermissions.

    The stream itself would leave them out where they may not be read.
    """
    from chargehand_client import LogWritten

    next(chargehand.logs(run), None)
    with chargehand.follow(run) as stream:
        for event in stream:
            if isinstance(event, LogWritten):
                yield event.data


def _print_log(line: "Mapping[str, Any] | Log") -> None:
    at = lists.second(line["at"])
    print(output.visible(f"{at}  {line['level']:<7}  {line['message']}"), flush=True)


def _step_row(step: "Step") -> tuple[str, ...]:
    what = step["tool_name"] or f"{step['provider']}:{step['model']}"
    if step["tool_names"]:
        what = f"{what}, calls {', '.join(step['tool_names'])}"
    error = step["error"]
    return (
        str(step["seq"]),
        step["kind"],
        what,
        live.seconds(step["duration_ms"]),
        f"{step['usage']['total_tokens']:,}" if step["kind"] == "model" else "-",
        step["cost"] if step["kind"] == "model" else "-",
        "-" if error is None else str(error.get("message", error)),
    )
