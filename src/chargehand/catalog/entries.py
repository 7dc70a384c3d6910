"""What the catalogue says of one model: limits, capabilities, parameters, prices (MOD-3). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from chargehand.catalog.pricing import Price

Capability = Literal["streaming", "tools", "structured_output", "image", "pdf", "file"]
"""What a model can do; the last three are the blocks of an input that it takes. ``file`` is a text
file: which further kinds of document it reads is the vendor's answer."""

DEFAULT_TEMPERATURE = 0.7
DEFAULT_MAX_TOKENS = 2000
THINKING_MAX_TOKENS = 16_000
"""The default where a model thinks: its thinking counts against max_tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter that a model takes.

    Bounds are inclusive (of ``strings``, how many there may be); None is no bound. ``choices`` are
    the values of a ``choice``. ``default`` is what a configuration that leaves it out gets; None
    sends nothing.
    """

    kind: Literal["number", "integer", "strings", "choice", "object"]
    minimum: float | None = None
    maximum: float | None = None
    default: float | int | None = None
    choices: tuple[str, ...] = ()


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of one provider. Limits count tokens, None is unknown; no prices is *unpriced*.

    ``parameters`` is keyed by the configuration's names; what is not in it the model refuses.
    ``excludes`` names, for a parameter, those that the model refuses beside it. ``budgets`` are
    the thinking tokens that a reasoning effort asks for where a vendor wants ``max_tokens`` to be
    more than that.
    """

    provider: str
    name: str
    context_window: int | None
    max_output_tokens: int | None
    capabilities: frozenset[Capability]
    parameters: Mapping[str, Parameter]
    excludes: Mapping[str, frozenset[str]] = field(default_factory=_nothing)
    budgets: Mapping[str, int] = field(default_factory=_nothing)
    prices: tuple[Price, ...] = ()

    @property
    def identifier(self) -> str:
        return f"{self.provider}:{self.name}"

    def defaults(self, given: Mapping[str, Any]) -> dict[str, float | int]:
        """What is sent for the parameters that ``given`` (name → value) leaves out."""
        excluded = {name for one in given for name in self.excludes.get(one, ())}
        defaults = {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if parameter.default is not None and name not in excluded and name not in given
        }
        if "max_tokens" in defaults and given.get("reasoning_effort") is not None:
            wanted = max(THINKING_MAX_TOKENS, self._budget(given) + DEFAULT_MAX_TOKENS)
            defaults["max_tokens"] = min(wanted, self.max_output_tokens or wanted)
        return defaults

    def settings(self, given: Mapping[str, Any], tokens_left: int) -> dict[str, Any]:
        """The parameters of a call: what is given, else the defaults, within the tokens left.

        Where these do not hold the thinking that is asked for, none is: the vendor would refuse.
        """
        settings = {**self.defaults(given), **given}
        limit = self.parameters.get("max_tokens")
        if limit is not None and "max_tokens" in settings:
            room = max(int(limit.minimum or 1), tokens_left)
            settings["max_tokens"] = min(settings["max_tokens"], room)
            if settings["max_tokens"] <= self._budget(given):
                del settings["reasoning_effort"]
        return settings

    def _budget(self, given: Mapping[str, Any]) -> int:
        return self.budgets.get(given.get("reasoning_effort", ""), 0)
