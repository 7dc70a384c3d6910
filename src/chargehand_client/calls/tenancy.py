"""Who calls, the organization's keys and its members. Pure."""

from collections.abc import Sequence

from chargehand_client.documents import Key, Me, Member, NewKey
from chargehand_client.requests import Call, Listing, delete, get, given_of, pages, post


def me() -> Call[Me]:
    return get("me")


def keys() -> Listing[Key]:
    return pages("keys")


def create_key(
    name: str, scopes: Sequence[str], expires_in_days: int, user_id: str | None
) -> Call[NewKey]:
    body = {"name": name, "scopes": list(scopes), "expires_in_days": expires_in_days}
    return post("keys", body=body | given_of({"user_id": user_id}))


def revoke_key(key_id: str) -> Call[Key]:
    return delete("keys", key_id, repeatable=True)


def members() -> Listing[Member]:
    return pages("members")
