"""The options that every command takes, before its name or behind it.

``--json`` is each command's own parameter, ``as_json``, since each has something of its own to
print. The others are kept in ``given``; a command that has no use for one ignores it, so that
aliases can set them once.
"""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from chargehand.cli import output

if TYPE_CHECKING:
    from chargehand_client import Chargehand

Result = TypeVar("Result")
Function = Callable[..., Result]

EPILOG = "And, as every command: --profile NAME, --quiet, --no-color, --yes."


@dataclass
class Given:
    """What was given of them; one process is one command."""

    json: bool = False
    profile: str | None = None
    quiet: bool = False
    yes: bool = False

    def forget(self) -> None:
        self.json, self.profile, self.quiet, self.yes = False, None, False, False

    def take(self, profile: str | None, quiet: bool, no_color: bool, yes: bool) -> None:
        self.profile = profile or self.profile
        self.quiet |= quiet
        self.yes |= yes
        if no_color:
            # The environment, so that the processes which a command starts obey too.
            os.environ["NO_COLOR"] = "1"


given = Given()


def noun(help: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


def command(
    group: typer.Typer, name: str | None = None
) -> Callable[[Function[Result]], Function[Result]]:
    """Add a function to a group as a command, with the options that all have."""

    def added(function: Function[Result]) -> Function[Result]:
        # The mark keeps the example on one line, to be copied.
        told = (inspect.getdoc(function) or "").replace("\n\nExample:", "\n\n\b\nExample:")
        group.command(name, help=told, epilog=EPILOG)(with_options(function))
        return function

    return added


def with_options(function: Function[Result], *, hidden: bool = True) -> Function[Result]:
    """The function with the options that all commands have; ``hidden`` from its help."""

    @wraps(function)
    def taking(**arguments: Any) -> Result:
        given.take(**{name: arguments.pop(name) for name in common})
        given.json = arguments["as_json"] = arguments["as_json"] or given.json
        return function(**arguments)

    common = _parameters(hidden)
    own = inspect.signature(function, eval_str=True).parameters
    parameters = {**own, **common}
    # Where Typer looks: Python itself would see only ``**arguments``.
    vars(taking)["__signature__"] = inspect.Signature(
        # By keyword, so that those without a default may stand anywhere.
        [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters.values()]
    )
    taking.__annotations__ = {name: one.annotation for name, one in parameters.items()}
    return taking


def _parameters(hidden: bool) -> dict[str, inspect.Parameter]:
    profile = typer.Option(
        metavar="NAME", help="The service and key of this profile.", hidden=hidden
    )
    quiet = typer.Option("--quiet", "-q", help="Only results and errors.", hidden=hidden)
    no_color = typer.Option("--no-color", help="No escape codes, as NO_COLOR=1.", hidden=hidden)
    yes = typer.Option("--yes", "-y", help="Do not ask.", hidden=hidden)
    found = {
        "profile": (Annotated[str | None, profile], None),
        "quiet": (Annotated[bool, quiet], False),
        "no_color": (Annotated[bool, no_color], False),
        "yes": (Annotated[bool, yes], False),
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    return {
        name: inspect.Parameter(name, kind, annotation=annotation, default=default)
        for name, (annotation, default) in found.items()
    }


def service() -> "Chargehand":
    """A client of the service that options and environment name. Raises NotConfigured."""
    from chargehand_client import Chargehand

    return Chargehand(profile=given.profile)


def tell(text: str) -> None:
    """Say what was done, unless only results are wanted."""
    if not given.quiet:
        print(output.visible(text), flush=True)


def confirm(question: str) -> None:
    """Ask before something is lost. Raises typer.Abort, and BadParameter without a terminal."""
    if given.yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"{question} There is no terminal to answer on; say it with --yes", param_hint="--yes"
        )
    typer.confirm(question, abort=True, err=True)
