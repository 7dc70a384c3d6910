"""The environment variables, from the fields of the settings and from the client's."""

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from tests.shape.reference.markdown import REFERENCE, Page, code, codes, paragraphs, prose, table

from chargehand.settings import CLIENT_VARIABLES, Settings

TITLES = {"Api": "API", "Embedded": "Embedded server", "Simulated": "Simulated model"}
KINDS = {"str": "text", "int": "whole number", "float": "number", "Path": "path"}


def groups() -> dict[str, type[BaseModel]]:
    """The groups of variables by their titles; what is in none of them comes last."""
    found: dict[str, type[BaseModel]] = {
        _title(name): field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    return {**found, "All processes": Settings}


def _title(name: str) -> str:
    words = name.replace("_", " ").capitalize()
    return TITLES.get(words, words)


def variables(group: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for field in group.model_fields.values():
        if field.alias:
            yield field.alias, field


def page() -> Page:
    sections = [_section(title, group) for title, group in groups().items()]
    client = table(
        ("variable", "meaning"),
        [(code(name), meaning) for name, meaning in CLIENT_VARIABLES.items()],
    )
    return Page(REFERENCE / "settings.md", {"service": paragraphs(*sections), "client": client})


def _section(title: str, group: type[BaseModel]) -> str:
    rows = [
        (code(name), _default(field), values(name, field), prose(field.description))
        for name, field in variables(group)
    ]
    return paragraphs(
        f"### {title}",
        prose(group.__doc__),
        table(("variable", "default", "values", "meaning"), rows),
    )


def _default(field: FieldInfo) -> str:
    return "none" if field.default is None else code(field.default)


def values(name: str, field: FieldInfo) -> str:
    """What the variable takes."""
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return codes(get_args(annotation))
    kind = annotation
    # An address and a key are checked as text; their annotations say what they are.
    metadata = list(field.metadata)
    if get_origin(annotation) is Annotated:
        kind, *more = get_args(annotation)
        metadata += more
    if kind is SecretStr:
        return "secret"
    if name.endswith("_URL"):
        return "URL"
    return ", ".join([KINDS[kind.__name__], *_bounds(metadata)])


def _without_none(annotation: Any) -> Any:
    members = [one for one in get_args(annotation) if one is not NoneType]
    return members[0] if NoneType in get_args(annotation) else annotation


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for bound in metadata:
        match bound:
            case Ge(ge=least):
                yield f"from {least}"
            case Gt(gt=least):
                yield f"above {least}"
            case Le(le=most):
                yield f"up to {most}"
            case Lt(lt=most):
                yield f"below {most}"
            case _:
                pass
