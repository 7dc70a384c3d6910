"""Documents that are given to a command as files: JSON, or TOML by the file's name."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A document in JSON, or TOML (*.toml); `-` is standard input, in JSON.",
    ),
]


def read(file: Path) -> dict[str, Any]:
    """The object that a file holds. Raises typer.BadParameter, with the place of what is wrong."""
    try:
        document = _parsed(file)
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        # json.JSONDecodeError, tomllib.TOMLDecodeError and UnicodeDecodeError.
        raise _bad(f"{file} is not {_form(file)}: {error}") from error
    if not isinstance(document, dict):
        raise _bad(f"{file} holds no object, as in {{…}}")
    return cast(dict[str, Any], document)


def _parsed(file: Path) -> Any:
    if str(file) == "-":
        return json.loads(sys.stdin.read())
    if _form(file) == "TOML":
        import tomllib

        return tomllib.loads(file.read_text(encoding="utf-8"))
    return json.loads(file.read_text(encoding="utf-8"))


def text_of(given: str, parameter: str) -> str:
    """A text, or with ``@FILE`` what the file holds. Raises typer.BadParameter."""
    if not given.startswith("@"):
        return given
    file = Path(given[1:])
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}", parameter) from error
    except UnicodeDecodeError as error:
        raise _bad(f"{file} is not UTF-8 text", parameter) from error


def _form(file: Path) -> str:
    return "TOML" if file.suffix == ".toml" else "JSON"


def _bad(message: str, parameter: str = "--file") -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=parameter)
