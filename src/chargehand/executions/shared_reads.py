"""Reads that many followers want at once: one query for all, each row set read once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from chargehand.kernel.identifiers import OrganizationId

AT_ONCE = 50
"""Keys per query: with the size of a page it bounds what is held in memory at a time."""

Key = TypeVar("Key", bound=Hashable)
Page = TypeVar("Page")


class SharedReads(Generic[Key, Page]):
    """``fetch`` answers the keys of one organization, in their order, in one query.

    Keys that are asked for while a query runs wait together for the next one, so that a page is
    always read after it was asked for, and a thousand equal questions cost one.
    """

    def __init__(
        self, fetch: Callable[[OrganizationId, Sequence[Key]], Awaitable[Sequence[Page]]]
    ) -> None:
        self._fetch = fetch
        self._waiting: dict[OrganizationId, dict[Key, asyncio.Future[Page]]] = {}
        self._reading: dict[OrganizationId, asyncio.Task[None]] = {}

    async def read(self, organization: OrganizationId, key: Key) -> Page:
        """The page of ``key``. Raises what ``fetch`` raises."""
        waiting = self._waiting.setdefault(organization, {})
        if key not in waiting:
            waiting[key] = asyncio.get_running_loop().create_future()
        answer = waiting[key]
        if organization not in self._reading:
            self._reading[organization] = asyncio.create_task(self._read_all(organization))
        # Shielded: who goes away takes nobody else's answer along.
        return await asyncio.shield(answer)

    async def _read_all(self, organization: OrganizationId) -> None:
        try:
            while waiting := self._waiting.pop(organization, None):
                keys = list(waiting)
                for start in range(0, len(keys), AT_ONCE):
                    await self._answer(organization, keys[start : start + AT_ONCE], waiting)
        finally:
            del self._reading[organization]

    async def _answer(
        self,
        organization: OrganizationId,
        keys: Sequence[Key],
        waiting: Mapping[Key, asyncio.Future[Page]],
    ) -> None:
        reading = asyncio.ensure_future(self._fetch(organization, keys))
        await asyncio.wait(
            {reading}
        )  # does not raise what the reading does: each who asked gets it
        if (error := reading.exception()) is not None:
            for key in keys:
                waiting[key].set_exception(error)
            return
        for key, page in zip(keys, reading.result(), strict=True):
            waiting[key].set_result(page)
