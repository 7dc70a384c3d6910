"""A Mercure hub: one POST per update, private (https://mercure.rocks/spec, "Publication")."""

from datetime import timedelta
from urllib.parse import urlencode

import aiohttp
import jwt

from chargehand.executions.publications import Update
from chargehand.executions.publishing import AT_ONCE, HubTrouble
from chargehand.kernel.clock import now

ANSWER_S = 10.0
TOKEN_LIFE = timedelta(minutes=5)
"""Longer than a clock is wrong; each update gets a token of its own."""


class Mercure:
    """See ``publishing.Hub``. Make it inside a running loop."""

    def __init__(self, url: str, secret: str, *, answer_s: float = ANSWER_S) -> None:
        self._url = url
        self._secret = secret.encode()
        self._answer_s = answer_s
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE),
            timeout=aiohttp.ClientTimeout(total=answer_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def publish(self, update: Update) -> None:
        await self._post(
            [
                *(("topic", topic) for topic in update.topics),
                ("data", update.data),
                ("id", update.id),
                ("type", update.type),
            ]
        )

    async def check(self) -> None:
        """Publish what nobody follows. Raises HubTrouble."""
        await self._post([("topic", "urn:chargehand:doctor"), ("data", "{}")])

    async def close(self) -> None:
        await self._http.close()

    async def _post(self, fields: list[tuple[str, str]]) -> None:
        try:
            status = await self._status(urlencode([*fields, ("private", "on")]).encode())
        except TimeoutError as error:
            raise HubTrouble(
                "slow",
                f"It has not answered within {self._answer_s:g} s.",
                "Look at the hub's load, and at the network from here to MERCURE_URL.",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise HubTrouble(
                "unreachable",
                f"It cannot be reached: {error}",
                "Start the hub, or correct MERCURE_URL.",
            ) from error
        if not 200 <= status < 300:
            raise _refusal(status)

    async def _status(self, body: bytes) -> int:
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        # A redirected POST becomes a GET, whose 200 would say nothing.
        async with self._http.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status

    def _token(self) -> str:
        claims = {"mercure": {"publish": ["*"]}, "exp": now() + TOKEN_LIFE}
        return jwt.encode(claims, self._secret, algorithm="HS256")


def _refusal(status: int) -> HubTrouble:
    """What the hub says is not told: it may repeat our token."""
    answered = f"It answers {status}."
    if status in (401, 403):
        return HubTrouble(
            "unauthorized",
            f"{answered} It does not let us publish.",
            "MERCURE_JWT_SECRET must be the hub's publisher key, its algorithm HS256, and the "
            "clocks of both machines right.",
        )
    if 300 <= status < 400:
        remedy = "MERCURE_URL must be the publish address itself, not one that redirects to it."
        return HubTrouble("redirected", answered, remedy)
    if 400 <= status < 500 and status not in (408, 429):
        return HubTrouble(
            "refused",
            f"{answered} It refuses an update, and those behind it wait.",
            "MERCURE_URL must be the hub's publish address, as in "
            "https://hub.example/.well-known/mercure; look at the hub's log and its limits.",
        )
    return HubTrouble("failing", answered, "Look at the hub's log.")
