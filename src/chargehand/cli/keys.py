"""``keys``: of the service, or, for an operator who has no key, on its database."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chargehand.cli import admin, completion, options, output, reach

if TYPE_CHECKING:
    from chargehand_client import Chargehand
    from chargehand_client.documents import Key

keys = options.noun(
    "Make, list and revoke API keys.\n\nThrough the service, with your key; as an operator on the "
    "database itself, where --org or --data says so or no service is set."
)

Organization = Annotated[
    str | None,
    typer.Option(
        "--org",
        metavar="SLUG",
        help="The organization; works on the database, as an operator.",
        callback=output.utf8,
        show_default="on the database, default",
    ),
]


@options.command(keys, "list")
def list_(
    org: Organization = None,
    data: reach.Data = None,
    as_json: output.AsJson = False,
) -> None:
    """List the keys that you may see.

    Newest first; their secrets are stored nowhere.

    Example: chargehand keys list --org default
    """
    if _on_database(org, data):
        rows = admin.list_keys(data, org or admin.FIRST_ORGANIZATION)
    else:
        with options.service() as chargehand:
            rows = [_shown(one) for one in chargehand.keys()]  # noqa: SIM118 - no dictionary
    if as_json:
        output.print_document({"items": rows})
        return
    columns = ("id", "public_id", "name", "scopes", "expires_at", "state")
    output.print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


@options.command(keys)
def make(
    org: Organization = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="EMAIL",
            help="Whose key; else yours, or on the database the first owner's.",
            callback=output.utf8,
        ),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do; repeat it. Default: admin, all.")
    ] = None,
    expires_days: Annotated[int, typer.Option(min=1, max=3650, help="Days it is good for.")] = 90,
    name: Annotated[str, typer.Option(help="What it is for.")] = "made on the command line",
    data: reach.Data = None,
    as_json: output.AsJson = False,
) -> None:
    """Make a key and print it, this once.

    Example: chargehand keys make --scope agents:execute --scope executions:read --expires-days 30
    """
    scopes = scope or ["admin"]
    if _on_database(org, data):
        made = admin.make_key(
            data, org or admin.FIRST_ORGANIZATION, user, scopes, expires_days, name
        )
    else:
        with options.service() as chargehand:
            new = chargehand.create_key(
                name, scopes, expires_in_days=expires_days, user_id=_member(chargehand, user)
            )
        made = {**_shown(new), "key": new["key"]}
    if as_json:
        output.print_document(made)
    else:
        print(made["key"])


@options.command(keys)
def revoke(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="Its id, or the public id in its text.",
            callback=output.utf8,
            autocompletion=completion.keys,
        ),
    ],
    org: Organization = None,
    data: reach.Data = None,
    as_json: output.AsJson = False,
) -> None:
    """Revoke a key.

    It is refused everywhere within five seconds.

    Example: chargehand keys revoke 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    if _on_database(org, data):
        row = admin.revoke_key(data, org or admin.FIRST_ORGANIZATION, key)
    else:
        with options.service() as chargehand:
            row = _shown(chargehand.revoke_key(_id_of(chargehand, key)))
    if as_json:
        output.print_document(row)
    else:
        options.tell(f"Key {row['id']} ({row['name']}) is revoked.")


def _on_database(org: str | None, data: Path | None) -> bool:
    """Whether the database is meant: it is named, or no service is."""
    if org is not None or data is not None:
        return True
    from chargehand_client import profiles

    named = options.given.profile or any(os.environ.get(name) for name in profiles.VARIABLES)
    return not (named or profiles.path().exists())


def _id_of(chargehand: "Chargehand", key: str) -> str:
    """The id of a key that may be given by its public id; the service refuses what is neither."""
    listed = chargehand.keys()
    return next((one["id"] for one in listed if key in (one["id"], one["public_id"])), key)


def _member(chargehand: "Chargehand", email: str | None) -> str | None:
    """The id of a member. Raises NotFound."""
    from chargehand.kernel.errors import NotFound

    if email is None:
        return None
    for member in chargehand.members():
        if member["email"] == email:
            return member["user_id"]
    raise NotFound(
        f"The organization has no member with the email address {email}. List its members with "
        "`chargehand members list`.",
        code="MemberNotFound",
    )


def _shown(key: "Key") -> dict[str, Any]:
    """What the database's own list shows of a key."""
    created, expires = (datetime.fromisoformat(key[name]) for name in ("created_at", "expires_at"))
    return {
        "id": key["id"],
        "public_id": key["public_id"],
        "name": key["name"],
        "scopes": key["scopes"],
        "user_id": key["user_id"],
        "created_at": created.isoformat(timespec="seconds"),
        "expires_at": expires.isoformat(timespec="seconds"),
        "state": admin.state_of(bool(key["revoked_at"]), expires <= datetime.now(UTC)),
    }


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)
