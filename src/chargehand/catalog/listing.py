"""Which of the known models an installation can use, filtered, in a fixed order (MOD-3). Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from chargehand.catalog.entries import Capability, ModelEntry
from chargehand.catalog.providers import SIMULATED, VENDORS


def providers(connected: Collection[str]) -> tuple[str, ...]:
    """Every provider that there is, in the order in which they are shown.

    Beside the simulator and the vendors there may be what an installation adds of its own.
    """
    own = sorted(set(connected) - {SIMULATED, *VENDORS})
    return (SIMULATED, *VENDORS, *own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a model must have; None asks for nothing. ``text`` is sought in ``provider:name``."""

    provider: str | None = None
    text: str | None = None
    capability: Capability | None = None

    def let_through(self, entry: ModelEntry) -> bool:
        return (
            self.provider in (None, entry.provider)
            and (self.text is None or self.text.casefold() in entry.identifier.casefold())
            and (self.capability is None or self.capability in entry.capabilities)
        )


def usable(
    known: Iterable[ModelEntry],
    connected: Collection[str],
    filters: Filters,
    *,
    after: str | None,
) -> list[ModelEntry]:
    """The simulator's models and those of the providers that are connected, by identifier.

    Only those behind the identifier ``after``, where one is given.
    """
    here = {SIMULATED, *connected}
    found = (entry for entry in known if entry.provider in here and filters.let_through(entry))
    behind = (entry for entry in found if after is None or entry.identifier > after)
    return sorted(behind, key=lambda entry: entry.identifier)
