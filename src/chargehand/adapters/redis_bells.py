"""Rings over Redis pub/sub (or Valkey's), instead of PostgreSQL's LISTEN and NOTIFY.

Redis holds nothing: what it loses, and all that is rung while it is away, the slow polls find.
Installations may share a server: a ring names a run, which only its own installation has.
"""

from collections.abc import Callable, Sequence
from typing import Any

from chargehand.kernel.bells import OnPayload, WireBroken
from chargehand.kernel.errors import Invalid

_ANSWER_S = 5


class RedisWire:
    """See ``kernel.bells.Wire``. Raises Invalid where the package ``redis`` is not installed."""

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise Invalid(
                "REDIS_URL is set, and the Python package redis is not installed. Install it with "
                "`pip install 'chargehand[redis]'`, or unset REDIS_URL: rings then go over "
                "PostgreSQL.",
                code="InvalidSettings",
            ) from error
        self._troubles = (RedisError, OSError)
        # Without retries: the listener must know of each interruption, for rings are lost in it.
        over_tcp: dict[str, Any] = {"socket_keepalive": True, "socket_connect_timeout": _ANSWER_S}
        self._redis: Any = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            **({} if url.startswith("unix:") else over_tcp),
        )

    async def send(self, channel: str, payloads: Sequence[str]) -> None:
        try:
            await self._redis.publish(channel, "\n".join(payloads))
        except self._troubles as error:
            raise WireBroken(f"Redis: {error}") from error

    async def listen(
        self, channels: Sequence[str], on_payload: OnPayload, on_connect: Callable[[], None]
    ) -> None:
        try:
            async with self._redis.pubsub() as subscription:
                await subscription.subscribe(*channels)
                await self._hand_over(subscription, len(channels), on_payload, on_connect)
        except self._troubles as error:
            raise WireBroken(f"Redis: {error}") from error

    async def close(self) -> None:
        await self._redis.aclose()

    async def _hand_over(
        self,
        subscription: Any,
        unconfirmed: int,
        on_payload: OnPayload,
        on_connect: Callable[[], None],
    ) -> None:
        while True:
            message = await subscription.get_message(timeout=None)
            if message is None:
                continue
            if message["type"] == "subscribe":
                unconfirmed -= 1
                if unconfirmed == 0:
                    on_connect()
            elif message["type"] == "message":
                for part in message["data"].split("\n"):
                    on_payload(message["channel"], part)
