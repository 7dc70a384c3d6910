"""Who calls, the organization's keys and its members."""

from collections.abc import Iterator, Sequence

from chargehand_client.calls import tenancy as calls
from chargehand_client.documents import Key, Me, Member, NewKey
from chargehand_client.sync.connection import Connection


class Tenancy(Connection):
    def me(self) -> Me:
        """Who this key is: organization, user, role, scopes."""
        return self._call(calls.me())

    def keys(self) -> Iterator[Key]:
        """The keys that this key may see, newest first; never their secrets."""
        return self._list(calls.keys())

    def create_key(
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
        return self._call(calls.create_key(name, scopes, expires_in_days, user_id))

    def revoke_key(self, key_id: str) -> Key:
        """Revoke a key; revoking it again changes nothing. Raises KeyNotFound."""
        return self._call(calls.revoke_key(key_id))

    def members(self) -> Iterator[Member]:
        """The members of the organization, for its admins. Raises InsufficientPermissions."""
        return self._list(calls.members())
