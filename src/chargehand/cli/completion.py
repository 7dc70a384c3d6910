"""Completion in the shell: the script that a shell sources, and the names and ids it then offers.

What is offered is asked of the service, once and shortly. Where that fails nothing is offered: an
error would end up in the middle of the line that somebody types.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chargehand.cli import output

if TYPE_CHECKING:
    from chargehand_client import Chargehand

Shell = Literal["bash", "zsh", "fish"]
Offer = tuple[str, str]
"""A value and what is said of it, by the shells that can."""

PROGRAM, VARIABLE = "chargehand", "_CHARGEHAND_COMPLETE"

_SOURCED = {
    "bash": "~/.bashrc",
    "zsh": "~/.zshrc, behind compinit",
    "fish": "~/.config/fish/config.fish",
}


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    as_json: output.AsJson = False,
) -> None:
    """Print the completion script of a shell.

    Source it where the shell starts, as in: source <(chargehand completion bash). It completes
    commands, options, and the agents, executions, uploads and keys of your service.

    Example: chargehand completion bash
    """
    # Not by ``add_completion``, which adds two options to the program and guesses the shell.
    from typer.completion import (
        get_completion_script,  # pyright: ignore[reportPrivateImportUsage]
    )

    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
    if as_json:
        output.print_document({"shell": shell, "script": script, "source_in": _SOURCED[shell]})
    else:
        print(script)


def prepare() -> None:
    """Let the program answer a shell that asks; nothing where none does."""
    if VARIABLE in os.environ:
        from typer.completion import (
            completion_init,  # pyright: ignore[reportPrivateImportUsage]
        )

        completion_init()


def _offered(
    found: "Callable[[Chargehand], Iterator[Offer]]",
) -> Callable[[typer.Context], list[Offer]]:
    """A completer of what ``found`` lists, of which Typer takes what fits; none on a failure."""

    def offer(context: typer.Context) -> list[Offer]:
        from chargehand_client import Chargehand, ChargehandClientError

        profile = context.params.get("profile") or context.find_root().params.get("profile")
        with suppress(ChargehandClientError), Chargehand(profile=profile, tries=1) as chargehand:
            return list(found(chargehand))
        return []

    return offer


def _agents(chargehand: "Chargehand") -> Iterator[Offer]:
    return ((agent["slug"], agent["name"]) for agent in islice(chargehand.agents(), 1000))


def _executions(chargehand: "Chargehand") -> Iterator[Offer]:
    return (
        (execution.id, f"{execution.status} {execution.created_at:%Y-%m-%d %H:%M}")
        for execution in islice(chargehand.executions(), 100)
    )


def _uploads(chargehand: "Chargehand") -> Iterator[Offer]:
    return ((upload["id"], upload["name"]) for upload in islice(chargehand.uploads(), 100))


def _keys(chargehand: "Chargehand") -> Iterator[Offer]:
    return ((key["id"], key["name"]) for key in islice(chargehand.keys(), 100))


def _providers(chargehand: "Chargehand") -> Iterator[Offer]:
    return ((provider["name"], provider["title"]) for provider in chargehand.providers())


def _models(chargehand: "Chargehand") -> Iterator[Offer]:
    return ((f"{model['provider']}:{model['name']}", "") for model in chargehand.models())


agents = _offered(_agents)
executions = _offered(_executions)
uploads = _offered(_uploads)
keys = _offered(_keys)
providers = _offered(_providers)
models = _offered(_models)
