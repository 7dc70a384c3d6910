"""Sends requests and waits for their answers, in an asyncio loop."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import httpx2

from chargehand_client.connecting import (
    UNUSABLE,
    built,
    document_of,
    may_have_arrived,
    settings,
    unusable,
)
from chargehand_client.folders import receiving
from chargehand_client.requests import Call, Listing, Request
from chargehand_client.retries import Attempts

Result = TypeVar("Result")


class AsyncConnection:
    """What the nouns of ``aio`` are built on."""

    def __init__(self, url: str, key: str, tries: int) -> None:
        self.url = url
        self.tries = tries
        self._was_answered = False
        try:
            self._http = httpx2.AsyncClient(**settings(url, key))
        except UNUSABLE as error:
            raise unusable(error) from error

    async def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        await self._http.aclose()

    async def _call(self, call: Call[Result]) -> Result:
        return call.read(document_of(await self._send(call.request), self.url))

    async def _list(self, listing: Listing[Result]) -> AsyncIterator[Result]:
        request: Request | None = listing.first
        while request is not None:
            page = document_of(await self._send(request), self.url)
            for item in listing.items(page):
                yield listing.read(item)
            request = listing.next(page)

    async def _send(self, request: Request, *, stream: bool = False) -> httpx2.Response:
        """Send until it is answered well. Raises ApiError and Unreachable, see Attempts."""
        attempts = self._attempts(request)
        while True:
            try:
                response = await self._http.send(built(self._http, request), stream=stream)
            except httpx2.TransportError as error:
                delay_s = attempts.lost(error, arrived=may_have_arrived(error))
            else:
                self._was_answered = True
                if response.is_success:
                    return response
                delay_s = attempts.refused(response.status_code, await _whole(response))
            await asyncio.sleep(delay_s)

    async def _save(self, request: Request, to: Path) -> None:
        """Write the body of an answer to a file; begins anew where it breaks off."""
        attempts = self._attempts(request)
        while True:
            response = await self._send(request, stream=True)
            try:
                with receiving(to) as file:
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
                return
            except httpx2.TransportError as error:
                delay_s = attempts.lost(error, arrived=True)
            finally:
                await response.aclose()
            await asyncio.sleep(delay_s)

    def _attempts(self, request: Request) -> Attempts:
        return Attempts(request, self.url, self.tries, was_answered=self._was_answered)


async def _whole(response: httpx2.Response) -> bytes:
    """The body of an answer that may be a stream; one that breaks off counts as none."""
    try:
        return await response.aread()
    except httpx2.TransportError:
        return b""
    finally:
        await response.aclose()
