"""The operator's commands on a given PostgreSQL: ``migrate``, ``keys``, ``doctor``."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.commands import chargehand
from tests.factories.databases import statements
from tests.factories.empty_database import empty_database
from tests.factories.tenancy import make_organization

from chargehand.kernel.database import Database


@pytest.fixture
def empty() -> Iterator[str]:
    with empty_database() as url:
        yield url


def reaching(clone: TestDatabase) -> dict[str, str]:
    return {"CHARGEHAND_APP_URL": clone.urls.app, "CHARGEHAND_SYSTEM_URL": clone.urls.system}


def checks_of(stdout: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(stdout)["checks"]}


def test_a_database_is_migrated_and_then_healthy(empty: str) -> None:
    before = chargehand("doctor", "--json", DATABASE_URL=empty)
    migrated = chargehand("migrate", "--json", DATABASE_URL=empty)
    again = chargehand("migrate", DATABASE_URL=empty)
    after = chargehand("doctor", "--json", DATABASE_URL=empty)
    assert before.returncode == 1
    assert "wrong" in {check["state"] for check in checks_of(before.stdout).values()}
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert (
        again.stdout == f"The database is at revision {json.loads(migrated.stdout)['revision']}.\n"
    )
    assert after.returncode == 0, after.stdout
    assert json.loads(after.stdout)["healthy"] is True
    assert checks_of(after.stdout)["partitions"]["state"] == "ok"


def test_only_the_owner_may_migrate(clone: TestDatabase) -> None:
    done = chargehand("migrate", **reaching(clone))
    assert done.returncode == 2
    assert "Set DATABASE_URL to the owner's URL" in done.stderr


def test_doctor_refuses_a_role_that_nothing_binds(clone: TestDatabase) -> None:
    unsafe = reaching(clone) | {"CHARGEHAND_APP_URL": clone.owner_url}
    done = chargehand("doctor", "--json", **unsafe)
    wrong = checks_of(done.stdout)["rights, application role"]
    assert done.returncode == 1
    assert (wrong["state"], wrong["found"]) == ("wrong", "UnsafeRole")
    assert "CHARGEHAND_APP_URL" in wrong["remedy"]


def test_doctor_notices_partitions_that_run_out(clone: TestDatabase) -> None:
    asyncio.run(statements(clone.owner_url, *drops_of_partitions(clone)))
    done = chargehand("doctor", **reaching(clone))
    assert done.returncode == 1
    assert "too few ahead of logs" in done.stdout
    assert "chargehand migrate" in done.stdout


def drops_of_partitions(clone: TestDatabase) -> list[str]:
    async def names() -> list[str]:
        connection = await asyncpg.connect(clone.owner_url)
        try:
            rows = await connection.fetch(
                "select inhrelid::regclass::text as name from pg_inherits "
                "where inhparent = 'logs'::regclass order by 1 desc limit 6"
            )
            return [row["name"] for row in rows]
        finally:
            await connection.close()

    return [f"drop table {name}" for name in asyncio.run(names())]


def test_doctor_names_a_server_that_does_not_answer() -> None:
    done = chargehand("doctor", "--json", DATABASE_URL="postgresql://x:secret@127.0.0.1:1/none")
    check = checks_of(done.stdout)["postgresql, application role"]
    assert done.returncode == 1
    assert "127.0.0.1:1" in check["remedy"]
    assert "secret" not in done.stdout


def test_doctor_names_a_wrong_setting() -> None:
    done = chargehand("doctor", CHARGEHAND_PROT="1", CHARGEHAND_PORT="8420")
    assert done.returncode == 1
    assert "CHARGEHAND_PROT" in done.stdout


async def test_a_key_is_made_listed_and_revoked(database: Database, clone: TestDatabase) -> None:
    await make_organization(database, slug="acme")
    where = ("--org", "acme")
    made = await asyncio.to_thread(
        chargehand,
        *("keys", "make", *where, "--user", "acme@example.com", "--scope", "executions:read"),
        *("--expires-days", "7", "--json"),
        **reaching(clone),
    )
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert key["key"].startswith(f"chk_{key['public_id']}_")
    assert key["scopes"] == ["executions:read"]
    listed = await asyncio.to_thread(
        chargehand, "keys", "list", *where, "--json", **reaching(clone)
    )
    assert key["id"] in {item["id"] for item in json.loads(listed.stdout)["items"]}
    assert key["key"].split("_")[2] not in listed.stdout
    revoked = await asyncio.to_thread(
        chargehand, "keys", "revoke", key["public_id"], *where, "--json", **reaching(clone)
    )
    assert json.loads(revoked.stdout)["state"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("list", "--org", "acmee"), 3, "Did you mean acme?"),
        (("make", "--org", "acme", "--user", "no@body"), 3, "no@body"),
        (("make", "--org", "acme", "--scope", "agents:raed"), 2, "did you mean agents:read?"),
        (("revoke", "none", "--org", "acme"), 3, "keys list --org acme"),
    ],
)
async def test_what_there_is_not_is_named_with_the_nearest(
    database: Database, clone: TestDatabase, arguments: tuple[str, ...], code: int, told: str
) -> None:
    await make_organization(database, slug="acme")
    done = await asyncio.to_thread(chargehand, "keys", *arguments, **reaching(clone))
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 6
