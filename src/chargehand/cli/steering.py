"""``executions pause`` and so on, and ``events``: steer runs and answer what they wait for."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chargehand.cli import documents, options, output
from chargehand.cli.executions import Run, executions
from chargehand.cli.waits import asked_of

if TYPE_CHECKING:
    from chargehand_client import Chargehand, Execution

events = options.noun("Tell of what happens outside.")

Comment = Annotated[str | None, typer.Option(help="Why.")]
Wait = Annotated[
    int | None, typer.Option(help="The number of the wait that is meant; else the open one.")
]


@options.command(executions)
def pause(
    run: Run,
    reason: Annotated[str | None, typer.Option(help="Why, for who looks at it later.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """Pause a run: at once, or after the step in hand where it runs.

    Example: chargehand executions pause 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --reason lunch
    """
    with options.service() as chargehand:
        _told(chargehand.pause(run, reason), as_json, "is being paused")


@options.command(executions)
def resume(run: Run, as_json: output.AsJson = False) -> None:
    """Let a paused run go on where it was paused.

    Example: chargehand executions resume 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        _told(chargehand.resume(run), as_json, "goes on")


@options.command(executions)
def kill(run: Run, as_json: output.AsJson = False) -> None:
    """End a run at once, whatever its worker does.

    Example: chargehand executions kill 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        _told(chargehand.kill(run), as_json, "")


@options.command(executions, "input")
def input_(
    run: Run,
    answer: Annotated[
        str | None,
        typer.Argument(metavar="ANSWER", help="Text, or JSON where the question has a schema."),
    ] = None,
    result: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CALL=OUTPUT",
            help="What a call of your tools came to, in JSON or as text; repeatable.",
        ),
    ] = None,
    error: Annotated[
        list[str] | None,
        typer.Option(metavar="CALL=TEXT", help="Why a call of your tools failed; repeatable."),
    ] = None,
    wait: Wait = None,
    as_json: output.AsJson = False,
) -> None:
    """Answer what a run waits for: its question, or the calls of your tools.

    Example: chargehand executions input 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 main
    """
    results = [
        *({"call_id": call, "output": _json_or_text(text)} for call, text in _pairs(result)),
        *({"call_id": call, "error": text} for call, text in _pairs(error)),
    ]
    if (answer is None) == (not results):
        message = "give either an answer, or --result and --error of your tools"
        raise typer.BadParameter(message, param_hint="ANSWER")
    with options.service() as chargehand:
        if answer is None:
            given = chargehand.send_tool_results(run, results, wait=wait)
        else:
            given = _answer(chargehand, run, answer, wait)
    _told(given, as_json, "goes on")


@options.command(executions)
def approve(
    run: Run, wait: Wait = None, comment: Comment = None, as_json: output.AsJson = False
) -> None:
    """Approve the call that a run waits with.

    Without --wait the call is shown, and on a terminal you are asked.

    Example: chargehand executions approve 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --wait 1
    """
    with options.service() as chargehand:
        number = _wait_to_decide(chargehand, run, "Approve") if wait is None else wait
        _told(chargehand.approve(run, number, comment), as_json, "goes on")


@options.command(executions)
def deny(
    run: Run, wait: Wait = None, comment: Comment = None, as_json: output.AsJson = False
) -> None:
    """Deny the call that a run waits with; its model is told so, with the comment.

    Without --wait the call is shown, and on a terminal you are asked.

    Example: chargehand executions deny 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --wait 1
    """
    with options.service() as chargehand:
        number = _wait_to_decide(chargehand, run, "Deny") if wait is None else wait
        _told(chargehand.deny(run, number, comment), as_json, "goes on")


@options.command(executions)
def retry(run: Run, as_json: output.AsJson = False) -> None:
    """Go on, as a new run, from the last checkpoint of one that failed or was cancelled.

    Example: chargehand executions retry 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        _begun(chargehand.retry(run), as_json)


@options.command(executions)
def fork(
    run: Run,
    step: Annotated[
        int | None, typer.Option(min=0, help="The last step that it keeps; else all of them.")
    ] = None,
    input: Annotated[str | None, typer.Option(help="Another input.")] = None,
    instructions: Annotated[
        str | None, typer.Option(help="Other instructions, or @FILE that has them.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER:NAME", help="Another model.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Begin a new run from a step of an old one, which stays as it was.

    Example: chargehand executions fork 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --step 0
    """
    from chargehand_client.options import ForkChanges

    changes = ForkChanges()
    if step is not None:
        changes["step"] = step
    if input is not None:
        changes["input"] = input
    if instructions is not None:
        changes["instructions"] = documents.text_of(instructions, "--instructions")
    if model is not None:
        provider, colon, name = model.partition(":")
        if not colon:
            message = f"{model!r} has no provider; give it as in simulated:standard"
            raise typer.BadParameter(message, param_hint="--model")
        changes["model"] = {"provider": provider, "name": name}
    with options.service() as chargehand:
        _begun(chargehand.fork(run, **changes), as_json)


@options.command(events)
def send(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Like invoice.paid.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="JSON", help="What there is to know of it.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only runs that this user started.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """Tell of something that happened: each run that waits for it goes on, once.

    Example: chargehand events send invoice.paid '{"number": 7}'
    """
    with options.service() as chargehand:
        told = chargehand.send_event(event_type, _json(payload), user=user)
    if as_json:
        output.print_document(told)
        return
    woken = told["woken"]
    options.tell(f"{len(woken)} run{'' if len(woken) == 1 else 's'} waited for {event_type}.")
    for run in woken:
        print(run)


def _told(execution: "Execution", as_json: bool, on_its_way: str) -> None:
    if as_json:
        output.print_document(execution.document)
        return
    status = execution.status
    at_it = status in ("pending", "running") and on_its_way
    options.tell(f"Run {execution.id} {on_its_way if at_it else f'is {status}'}.")


def _begun(execution: "Execution", as_json: bool) -> None:
    """The id alone on standard output, for the next command."""
    if as_json:
        output.print_document(execution.document)
    else:
        print(execution.id)


def _answer(chargehand: "Chargehand", run: str, answer: str, wait: int | None) -> "Execution":
    """Answer the question that is open now, where none is named."""
    waiting = chargehand.execution(run).waiting_for
    schema = (waiting or {}).get("answer_schema")
    is_text = schema is None or schema.get("type") == "string"
    value = answer if is_text else _json_or_text(answer)
    if wait is None and waiting is not None:
        wait = waiting["wait"]
    return chargehand.send_input(run, value, wait=wait)


def _wait_to_decide(chargehand: "Chargehand", run: str, verb: str) -> int:
    """The open wait, once its call has been shown and, on a terminal, confirmed."""
    waiting = chargehand.execution(run).waiting_for
    if waiting is None or waiting["kind"] != "approval":
        # The service says what the run does instead.
        return 1 if waiting is None else waiting["wait"]
    asks = sys.stdin.isatty() and not options.given.yes
    if asks or not (options.given.quiet or options.given.json):
        for line in asked_of(waiting):
            print(output.visible(line), file=sys.stderr)
    if asks:
        options.confirm(f"{verb} it?")
    return waiting["wait"]


def _pairs(given: list[str] | None) -> Iterator[tuple[str, str]]:
    for text in given or ():
        call, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} has no =; give it as CALL=…", param_hint="--result")
        yield call, value


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}", param_hint="JSON") from error
