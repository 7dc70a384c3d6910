"""The client for asyncio: every noun of the API over one connection."""

from typing import Self

from chargehand_client.aio.agents import AsyncAgents
from chargehand_client.aio.catalog import AsyncCatalog
from chargehand_client.aio.runs import AsyncRuns
from chargehand_client.aio.tenancy import AsyncTenancy
from chargehand_client.profiles import resolved


class AsyncChargehand(AsyncRuns, AsyncAgents, AsyncTenancy, AsyncCatalog):
    """``Chargehand`` for asyncio: the same methods, to be awaited; lists and streams by
    ``async for``."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        profile: str | None = None,
        tries: int = 8,
    ) -> None:
        super().__init__(*resolved(url, key, profile), tries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
