"""Whether the models that a configuration names will do what it asks of them (AGT-2, MOD-3). Pure.

Works on the document as it came, because all violations are told at once: what has the wrong type
is skipped here, for the shape's own check has told it. ``connected`` are always the providers that
the installation can reach beside the simulated one.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from chargehand.catalog.entries import Capability, ModelEntry, Parameter
from chargehand.catalog.models import find_model, simulated_models
from chargehand.catalog.providers import SIMULATED, VENDORS, not_connected
from chargehand.kernel.errors import Violation, pointer
from chargehand.web.suggestions import did_you_mean

_PARAMETERS = (
    "temperature",
    "max_tokens",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "seed",
    "reasoning_effort",
    "extra",
)

_At = tuple[str | int, ...]


def model_violations(
    config: Mapping[str, Any], at: _At, connected: Collection[str]
) -> Iterator[Violation]:
    """What the configuration's models cannot do; ``at`` is where the configuration stands."""
    model = config.get("model")
    if isinstance(model, dict):
        where = (*at, "model")
        yield from _existence(model, where, connected)
        if entry := _entry(model):
            for name, problem in _problems(_given(model), entry):
                yield Violation(pointer((*where, name)), f"{entry.identifier} {problem}")
            for field, words in _lacking(config, entry):
                yield Violation(pointer((*at, field)), f"{entry.identifier} {words}")
    for index, fallback in _fallbacks(config):
        where = (*at, "fallback_models", index)
        missing = tuple(_existence(fallback, where, connected))
        yield from missing
        if not missing and isinstance(model, dict):
            for problem in _fallback_problems(config, model, index, fallback):
                yield Violation(pointer(where), problem)


def model_warnings(
    config: Mapping[str, Any], at: _At, connected: Collection[str]
) -> Iterator[Violation]:
    """What is allowed and worth knowing: a model without an entry, or without a price."""
    model = config.get("model")
    named: list[tuple[_At, Mapping[str, Any]]] = []
    if isinstance(model, dict):
        named.append(((*at, "model", "name"), model))
    named += [((*at, "fallback_models", i, "name"), one) for i, one in _fallbacks(config)]
    for where, one in named:
        if not any(_existence(one, where, connected)) and (warning := _warning(one)):
            yield Violation(pointer(where), warning)


def _warning(model: Mapping[str, Any]) -> str | None:
    provider, name = model.get("provider"), model.get("name")
    if not isinstance(provider, str) or not isinstance(name, str):
        return None
    entry = find_model(provider, name)
    if entry is None:
        return (
            f"{provider}:{name} is not in the catalogue: its limits and what it takes are "
            "unknown, and its price too, so its runs are shown as unpriced"
        )
    return None if entry.prices else f"{entry.identifier} has no price: its runs are unpriced"


