"""How fast lists of executions answer over many rows: p50 and p95 through the HTTP application.

``python bench/lists.py [ROWS]`` (1,000,000 unless given) fills an embedded PostgreSQL of its own,
asks each kind of list ``REPEATS`` times as an owner and as a member, and prints a Markdown table.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx2
import uvloop
from tests.factories.agents import make_agent
from tests.factories.tenancy import client_of, make_app, make_caller, make_organization

from chargehand.adapters import embedded_postgres
from chargehand.executions import routes
from chargehand.kernel import schema
from chargehand.kernel.database import Database, connect

AGENTS, USERS, REPEATS = 100, 20, 40

FILL = """
insert into executions (id, organization_id, agent_organization_id, agent_id, agent_version_id,
    agent_version, trigger_kind, user_id, end_user, root_id, queue, status, finish_reason,
    error_code, error_message, steps, input_tokens, output_tokens, cost, created_at, started_at,
    completed_at, updated_at)
select id, $1, $1, agents[1 + (n % cardinality(agents))], gen_random_uuid(), '1.0.0', 'api',
       users[1 + (n % 7919 % cardinality(users))], 'customer-' || n % 50000, id, 'agents', status,
       case status when 'completed' then 'stop' when 'cancelled' then 'cancelled' end,
       case status when 'failed' then error end, case status when 'failed' then 'It failed.' end,
       4, 2000, 300, 0.0012, at, at, at + interval '3 s', at + interval '3 s'
  from (select n, at, $2::uuid[] as agents, $3::uuid[] as users,
               case when n % 1000 < 20 then 'failed' when n % 1000 < 23 then 'cancelled'
                    else 'completed' end as status,
               case n % 5 when 0 then 'ExecutionTimeout' else 'ModelProviderFailed' end as error,
               overlay(overlay(uuid7_floor(at)::text placing '7' from 15) placing
                   substr(gen_random_uuid()::text, 20) from 20)::uuid as id
          from (select n, now() - (n * interval '1 s' * 86400 * 25 / $4) as at
                  from generate_series(1, $4::integer) as n) as moments) as rows
"""

LISTS = {
    "newest": {},
    "one agent": {"agent": "AGENT"},
    "completed": {"status": "completed"},
    "failed": {"status": "failed"},
    "cancelled, one agent": {"status": "cancelled", "agent": "AGENT"},
    "running": {"status": "running"},
    "one user": {"user": "USER"},
    "one end user": {"end_user": "customer-77"},
    "an end user that there is not": {"end_user": "nobody"},
    "one error": {"error_code": "ExecutionTimeout"},
    "one day": {"created_after": "DAY", "created_before": "NEXT"},
    "failed on one day": {"status": "failed", "created_after": "DAY", "created_before": "NEXT"},
}


async def fill(owner_url: str, database: Database, rows: int):
    """An organization with so many runs; its owner's key, a member's, an agent and a user."""
    organization = await make_organization(database)
    owner, owner_key = await make_caller(database, organization=organization)
    members = [
        await make_caller(database, "member", organization=organization) for _ in range(USERS)
    ]
    agents = [
        await make_agent(database, owner, visibility="organization" if n % 2 else "private")
        for n in range(AGENTS)
    ]
    connection = await asyncpg.connect(owner_url)
    ids = [agent.id for agent in agents], [caller.user_id for caller, _ in members]
    await connection.execute(FILL, organization.id, *ids, rows, timeout=None)
    await connection.execute("vacuum analyze executions", timeout=None)
    await connection.close()
    return owner_key, members[0][1], agents[1].id, members[0][0].user_id


async def ask(client: httpx2.AsyncClient, filters: dict[str, str]) -> float:
    """Milliseconds for the first page, and for the second behind its cursor, whichever is more."""
    slowest, cursor = 0.0, None
    for _ in range(2):
        began = time.perf_counter()
        more = {"cursor": cursor} if cursor else {}
        answer = await client.get("/api/v1/executions", params={**filters, **more})
        slowest = max(slowest, (time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.text
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    return slowest


async def measure(server, rows: int) -> None:
    urls = schema.runtime_urls(server.dsn)
    await schema.migrate(server.dsn, urls)
    database = await connect(urls.app, urls.system, pool_size=4)
    print(f"filling {rows:,} rows …", file=sys.stderr)
    owner_key, member_key, agent, user = await fill(server.dsn, database, rows)
    now = time.time()
    named = {
        "AGENT": str(agent),
        "USER": str(user),
        "DAY": time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(now - 9 * 86400)),
        "NEXT": time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(now - 8 * 86400)),
    }
    app = make_app(database, routes.router)
    print("| list | owner p50 ms | owner p95 ms | member p50 ms | member p95 ms |")
    print("|---|---|---|---|---|")
    for name, filters in LISTS.items():
        given = {key: named.get(value, value) for key, value in filters.items()}
        cells = []
        for key in (owner_key, member_key):
            async with client_of(app, key) as client:
                await ask(client, given)
                times = sorted([await ask(client, given) for _ in range(REPEATS)])
            cells += [f"{statistics.median(times):.1f}", f"{times[int(REPEATS * 0.95)]:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    await database.close()


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="chargehand-bench-"))
    folder.chmod(0o711)
    with embedded_postgres.start(folder, durable=False) as started:
        uvloop.run(measure(started, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
