"""``me`` and ``members``: who you are to the service, and who else is there."""

from chargehand.cli import lists, options, output

members = options.noun("Look at the members of your organization.")


def me(as_json: output.AsJson = False) -> None:
    """Show who your key is: organization, user, role, scopes.

    Example: chargehand me --profile staging
    """
    with options.service() as chargehand:
        url, found = chargehand.url, chargehand.me()
    if as_json:
        output.print_document({"url": url, **found})
        return
    user, key = found["user"], found["key"]
    output.print_fields(
        {
            "service": url,
            "organization": f"{found['organization']['name']} ({found['organization']['slug']})",
            "user": f"{user['name']} <{user['email']}>",
            "role": found["role"],
            "key": f"{key['name']}, good until {lists.minute(key['expires_at'])}",
            "scopes": ", ".join(found["scopes"]),
            "tier": found["tier"]["name"],
        }
    )


@options.command(members, "list")
def list_members(limit: lists.Limit = lists.DEFAULT_LIMIT, as_json: output.AsJson = False) -> None:
    """List the members of your organization, as an admin.

    Example: chargehand members list
    """
    with options.service() as chargehand:
        lists.show(
            chargehand.members(),
            limit,
            ("email", "name", "role", "joined", "id"),
            lambda one: (
                one["email"],
                one["name"],
                one["role"],
                lists.minute(one["joined_at"]),
                one["user_id"],
            ),
            lists.as_it_is,
            as_json,
        )
