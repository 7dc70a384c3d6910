"""Who calls, the organization's keys and its members."""

from collections.abc import AsyncIterator, Sequence

from chargehand_client.aio.connection import AsyncConnection
from chargehand_client.calls import tenancy as calls
from chargehand_client.documents import Key, Me, Member, NewKey


class AsyncTenancy(AsyncConnection):
    async def me(self) -> Me:
        """Who this key is: organization, user, role, scopes."""
        return await self._call(calls.me())

    def keys(self) -> AsyncIterator[Key]:
        """The keys that this key may see, newest first; never their secrets."""
        return self._list(calls.keys())

    async def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires_in_days: int = 90,
        user_id: str | None = None,
    ) -> NewKey:
        """Make a key for oneself, or as an admin for a member.

        Its text is ``key`` in the answer, this once. Raises InvalidInput, MemberNotFound,
        InsufficientPermissions.
        """
        return await self._call(calls.create_key(name, scopes, expires_in_days, user_id))

    async def revoke_key(self, key_id: str) -> Key:
        """Revoke a key; revoking it again changes nothing. Raises KeyNotFound."""
        return await self._call(calls.revoke_key(key_id))

    def members(self) -> AsyncIterator[Member]:
        """The members of the organization, for its admins. Raises InsufficientPermissions."""
        return self._list(calls.members())
