"""The command ``chargehand``: its commands, and what an error looks like."""

import io
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
import typer.main

import chargehand
from chargehand.cli import (
    account,
    admin,
    agents,
    completion,
    demo,
    doctor,
    executions,
    keys,
    models,
    options,
    output,
    runs,
    service,
    steering,
    uploads,
)

if TYPE_CHECKING:
    from chargehand.kernel.errors import ChargehandError
    from chargehand_client import ChargehandClientError

app = typer.Typer(
    name="chargehand",
    # Plain help: no escape codes, and a third of the time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def program(
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
    as_json: output.AsJson = False,  # noqa: ARG001 - kept by with_options
) -> None:
    """Chargehand, a self-hosted manager of AI agents.

    These options may also stand behind a command. ``--debug`` shows the traceback of a defect.
    """
    if debug:
        sys.excepthook = sys.__excepthook__


def version(as_json: output.AsJson = False) -> None:
    """Print the version.

    Example: chargehand version
    """
    if as_json:
        output.print_document({"version": chargehand.__version__})
    else:
        print(chargehand.__version__)


app.callback()(options.with_options(program, hidden=False))
for command in (
    service.up,
    demo.demo,
    doctor.doctor,
    version,
    completion.completion,
    runs.run,
    executions.logs,
):
    options.command(app)(command)
for noun, group in {
    "agents": agents.agents,
    "executions": executions.executions,
    "events": steering.events,
    "uploads": uploads.uploads,
    "keys": keys.keys,
    "members": account.members,
}.items():
    app.add_typer(group, name=noun)
for command in (account.me, models.models, service.api, service.worker, admin.migrate):
    options.command(app)(command)


def main() -> None:
    """Run a command; an error that was foreseen is told without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What cannot be encoded is shown as an escape, which is JSON's own for half a pair.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.excepthook = tell_defect
    options.given.forget()
    completion.prepare()
    try:
        # Not ``app()``: that sets a hook of its own.
        typer.main.get_command(app)(prog_name=completion.PROGRAM)
    except SystemExit:
        # Before the next clause, whose imports would double the time of ``--help``.
        raise
    except _foreseen() as error:
        # Not a parsed option, for the error may come before there are any.
        sys.exit(output.report(error, as_json="--json" in sys.argv))


def tell_defect(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say that something is our fault; a service's log, where there is one, has the traceback."""
    from chargehand.kernel.errors import ChargehandError

    _log_defect(kind, error, trace)
    told = " ".join(str(error).split())[:300]
    output.report(
        ChargehandError(
            f"A defect of Chargehand: {kind.__name__}: {told}\n"
            "Repeat it with `chargehand --debug …` for the traceback, and report that."
        ),
        as_json="--json" in sys.argv,
    )


def _log_defect(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if "structlog" not in sys.modules:
        return
    import structlog

    if structlog.is_configured():
        structlog.get_logger().error("defect", exc_info=(kind, error, trace))


def _foreseen() -> "tuple[type[ChargehandError], type[ChargehandClientError]]":
    from chargehand.kernel.errors import ChargehandError
    from chargehand_client import ChargehandClientError

    return ChargehandError, ChargehandClientError


if __name__ == "__main__":
    main()
