"""From a key to its caller, on the system pool (SPEC TEN-3)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from tests.conftest import TestDatabase
from tests.factories.tenancy import make_caller, make_organization

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.tenancy import operations
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.key_format import KeyRefused, checksum, mint
from chargehand.tenancy.keys import KeyCache, KeysUnavailable
from chargehand.tenancy.tiers import FREE, Tiers


@asynccontextmanager
async def owner(clone: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the tables, who may do anything but is bound by forced row-level security."""
    connection = await asyncpg.connect(clone.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def keys_locked(clone: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """Nobody else can read a key in here."""
    async with owner(clone) as connection, connection.transaction():
        await connection.execute("lock table api_keys in access exclusive mode")
        yield connection


async def revoke(database: Database, caller: Caller) -> None:
    async with database.transaction(caller.organization_id) as session:
        await operations.revoke_key(session, caller, caller.key_id)


async def refusal_of(cache: KeyCache, token: str) -> KeyRefused:
    with pytest.raises(KeyRefused) as refused:
        await cache.caller_of(token)
    return refused.value


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


async def seconds_until_refused(cache: KeyCache, token: str, since: float) -> float:
    async def refused() -> bool:
        try:
            await cache.caller_of(token)
        except KeyRefused:
            return True
        return False

    await until(refused)
    return time.monotonic() - since


async def test_a_key_leads_to_its_caller(database: Database) -> None:
    organization = await make_organization(database, tier="pro")
    caller, token = await make_caller(
        database, "member", ("agents:read", "usage:read"), organization
    )
    found = await KeyCache(database, Tiers()).caller_of(token)
    assert found == caller
    assert found.scopes == {"agents:read", "usage:read"}
    assert found.tier.name == "pro"


async def test_an_unknown_tier_counts_as_free(database: Database) -> None:
    organization = await make_organization(database, tier="platinum")
    _, token = await make_caller(database, organization=organization)
    assert (await KeyCache(database, Tiers()).caller_of(token)).tier == FREE


async def test_a_stranger_cannot_tell_a_wrong_secret_from_an_unknown_key(
    database: Database,
) -> None:
    caller, token = await make_caller(database)
    await revoke(database, caller)
    cache = KeyCache(database, Tiers())
    unknown = await refusal_of(cache, mint()[1])
    wrong = await refusal_of(cache, _with_secret_of_another(token))
    assert (wrong.message, wrong.details) == (unknown.message, unknown.details)
    assert unknown.details["reason"] == "unknown"


def _with_secret_of_another(token: str) -> str:
    body = "_".join([*token.split("_")[:2], mint()[1].split("_")[2]])
    return f"{body}_{checksum(body)}"


async def test_a_revoked_key_is_refused_once_the_answer_is_old(database: Database) -> None:
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers(), ttl_s=0.3)
    await cache.caller_of(token)
    await revoke(database, caller)
    assert await seconds_until_refused(cache, token, time.monotonic()) < 2
    refused = await refusal_of(cache, token)
    assert refused.details["reason"] == "revoked"
    assert "revoked on 20" in refused.message


async def test_a_key_that_is_to_be_forgotten_is_asked_for_again(
    database: Database, clone: TestDatabase
) -> None:
    caller, token = await make_caller(database)
    _, other = await make_caller(database)
    cache = KeyCache(database, Tiers(), ttl_s=60)
    assert await cache.caller_of(token) == caller
    await cache.caller_of(other)
    await revoke(database, caller)
    assert await cache.caller_of(token) == caller
    await cache.forget(token.split("_")[1])
    assert (await refusal_of(cache, token)).details["reason"] == "revoked"
    async with keys_locked(clone):
        await asyncio.wait_for(cache.caller_of(other), 5)


async def test_forgetting_waits_for_a_lookup_under_way(
    database: Database, clone: TestDatabase
) -> None:
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers(), ttl_s=60)
    async with keys_locked(clone) as connection:
        lookup = asyncio.create_task(cache.caller_of(token))
        await until(lambda: _waiting(connection, at_least=1))
        forgetting = asyncio.create_task(cache.forget(token.split("_")[1]))
        await asyncio.sleep(0)
        assert not forgetting.done()
    assert await lookup == caller
    await forgetting
    await revoke(database, caller)
    assert (await refusal_of(cache, token)).details["reason"] == "revoked"


async def test_an_answer_ages_from_before_its_lookup_began(
    database: Database, clone: TestDatabase
) -> None:
    """Held up for 1.2 s of 1.5, it may be used for 0.3 s more; from its end it would be 2.7 s."""
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers(), ttl_s=1.5)
    async with keys_locked(clone):
        started = time.monotonic()
        lookup = asyncio.create_task(cache.caller_of(token))
        await asyncio.sleep(1.2)
    await lookup
    await revoke(database, caller)
    assert await seconds_until_refused(cache, token, started) < 2.2


