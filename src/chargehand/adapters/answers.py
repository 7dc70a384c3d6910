"""HTTP answers on their way: ended when they fall silent, and when nobody wants them any more."""

import asyncio
from collections.abc import AsyncIterator

import httpx2


class OpenAnswers:
    """The answers that one httpx2 client is reading, by the call that each belongs to.

    ``watch`` is a response hook of the client. ``id_header`` names the request header that holds a
    call's id. Reading a body raises httpx2.ReadTimeout after ``idle_timeout_s`` without a byte: a
    vendor that keeps a stream alive while its model thinks is not silent. The wait for an answer's
    head is not watched: it belongs to the time limit of the call as a whole.
    """

    def __init__(self, id_header: str, idle_timeout_s: float) -> None:
        self._id_header = id_header
        self._idle_timeout_s = idle_timeout_s
        self._open: dict[str, httpx2.Response] = {}

    async def watch(self, response: httpx2.Response) -> None:
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        response.stream = _Watched(stream, self._idle_timeout_s)
        if call_id := response.request.headers.get(self._id_header):
            self._open[call_id] = response

    async def close(self, call_id: str) -> None:
        """Close the connection of an answer that was not read to its end; do nothing for others.

        Not every SDK does so when its stream is left, and the vendor would go on, and bill it.
        """
        response = self._open.pop(call_id, None)
        if response is not None:
            await response.aclose()


class _Watched(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, idle_timeout_s: float) -> None:
        self._stream = stream
        self._idle_timeout_s = idle_timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    chunk = await anext(chunks, None)
            except TimeoutError as error:
                reason = f"nothing came for {self._idle_timeout_s:g} s"
                raise httpx2.ReadTimeout(reason) from error
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
