"""The client for asyncio, driven so that it looks like the one that blocks: one set of tests."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Self

from chargehand_client import AsyncChargehand


class Awaited:
    """Anything asynchronous: its coroutines are run to their end, its iterators step by step."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        return lambda *given, **named: self._plain(value(*given, **named))

    def __iter__(self) -> Iterator[Any]:
        return self._items(self._inner)

    def _plain(self, result: Any) -> Any:
        if inspect.iscoroutine(result):
            return self._runner.run(result)
        if hasattr(result, "__aenter__"):
            return self._context(result)
        return self._items(result) if hasattr(result, "__aiter__") else result

    def _items(self, iterable: Any) -> Iterator[Any]:
        iterator = aiter(iterable)

        async def step() -> Any:
            return await anext(iterator, None)

        while (item := self._runner.run(step())) is not None:
            yield item

    @contextmanager
    def _context(self, context: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
        async def enter() -> Any:
            return await context.__aenter__()

        async def leave() -> None:
            await context.__aexit__(None, None, None)

        inner = self._runner.run(enter())
        try:
            yield Awaited(inner, self._runner)
        finally:
            self._runner.run(leave())


class AwaitedChargehand(Awaited):
    """AsyncChargehand with the methods of Chargehand."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(AsyncChargehand(*given, **named), asyncio.Runner())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._runner.close()