async def test_a_key_that_expires_is_refused_although_it_is_cached(database: Database) -> None:
    _, token = await make_caller(database, expires_at=now() + timedelta(seconds=0.7))
    cache = KeyCache(database, Tiers(), ttl_s=60)
    started = time.monotonic()
    await cache.caller_of(token)
    assert 0.5 < await seconds_until_refused(cache, token, started) < 5
    assert (await refusal_of(cache, token)).details["reason"] == "expired"


async def test_an_expired_key_is_refused_at_first_sight(database: Database) -> None:
    _, token = await make_caller(database, expires_at=now() - timedelta(days=1))
    refused = await refusal_of(KeyCache(database, Tiers()), token)
    assert refused.details["reason"] == "expired"
    assert "POST /api/v1/keys" in refused.message


async def test_a_key_does_not_outlive_the_membership(database: Database) -> None:
    caller, token = await make_caller(database)
    async with database.hot(caller.organization_id) as connection:
        await connection.execute("delete from memberships where user_id = $1", caller.user_id)
    refused = await refusal_of(KeyCache(database, Tiers()), token)
    assert refused.details["reason"] == "no_member"


async def test_all_who_ask_at_once_share_one_lookup_that_survives_its_first_asker(
    database: Database, clone: TestDatabase
) -> None:
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers())
    async with keys_locked(clone) as connection:
        asking = [asyncio.create_task(cache.caller_of(token)) for _ in range(20)]
        await until(lambda: _waiting(connection, at_least=1))
        asking[0].cancel()
        await asyncio.wait([asking[0]])
        assert await _waiting(connection, at_least=1)
        assert not await _waiting(connection, at_least=2)
    assert await asyncio.gather(*asking[1:]) == [caller] * 19


async def _waiting(connection: asyncpg.Connection, at_least: int) -> bool:
    count = await connection.fetchval(
        "select count(*) from pg_locks where not granted and relation = 'api_keys'::regclass"
    )
    return count >= at_least


async def test_a_database_that_does_not_answer_lets_nobody_in(
    database: Database, clone: TestDatabase
) -> None:
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers(), ttl_s=0.3)
    async with keys_locked(clone):
        started = time.monotonic()
        with pytest.raises(KeysUnavailable) as unavailable:
            await cache.caller_of(token)
        assert time.monotonic() - started < 2
    assert unavailable.value.details["retry_after_s"] == 1
    assert await cache.caller_of(token) == caller


async def test_the_cache_forgets_the_oldest_of_too_many(
    database: Database, clone: TestDatabase
) -> None:
    cache = KeyCache(database, Tiers(), ttl_s=60, max_entries=2)
    organization = await make_organization(database)
    callers = [await make_caller(database, organization=organization) for _ in range(3)]
    for _, token in callers:
        await cache.caller_of(token)
    await cache.close()
    for caller, _ in callers:
        await revoke(database, caller)
    assert (await refusal_of(cache, callers[0][1])).details["reason"] == "revoked"
    assert [await cache.caller_of(token) for _, token in callers[1:]] == [
        caller for caller, _ in callers[1:]
    ]


async def last_used(database: Database, caller: Caller) -> object:
    async with database.across() as connection:
        return await connection.fetchval(
            "select last_used_at from api_keys where id = $1", caller.key_id
        )


async def test_a_use_is_written_once_a_minute_off_the_requests_path(
    database: Database, clone: TestDatabase
) -> None:
    caller, token = await make_caller(database)
    cache = KeyCache(database, Tiers())
    async with database.hot(caller.organization_id) as connection:
        await connection.execute("select 1 from api_keys where id = $1 for update", caller.key_id)
        await cache.caller_of(token)
        assert await last_used(database, caller) is None
    await cache.close()
    assert now() - timedelta(minutes=1) < await last_used(database, caller) <= now()
    earlier = now() - timedelta(days=1)
    async with database.across() as connection:
        await connection.execute("update api_keys set last_used_at = $1", earlier)
    await cache.caller_of(token)
    await cache.close()
    assert await last_used(database, caller) == earlier
    second_process = KeyCache(database, Tiers())
    await second_process.caller_of(token)
    await second_process.close()
    written = await last_used(database, caller)
    assert written != earlier
    third_process = KeyCache(database, Tiers())
    await third_process.caller_of(token)
    await third_process.close()
    assert await last_used(database, caller) == written
