"""From an API key to its caller: one query, kept for a few seconds."""

import asyncio
import hmac
import math
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import structlog

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.kernel.errors import Unavailable
from chargehand.kernel.identifiers import KeyId
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.key_format import KeyRefused, PresentedKey, parse
from chargehand.tenancy.tiers import Tiers

USE_WRITTEN_EVERY_S = 60

_SELECT = """
select k.id, k.organization_id, k.user_id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at,
       o.tier, m.role
  from api_keys k
  join organizations o on o.id = k.organization_id
  left join memberships m on m.organization_id = k.organization_id and m.user_id = k.user_id
"""
_FIND = f"{_SELECT} where k.public_id = $1"
_FIND_BY_ID = f"{_SELECT} where k.id = $1"

# Other processes write it too: whoever is first within the minute spares the rest a row version
_WRITE_USE = """
update api_keys set last_used_at = now()
 where id = $1 and (last_used_at is null or last_used_at < now() - make_interval(secs => $2))
"""

_DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

log = structlog.get_logger()
Key = TypeVar("Key")
Value = TypeVar("Value")


class KeysUnavailable(Unavailable):
    """A key could not be looked up, so nobody new can be let in."""

    code = "DatabaseUnavailable"


@dataclass(frozen=True, slots=True)
class _Known:
    """``fresh_until`` is on the monotonic clock, in seconds."""

    caller: Caller
    expires_at: datetime
    fresh_until: float


class KeyCache:
    """Callers by key, for one process.

    A positive answer is used for at most ``ttl_s`` counted from *before* its lookup began, and a
    lookup may take no longer than that: a revocation is obeyed within ``ttl_s`` of its commit, plus
    the request that is under way. Refusals are not kept. Close it before the database.
    """

    def __init__(
        self, database: Database, tiers: Tiers, ttl_s: float = 4.0, max_entries: int = 10_000
    ) -> None:
        self._system = database.system
        self._tiers = tiers
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._known: dict[PresentedKey, _Known] = {}
        self._lookups: dict[PresentedKey, asyncio.Task[_Known]] = {}
        self._used_at: dict[KeyId, float] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def caller_of(self, token: str) -> Caller:
        """Who holds this key. Raises KeyRefused or KeysUnavailable."""
        presented = parse(token)
        known = self._known.get(presented)
        if known is None or time.monotonic() >= known.fresh_until:
            known = await self._shared_lookup(presented)
        _refuse_expired(known.expires_at)
        self._note_use(known.caller.key_id)
        return known.caller

    async def holder_of(self, key_id: KeyId) -> Caller:
        """Who holds the key with this id, asked anew. Raises KeyRefused or KeysUnavailable."""
        row = await self._find(_FIND_BY_ID, key_id)
        if row is None:
            raise _unknown()
        caller = _caller_of(row, self._tiers)
        _refuse_expired(row["expires_at"])
        return caller

    async def forget(self, public_id: str) -> None:
        """Ask the database again for this key; call it once a change of the key is committed."""
        lookups = [task for key, task in self._lookups.items() if key.public_id == public_id]
        if lookups:  # they may have read what was before the change, and would keep it
            await asyncio.wait(lookups)
        for presented in [key for key in self._known if key.public_id == public_id]:
            del self._known[presented]

    async def close(self) -> None:
        """Wait until the last uses are written."""
        await asyncio.gather(*self._writes)

    async def _shared_lookup(self, presented: PresentedKey) -> _Known:
        """One lookup for all who ask at once; it outlives the request that began it."""
        task = self._lookups.get(presented)
        if task is None:
            task = asyncio.create_task(self._look_up(presented))
            self._lookups[presented] = task
            task.add_done_callback(lambda _: self._lookups.pop(presented))
        return await asyncio.shield(task)

    async def _look_up(self, presented: PresentedKey) -> _Known:
        started = time.monotonic()
        row = await self._find(_FIND, presented.public_id)
        # Only to who knows the secret do we say more than "unknown".
        if row is None or not hmac.compare_digest(row["secret_hash"], presented.secret_hash):
            raise _unknown()
        caller = _caller_of(row, self._tiers)
        known = _Known(caller, row["expires_at"], started + self._ttl_s)
        _put(self._known, presented, known, self._max_entries)
        return known

    async def _find(self, query: str, identifier: str | KeyId) -> Any:
        try:
            async with asyncio.timeout(self._ttl_s):
                return await self._system.fetchrow(query, identifier)
        except _DATABASE_ERRORS as error:
            raise KeysUnavailable(
                "The API key cannot be checked: the database does not answer. Try again shortly.",
                retry_after_s=1,
            ) from error

    def _note_use(self, key_id: KeyId) -> None:
        used_at = time.monotonic()
        if used_at - self._used_at.get(key_id, -math.inf) < USE_WRITTEN_EVERY_S:
            return
        _put(self._used_at, key_id, used_at, self._max_entries)
        task = asyncio.create_task(self._write_use(key_id))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write_use(self, key_id: KeyId) -> None:
        try:
            await self._system.execute(_WRITE_USE, key_id, float(USE_WRITTEN_EVERY_S))
        except _DATABASE_ERRORS as error:
            log.warning("key_use_not_written", key_id=str(key_id), error=str(error))


def _unknown() -> KeyRefused:
    return KeyRefused(
        "The API key is not known here. Check that it is the key of this installation, or ask "
        "an admin of your organization for a new one.",
        "unknown",
    )


def _caller_of(row: Any, tiers: Tiers) -> Caller:
    """The caller of a key's row."""
    if row["revoked_at"] is not None:
        raise KeyRefused(
            f"The API key was revoked on {_day(row['revoked_at'])}. Use another one, or ask an "
            "admin of your organization for a new one.",
            "revoked",
        )
    if row["role"] is None:
        raise KeyRefused(
            "The API key's user is no longer a member of its organization. Ask an admin of the "
            "organization to add the user again.",
            "no_member",
        )
    return Caller(
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        key_id=row["id"],
        role=row["role"],
        scopes=frozenset(row["scopes"]),
        tier=tiers.of(row["tier"]),
    )


def _refuse_expired(expires_at: datetime) -> None:
    if now() >= expires_at:
        raise KeyRefused(
            f"The API key expired on {_day(expires_at)}. Make a new one with POST /api/v1/keys, "
            "or ask an admin of your organization for one.",
            "expired",
        )


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d at %H:%M} UTC"


def _put(into: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    """Set a value as the newest; of too many, the oldest goes."""
    into.pop(key, None)
    if len(into) >= limit:
        del into[next(iter(into))]
    into[key] = value
