"""Agents' documents, checked whole: every violation at once, each with its pointer (AGT-2)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from chargehand.agents.installed import Capability, Installed, tools_of
from chargehand.agents.jsonschema import compile_schema, schema_violations, violations_against
from chargehand.agents.model_choice import model_violations, model_warnings
from chargehand.kernel.errors import Invalid, Violation, pointer
from chargehand.kernel.storable import storable_violations
from chargehand.web.suggestions import did_you_mean
from chargehand.web.texts import message_of

MAX_DOCUMENT_BYTES = 512_000
MAX_VIOLATIONS = 100

Shape = TypeVar("Shape", bound=BaseModel)
_At = tuple[str | int, ...]


class InvalidAgentConfig(Invalid):
    """``details['violations']`` and ``details['warnings']`` hold pointers and messages."""

    code = "InvalidAgentConfig"


@dataclass(frozen=True, slots=True)
class Checked(Generic[Shape]):
    """``value`` is None exactly where there are violations."""

    value: Shape | None
    violations: tuple[Violation, ...]
    warnings: tuple[Violation, ...]


def check(shape: type[Shape], document: object, *, installed: Installed) -> Checked[Shape]:
    """All that is wrong with a document of ``shape``, as it came in a request.

    The configuration is the document itself, or stands in it under ``config``. Takes any JSON;
    never raises.
    """
    if unusable := _unusable(document):
        return Checked(None, unusable, ())
    at = ("config",) if "config" in shape.model_fields else ()
    config = document.get("config") if at and isinstance(document, dict) else document
    found = dict[str, Violation]()
    value, misshapen = _shaped(shape, document)
    for violation in (*misshapen, *_document_violations(document)):
        found.setdefault(violation.pointer, violation)
    warnings = tuple[Violation, ...]()
    if isinstance(config, dict):
        for violation in _config_violations(config, at, installed):
            found.setdefault(violation.pointer, violation)
        warnings = tuple(model_warnings(config, at, installed.providers))
    return Checked(None if found else value, tuple(found.values())[:MAX_VIOLATIONS], warnings)


def parse(
    shape: type[Shape], document: object, *, installed: Installed
) -> tuple[Shape, tuple[Violation, ...]]:
    """The document and its warnings. Raises InvalidAgentConfig with every violation."""
    checked = check(shape, document, installed=installed)
    if checked.value is None:
        raise refusal(checked.violations, checked.warnings)
    return checked.value, checked.warnings


def refusal(
    violations: tuple[Violation, ...], warnings: tuple[Violation, ...] = ()
) -> InvalidAgentConfig:
    """The error that tells these violations; there must be one."""
    first, count = violations[0], len(violations)
    more = f" And {count - 1} more: see details.violations." if count > 1 else ""
    return InvalidAgentConfig(
        f"The agent is not valid at {first.pointer or 'its top'}: {first.message}.{more}",
        violations=[violation.as_json() for violation in violations],
        warnings=[warning.as_json() for warning in warnings],
    )


def _unusable(document: object) -> tuple[Violation, ...]:
    """What must be right before anything else can be looked at."""
    if found := storable_violations(document):
        return tuple(found[:MAX_VIOLATIONS])
    if len(orjson.dumps(document)) > MAX_DOCUMENT_BYTES:
        return (Violation("", f"larger than {MAX_DOCUMENT_BYTES // 1000} kB"),)
    return ()


def _shaped(shape: type[Shape], document: object) -> tuple[Shape | None, list[Violation]]:
    try:
        # As JSON, where strict types still let a list be a tuple and a number a decimal.
        return shape.model_validate_json(orjson.dumps(document)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_VIOLATIONS]
        return None, [_told(shape, one) for one in errors]


def _told(shape: type[BaseModel], error: ErrorDetails) -> Violation:
    message = message_of(error)
    if error["type"] == "extra_forbidden":
        message += did_you_mean(str(error["loc"][-1]), _fields_at(shape, error["loc"][:-1]))
    return Violation(pointer(error["loc"]), message)


def _fields_at(shape: Any, path: tuple[str | int, ...]) -> list[str]:
    """The names of the fields of the model that stands at a path in ``shape``."""
    for part in path:
        field = shape.model_fields.get(part) if isinstance(part, str) else None
        shape = _model_in(field.annotation) if field else shape
    return list(shape.model_fields)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _document_violations(document: object) -> Iterator[Violation]:
    if isinstance(document, dict) and document.get("visibility") == "team":
        yield Violation("/visibility", "teams do not exist in this version; use organization")


def _config_violations(
    config: Mapping[str, Any], at: _At, installed: Installed
) -> Iterator[Violation]:
    yield from model_violations(config, at, installed.providers)
    for name in ("input_schema", "output_schema"):
        schema = config.get(name)
        if isinstance(schema, dict):
            yield from schema_violations(schema, (*at, name))
    yield from _capability_violations(config.get("capabilities"), at, installed.capabilities)
    yield from _approval_violations(config, at, installed.capabilities)
    yield from _unavailable(config, at)


def _capability_violations(
    chosen: object, at: _At, capabilities: Mapping[str, Capability]
) -> Iterator[Violation]:
    if not isinstance(chosen, dict):
        return
    for name, options in chosen.items():
        where = pointer((*at, "capabilities", name))
        if name not in capabilities:
            hint = did_you_mean(name, capabilities)
            there_are = ", ".join(sorted(capabilities))
            yield Violation(where, f"unknown capability{hint}; there are {there_are}")
        elif isinstance(options, dict):
            schema = compile_schema(capabilities[name].options_schema)
            for violation in violations_against(schema, options):
                yield Violation(where + violation.pointer, violation.message)


def _approval_violations(
    config: Mapping[str, Any], at: _At, capabilities: Mapping[str, Capability]
) -> Iterator[Violation]:
    """A name that is no tool's would leave the tool that was meant without approval."""
    approvals, chosen = config.get("approvals"), config.get("capabilities")
    if not isinstance(approvals, dict):
        return
    known = tools_of(chosen, capabilities) if isinstance(chosen, dict) else frozenset[str]()
    for name in approvals.keys() - known:
        there_are = ", ".join(sorted(known)) or "none"
        message = f"names no tool of the agent's{did_you_mean(name, known)}; it has {there_are}"
        yield Violation(pointer((*at, "approvals", name)), message)


_LATER = "not available in this version; leave it out"


def _unavailable(config: Mapping[str, Any], at: _At) -> Iterator[Violation]:
    """Fields that stand for what cannot be done yet, set to anything but "off"."""
    prompt = config.get("prompt")
    if isinstance(prompt, dict):
        message = (
            f"prompt {prompt.get('name')!r} not found: this version has no prompts; "
            "put the text into instructions"
        )
        yield Violation(pointer((*at, "prompt", "name")), message)
    for path, neutral in _NEUTRAL.items():
        value = _value_at(config, path)
        if value not in neutral:
            yield Violation(pointer((*at, *path)), f"{path[-1]} is {_LATER}")


_NEUTRAL: Mapping[tuple[str, ...], tuple[Any, ...]] = {
    ("default_variables",): (None, {}),
    ("response_cache", "enabled"): (None, False),
    ("guardrails",): (None, {}),
    ("pii_mode",): (None, "off"),
    ("context_budget_tokens",): (None,),
    ("trigger", "mode"): (None, "manual"),
    ("trigger", "settings"): (None, {}),
}


def _value_at(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = config
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value
