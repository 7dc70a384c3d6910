"""Connections that stay open: each ends when its key would not let it in any more (SPEC TEN-3)."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime

import structlog

from chargehand.kernel.clock import now
from chargehand.kernel.database import TROUBLES, Database
from chargehand.kernel.identifiers import KeyId
from chargehand.tenancy.caller import Caller

CHECK_S = 1.0
TRUSTED_S = 4.0
"""How long connections stay open while their keys cannot be checked."""

_FIND = """
select k.id, k.scopes, m.role
  from api_keys k
  join memberships m on m.organization_id = k.organization_id and m.user_id = k.user_id
 where k.id = any($1::uuid[]) and k.revoked_at is null and k.expires_at > now()
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    caller: Caller
    expires_at: datetime | None
    refuse: Callable[[], None]


class OpenConnections:
    """All of this process, checked each second in one query.

    A key that was revoked or has expired, a user who has left, and other rights than those with
    which the connection was let in, end it: whoever may still come in comes back.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[KeyId, set[_Open]] = {}
        self._checking: asyncio.Task[None] | None = None
        self._checked_at = time.monotonic()

    def start(self) -> None:
        self._checking = asyncio.create_task(self._check_for_ever())

    async def stop(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking})

    @contextlib.contextmanager
    def kept(
        self, caller: Caller, refuse: Callable[[], None], expires_at: datetime | None = None
    ) -> Generator[None]:
        """While the context lasts, ``refuse`` is called once it is to end."""
        connection = _Open(caller, expires_at, refuse)
        of_key = self._open.setdefault(caller.key_id, set())
        of_key.add(connection)
        try:
            yield
        finally:
            of_key.discard(connection)
            if not of_key:
                self._open.pop(caller.key_id, None)

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                async with asyncio.timeout(TRUSTED_S):
                    await self._check()
                self._checked_at = time.monotonic()
            except (TimeoutError, *TROUBLES) as error:
                log.warning("open_connections_not_checked", error=str(error))
                if time.monotonic() - self._checked_at > TRUSTED_S:
                    self._refuse(lambda _: True)

    async def _check(self) -> None:
        if not self._open:
            return
        asked = set(self._open)
        rows = await self._database.system.fetch(_FIND, list(asked))
        rights = {row["id"]: (row["role"], frozenset(row["scopes"])) for row in rows}
        at = now()
        self._refuse(
            lambda open_: (
                (open_.expires_at is not None and at >= open_.expires_at)
                or (
                    open_.caller.key_id in asked
                    and rights.get(open_.caller.key_id) != (open_.caller.role, open_.caller.scopes)
                )
            )
        )

    def _refuse(self, is_refused: Callable[[_Open], bool]) -> None:
        for of_key in list(self._open.values()):
            for connection in [c for c in of_key if is_refused(c)]:
                connection.refuse()
