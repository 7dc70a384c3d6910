"""The client that blocks: every noun of the API over one connection."""

from typing import Self

from chargehand_client.profiles import resolved
from chargehand_client.sync.agents import Agents
from chargehand_client.sync.catalog import Catalog
from chargehand_client.sync.runs import Runs
from chargehand_client.sync.tenancy import Tenancy


class Chargehand(Runs, Agents, Tenancy, Catalog):
    """A connection to one Chargehand, with one key.

    ``url`` and ``key`` default to those of ``profile`` in ``~/.config/chargehand/profiles.toml``,
    then to ``CHARGEHAND_URL`` and ``CHARGEHAND_KEY``, then to the profile ``CHARGEHAND_PROFILE`` or
    ``default``; raises NotConfigured where one is missing or cannot be used. Every method raises
    ApiError (by code) for what the service refuses, ArgumentRefused for what cannot be sent at all,
    and Unreachable where the service does not answer ``tries`` times in a row (8: about 12 s; at
    first 3). A request that may have arrived is sent again only where that is safe: reads, and
    runs, which carry an idempotency key.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        profile: str | None = None,
        tries: int = 8,
    ) -> None:
        super().__init__(*resolved(url, key, profile), tries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