def _fallbacks(config: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    fallbacks = config.get("fallback_models")
    if not isinstance(fallbacks, list):
        return []
    return [(index, one) for index, one in enumerate(fallbacks) if isinstance(one, dict)]


def _existence(
    model: Mapping[str, Any], at: _At, connected: Collection[str]
) -> Iterator[Violation]:
    """Why there is no such model here; an unknown model of a vendor may exist (SPEC MOD-3)."""
    provider, name = model.get("provider"), model.get("name")
    if not isinstance(provider, str):
        return
    if problem := not_connected(provider, connected):
        yield Violation(pointer((*at, "provider")), _with_hint(problem, provider, connected))
    elif isinstance(name, str) and provider == SIMULATED and find_model(provider, name) is None:
        hint = did_you_mean(name, [entry.name for entry in simulated_models()])
        yield Violation(pointer((*at, "name")), f"unknown simulated model {name!r}{hint}")


def _with_hint(problem: str, provider: str, connected: Collection[str]) -> str:
    if provider in VENDORS:
        return problem
    here = ", ".join(sorted({SIMULATED, *connected}))
    hint = did_you_mean(provider, (SIMULATED, *VENDORS))
    return f"{problem}{hint}; this installation has {here}"


def _entry(model: Mapping[str, Any]) -> ModelEntry | None:
    provider, name = model.get("provider"), model.get("name")
    if isinstance(provider, str) and isinstance(name, str):
        return find_model(provider, name)
    return None


def _given(model: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are set; an empty list or object sets nothing."""
    return {name: model[name] for name in _PARAMETERS if model.get(name) not in (None, [], {})}


def _problems(given: Mapping[str, Any], entry: ModelEntry) -> Iterator[tuple[str, str]]:
    """The parameters that the model refuses, each with why."""
    for name, value in given.items():
        parameter = entry.parameters.get(name)
        if parameter is None:
            yield name, f"takes no {name}; leave it out"
        elif refused := _refused(parameter, name, value):
            yield name, refused
    for name in sorted(entry.excludes.keys() & given.keys()):
        for other in sorted(entry.excludes[name] & given.keys()):
            yield other, f"takes no {other} together with {name}; leave one of them out"
    budget = _budget(given, entry)
    most = given.get("max_tokens")
    if budget is not None and isinstance(most, int) and most <= budget:
        effort = given["reasoning_effort"]
        yield "max_tokens", f"takes more than {budget} with reasoning_effort {effort}, not {most}"


def _refused(parameter: Parameter, name: str, value: Any) -> str | None:
    if parameter.choices and isinstance(value, str) and value not in parameter.choices:
        return f"takes {' or '.join(parameter.choices)} as {name}, not {value}"
    if parameter.kind == "strings" and isinstance(value, list):
        broken = _bound_broken(parameter, len(value))
        return broken and f"takes {broken} of {name}, not {len(value)}"
    broken = _bound_broken(parameter, value)
    return broken and f"takes {broken}, not {value}"


def _bound_broken(parameter: Parameter, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if parameter.maximum is not None and value > parameter.maximum:
        return f"at most {_plain(parameter.maximum)}"
    if parameter.minimum is not None and value < parameter.minimum:
        return f"at least {_plain(parameter.minimum)}"
    return None


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _budget(given: Mapping[str, Any], entry: ModelEntry) -> int | None:
    effort = given.get("reasoning_effort")
    return entry.budgets.get(effort) if isinstance(effort, str) else None


def _lacking(config: Mapping[str, Any], entry: ModelEntry) -> Iterator[tuple[str, str]]:
    """The fields that ask for what the model cannot do, each with words for it."""
    for field, feature, words in _FEATURES:
        if config.get(field) and feature not in entry.capabilities:
            yield field, words


_FEATURES: tuple[tuple[str, Capability, str], ...] = (
    ("capabilities", "tools", "calls no tools; leave capabilities out, or take another model"),
    (
        "output_schema",
        "structured_output",
        "gives no structured output; leave output_schema out, or take another model",
    ),
)


def _fallback_problems(
    config: Mapping[str, Any], model: Mapping[str, Any], index: int, fallback: Mapping[str, Any]
) -> Iterator[str]:
    """Why this fallback cannot stand in for the model; an unknown one may be able to."""
    provider, name = fallback.get("provider"), fallback.get("name")
    if not isinstance(provider, str) or not isinstance(name, str):
        return
    earlier = [one for i, one in _fallbacks(config) if i < index]
    if any((one.get("provider"), one.get("name")) == (provider, name) for one in (model, *earlier)):
        yield f"{provider}:{name} is asked before already"
        return
    if provider == SIMULATED and model.get("provider") in VENDORS:
        yield "a real model never falls back to a simulated one"
    if refused := list(_not_carried_over(config, model, fallback)):
        yield f"{provider}:{name} {', and '.join(refused)}"


def _not_carried_over(
    config: Mapping[str, Any], model: Mapping[str, Any], fallback: Mapping[str, Any]
) -> Iterator[str]:
    """Parameters carry over to a fallback, max_tokens capped to its limit (SPEC MOD-4)."""
    given = _given(model)
    given.pop("max_tokens", None)
    if given.pop("extra", None) is not None and fallback.get("provider") != model.get("provider"):
        yield f"takes no extra that is meant for {model.get('provider')}"
    if entry := _entry(fallback):
        yield from (problem.partition(";")[0] for _, problem in _problems(given, entry))
        yield from (f"takes no {field}" for field, _ in _lacking(config, entry))
