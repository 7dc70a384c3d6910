"""The commands, from the tree that the command line itself is made of."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer.main
from tests.shape.reference.markdown import (
    REFERENCE,
    Page,
    block,
    code,
    codes,
    paragraphs,
    prose,
    table,
)

from chargehand.cli import output
from chargehand.cli.main import app

EXIT_CODES = {
    0: "Done.",
    output.FAILED: "The command or the run has failed, for another reason than those below.",
    output.USAGE: "What was asked for is not valid: an option, an argument, a request, a setting.",
    output.NOT_FOUND: "What was named does not exist.",
    output.DENIED: "The key is missing or refused, or may not do this.",
    output.LIMIT: "A limit is reached; waiting or freeing something helps.",
    output.UNREACHABLE: "The service or something that it needs does not answer.",
    output.INTERRUPTED: "Stopped with Ctrl-C.",
}


PARENTHESES = re.compile(r"default: \(([^()]*)\)")
"""Typer's, around a default in words."""


class Command(NamedTuple):
    """A command or a group of commands, with what its help is made of."""

    path: str
    command: Any
    context: Any

    @property
    def commands(self) -> dict[str, Any]:
        return getattr(self.command, "commands", {})


def tree() -> Iterator[Command]:
    """Every command that is shown, in the order of the help, a group before what is in it."""
    root: Any = typer.main.get_command(app)
    yield from _below(root, str(app.info.name), None)


def _below(command: Any, name: str, parent: Any) -> Iterator[Command]:
    context = command.context_class(command, info_name=name, parent=parent)
    found = Command(context.command_path, command, context)
    yield found
    for each in command.list_commands(context) if found.commands else ():
        if not found.commands[each].hidden:
            yield from _below(found.commands[each], each, context)


def page() -> Page:
    found = list(tree())
    exits = [(code(number), meaning) for number, meaning in sorted(EXIT_CODES.items())]
    return Page(
        REFERENCE / "commands.md",
        {
            "commands": _overview(found),
            "exit codes": table(("code", "meaning"), exits),
            "details": paragraphs(*map(_section, found)),
        },
    )


def summary(command: Command) -> str:
    return prose(command.command.get_short_help_str(limit=1000))


def _overview(found: list[Command]) -> str:
    rows = [
        (f"[`{one.path}`](#{one.path.replace(' ', '-')})", summary(one))
        for one in found
        if not one.commands
    ]
    return table(("command", "what it does"), rows)


def _section(command: Command) -> str:
    text, examples = _parted(command.command.help or "")
    pieces = command.command.collect_usage_pieces(command.context)
    return paragraphs(
        f"### {command.path}",
        prose(text),
        block(" ".join([command.path, *pieces])),
        *_parameters(command),
        "For example:" if examples else "",
        block(examples, "sh") if examples else "",
    )


def _parted(text: str) -> tuple[str, str]:
    """What a help says, and its examples."""
    said, _, examples = text.replace("\b", "").partition("Example")
    lines = examples.removeprefix("s").removeprefix(":").splitlines()
    return said, "\n".join(line.strip() for line in lines if line.strip())


def _parameters(command: Command) -> Iterator[str]:
    for kind, name in (("argument", "argument"), ("option", "option")):
        rows = [
            (names_of(record[0]), prose(PARENTHESES.sub(r"default: \1", record[1])))
            for parameter in command.command.params
            if parameter.param_type_name == kind
            and (record := parameter.get_help_record(command.context)) is not None
        ]
        if rows:
            yield table((name, "meaning"), rows)
    # Those of the program as a whole stand above.
    if command.commands and command.context.parent:
        rows = [
            (
                f"[`{one}`](#{f'{command.path} {one}'.replace(' ', '-')})",
                summary(_child(command, one)),
            )
            for one in command.command.list_commands(command.context)
            if not command.commands[one].hidden
        ]
        yield table(("command", "what it does"), rows)


def _child(command: Command, name: str) -> Command:
    return Command(f"{command.path} {name}", command.commands[name], command.context)


def names_of(text: str) -> str:
    """``-q, --quiet`` as code, each name by itself."""
    return codes(re.split(r",\s+", text))
