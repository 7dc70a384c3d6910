"""Tokens that let a browser follow one topic for an hour without a key (SPEC EXE-10).

A token is a JWT, signed with the installation's own key, which only the system role reads. It names
its topic and the API key that it was made with, and lives no longer than that key.

Where another hub is set, the token is signed with that hub's key, and says in its words what it
opens. Our own hub takes it too; but the other one knows no API keys, and goes by the hour alone.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from chargehand.kernel.clock import now
from chargehand.kernel.database import TROUBLES, Database
from chargehand.kernel.identifiers import KeyId
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.key_format import KeyRefused
from chargehand.tenancy.keys import KeyCache, KeysUnavailable

LIFE = timedelta(hours=1)
AUDIENCE = "chargehand/hub"
_ALGORITHM = "HS256"
_CLAIMS = ("aud", "exp", "iat", "sub", "key", "topic")


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who may follow. ``topic`` is the only one that a token opens; None: the rights decide."""

    caller: Caller
    topic: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OtherHub:
    """A Mercure hub, and the key of its subscribers' tokens (HS256)."""

    url: str
    secret: bytes = field(repr=False)


class SubscriptionTokens:
    """Makes tokens, and lets in who holds one; nothing is kept, so any process can do either."""

    def __init__(
        self, database: Database, key_cache: KeyCache, other_hub: OtherHub | None = None
    ) -> None:
        self._database = database
        self._key_cache = key_cache
        self.other_hub = other_hub

    async def make(self, caller: Caller, topic: str) -> str:
        """A token for a topic that the caller has been found entitled to follow."""
        at = now()
        claims: dict[str, Any] = {
            "aud": AUDIENCE,
            "iat": at,
            "exp": at + LIFE,
            "sub": str(caller.user_id),
            "key": str(caller.key_id),
            "topic": topic,
        }
        if self.other_hub is not None:
            claims["mercure"] = {"subscribe": [topic]}
        return jwt.encode(claims, await self._signing_key(), algorithm=_ALGORITHM)

    async def admit(self, token: str) -> Admitted:
        """Who holds the token. Raises KeyRefused or KeysUnavailable."""
        claims = _claims(token, await self._signing_key())
        caller = await self._key_cache.holder_of(KeyId(claims["key"]))
        return Admitted(caller, claims["topic"], datetime.fromtimestamp(claims["exp"], UTC))

    async def _signing_key(self) -> bytes:
        if self.other_hub is not None:
            return self.other_hub.secret
        try:
            return await self._database.system.fetchval(
                "select secret from installation_secrets where name = 'subscription_tokens'"
            )
        except TROUBLES as error:
            raise KeysUnavailable(
                "Subscription tokens cannot be checked: the database does not answer. Try again "
                "shortly.",
                retry_after_s=1,
            ) from error


def _claims(token: str, signing_key: bytes) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            signing_key,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            options={"require": list(_CLAIMS)},
        )
    except jwt.ExpiredSignatureError:
        raise KeyRefused(
            "The subscription token has expired: they live for an hour. Have a new one made with "
            "POST /api/v1/executions/{id}/subscription-token or /api/v1/subscription-token.",
            "expired",
        ) from None
    except jwt.InvalidTokenError:
        raise KeyRefused(
            "This is not a subscription token of this installation. Have one made with "
            "POST /api/v1/executions/{id}/subscription-token or /api/v1/subscription-token.",
            "malformed",
        ) from None
