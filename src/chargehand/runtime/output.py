"""The output of a run, checked against the agent's output schema (SPEC EXE-2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart

from chargehand.agents.jsonschema import compile_schema, violations_against
from chargehand.kernel.errors import Violation
from chargehand.runtime.history import text_of


def check_output(
    response: ModelResponse, schema: Mapping[str, Any] | None
) -> tuple[Any, list[Violation]]:
    """The output and what is wrong with it: text without a schema, else JSON that fits it."""
    text = text_of(response)
    if schema is None:
        return text, []
    try:
        output = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return text, [Violation("", f"is not JSON: {error}")]
    return output, violations_against(compile_schema(schema), output)


def repair_request(violations: Sequence[Violation]) -> ModelRequest:
    """What the model is told, once, when its output does not fit."""
    lines = [f"- at {v.pointer or 'the top'}: {v.message}" for v in violations[:20]]
    text = "\n".join(
        [
            "Your answer does not fit the output schema that was asked for:",
            *lines,
            "Answer again with nothing but JSON that fits it.",
        ]
    )
    return ModelRequest(parts=[UserPromptPart(text)])
