"""What a caller may send to a run: text, JSON, or a list of blocks (SPEC EXE-2, EXE-19)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chargehand.agents.configuration import AgentConfig
from chargehand.agents.jsonschema import compile_schema, schema_violations, violations_against
from chargehand.catalog.models import find_model
from chargehand.kernel.errors import Invalid, Violation, pointer
from chargehand.kernel.storable import storable_violations

MAX_INPUT_BYTES = 100_000
"""SPEC GRD-1, of the input as JSON; files go by upload."""


MAX_METADATA_BYTES = 16_000


class InvalidInput(Invalid):
    code = "InvalidInput"


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextBlock(_Block):
    type: Literal["text"]
    text: str


class MediaBlock(_Block):
    """An uploaded file for the model to see; its kind must be one the model takes, if known."""

    type: Literal["image", "pdf", "file"]
    upload_id: UUID


Block = Annotated[TextBlock | MediaBlock, Field(discriminator="type")]
_BLOCKS: TypeAdapter[list[TextBlock | MediaBlock]] = TypeAdapter(list[Block])


def check_input(document: Any, config: AgentConfig) -> list[TextBlock | MediaBlock] | None:
    """The blocks of an input, or None where it is text or JSON.

    An agent with an input schema takes JSON that fits it; any other takes text, a JSON value, or
    a list of blocks. Raises InvalidInput with every violation, each with its JSON pointer under
    ``/input``.
    """
    if document is None:
        _refuse([Violation("/input", "must be text, JSON or blocks, and not null")])
    if document == []:
        _refuse([Violation("/input", "must hold at least one block")])
    size = len(orjson.dumps(document))
    if size > MAX_INPUT_BYTES:
        _refuse([Violation("/input", f"has {size:,} bytes of at most {MAX_INPUT_BYTES:,}")])
    if config.input_schema is not None:
        _require_fit(document, config.input_schema)
        return None
    if not isinstance(document, list):
        return None
    return _parse_blocks(document, config)


def require_storable(request: Mapping[str, Any]) -> None:
    """Raise InvalidInput for what PostgreSQL or JSON cannot hold, and for parts too large."""
    if found := storable_violations(request):
        _refuse(found)
    for name, limit in (("metadata", MAX_METADATA_BYTES), ("variables", MAX_INPUT_BYTES)):
        size = len(orjson.dumps(request[name]))
        if size > limit:
            _refuse([Violation(f"/{name}", f"has {size:,} bytes of at most {limit:,}")])


def check_tools(tools: Sequence[Any], own: Collection[str]) -> None:
    """Raise InvalidInput for the caller's tools that are not usable: names twice, wrong schemas.

    ``own`` are the tools that the agent has itself.
    """
    found = list[Violation]()
    names = set[str]()
    for index, tool in enumerate(tools):
        if tool.name in names:
            found.append(Violation(f"/tools/{index}/name", f"names {tool.name} a second time"))
        if tool.name in own:
            text = f"is {tool.name}, a tool of the agent itself; choose another name"
            found.append(Violation(f"/tools/{index}/name", text))
        names.add(tool.name)
        found += schema_violations(tool.parameters, ("tools", index, "parameters"))
        if tool.parameters.get("type") != "object":
            at = f"/tools/{index}/parameters/type"
            found.append(Violation(at, "must be object: arguments are one"))
    if found:
        _refuse(found)


def require_storable_answer(answer: Mapping[str, Any]) -> None:
    """Raise InvalidInput for an answer that cannot be stored, or is larger than an input."""
    if found := storable_violations(answer):
        _refuse(found)
    for name, value in answer.items():
        size = len(orjson.dumps(value))
        if size > MAX_INPUT_BYTES:
            _refuse([Violation(f"/{name}", f"has {size:,} bytes of at most {MAX_INPUT_BYTES:,}")])


def _require_fit(document: Any, schema: Mapping[str, Any]) -> None:
    found = violations_against(compile_schema(schema), document)
    if found:
        _refuse([Violation("/input" + v.pointer, v.message) for v in found])


def _parse_blocks(document: list[Any], config: AgentConfig) -> list[TextBlock | MediaBlock]:
    try:
        blocks = _BLOCKS.validate_python(document)
    except ValidationError as error:
        _refuse([Violation(_place_of(e["loc"]), str(e["msg"])) for e in error.errors()])
    entry = find_model(config.model.provider, config.model.name)
    if entry is None:  # nothing is known of what it takes: its provider's answer decides
        return blocks
    refused = [
        Violation(f"/input/{index}", f"{entry.identifier} takes no {block.type} blocks")
        for index, block in enumerate(blocks)
        if isinstance(block, MediaBlock) and block.type not in entry.capabilities
    ]
    if refused:
        _refuse(refused)
    return blocks


def _place_of(location: Sequence[str | int]) -> str:
    # Pydantic names the union's member after the index; a pointer has no such part.
    return "/input" + pointer([p for i, p in enumerate(location) if i != 1])


def _refuse(violations: list[Violation]) -> NoReturn:
    places = ", ".join(violation.pointer for violation in violations[:5])
    raise InvalidInput(
        f"The input is not valid at {places}: {violations[0].message}.",
        violations=[violation.as_json() for violation in violations],
    )
