"""Tenants, agents, storage, and everything a durable run writes.

Big tables are range-partitioned on a UUIDv7 (its first 48 bits are the time): ``executions`` on its
own id, what belongs to a run on ``execution_id``, so that one run lies in one partition of each.
Foreign keys are left out between partitioned tables: one would stop DETACH.
"""

import re

from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FUNCTIONS = """
create function current_organization() returns uuid language sql stable parallel safe as $$
    select nullif(current_setting('chargehand.organization', true), '')::uuid
$$;

create function uuid7_floor(at timestamptz) returns uuid language sql immutable parallel safe as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
$$;
"""

TENANCY = """
create table organizations (
    id uuid primary key,
    slug text not null unique,
    name text not null,
    tier text not null,
    created_at timestamptz not null default now()
);

create table users (
    id uuid primary key,
    email text not null unique,
    name text not null,
    created_at timestamptz not null default now()
);

create table memberships (
    organization_id uuid not null references organizations (id),
    user_id uuid not null references users (id),
    role text not null check (role in ('viewer', 'member', 'admin', 'owner')),
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id)
);
create index memberships_user on memberships (user_id);

create table api_keys (
    id uuid primary key,
    organization_id uuid not null references organizations (id),
    user_id uuid not null references users (id),
    public_id text not null unique,
    secret_hash bytea not null,
    name text not null,
    scopes text[] not null,
    created_by uuid not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    last_used_at timestamptz
);
create index api_keys_organization on api_keys (organization_id, id);
"""

STORAGE = """
create table blobs (
    organization_id uuid not null,
    sha256 bytea not null,
    size bigint not null,
    content bytea not null,
    created_at timestamptz not null default now(),
    primary key (organization_id, sha256)
);

create table uploads (
    id uuid primary key,
    organization_id uuid not null references organizations (id),
    created_by uuid not null,
    kind text not null check (kind in ('folder', 'file')),
    name text not null,
    media_type text not null,
    size bigint not null,
    files jsonb not null,
    created_at timestamptz not null default now()
);
create index uploads_organization on uploads (organization_id, id);
"""

AGENTS = """
create table agents (
    id uuid primary key,
    organization_id uuid not null references organizations (id),
    slug text not null,
    name text not null,
    description text not null,
    owner_id uuid not null,
    team_id uuid,
    visibility text not null check (visibility in ('private', 'team', 'organization', 'public')),
    active boolean not null,
    tags text[] not null,
    metadata jsonb not null,
    current_version_id uuid not null,
    draft_version_id uuid,
    archived_at timestamptz,
    revision integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint agents_slug unique (organization_id, slug),
    constraint agents_name unique (organization_id, name)
);
create index agents_public on agents (id) where visibility = 'public';

create table agent_versions (
    id uuid primary key,
    organization_id uuid not null references organizations (id),
    agent_id uuid not null references agents (id) on delete cascade deferrable initially deferred,
    major integer not null,
    minor integer not null,
    patch integer not null,
    status text not null check (status in ('draft', 'published', 'deprecated', 'archived')),
    config jsonb not null,
    config_schema integer not null,
    changelog text not null,
    copied_from uuid,
    created_by uuid not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    published_at timestamptz,
    published_by uuid,
    constraint agent_versions_number unique (agent_id, major, minor, patch)
);
"""

EXECUTIONS = """
create table executions (
    id uuid not null,
    organization_id uuid not null,
    agent_organization_id uuid not null,
    agent_id uuid not null,
    agent_version_id uuid not null,
    agent_version text not null,
    prompt_version_id uuid,
    trigger_kind text not null,
    trigger_id uuid,
    user_id uuid not null,
    api_key_id uuid,
    end_user text,
    conversation_id uuid,
    turn integer,
    parent_id uuid,
    root_id uuid not null,
    depth integer not null default 0,
    retry_of uuid,
    forked_from uuid,
    forked_at_step integer,
    chain_run_id uuid,
    batch_id uuid,
    is_test boolean not null default false,
    queue text not null,
    chunk integer not null default 1,
    status text not null check (status in ('pending', 'running', 'awaiting_input',
        'awaiting_event', 'paused', 'completed', 'failed', 'cancelled')),
    pause_reason text,
    force_killed boolean not null default false,
    finish_reason text,
    provider_response_id text,
    steps integer not null default 0,
    model_attempts integer not null default 0,
    tool_calls integer not null default 0,
    api_calls integer not null default 0,
    input_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    reasoning_tokens bigint not null default 0,
    cost numeric not null default 0,
    currency text not null default 'USD',
    unpriced boolean not null default false,
    sandbox_cpu_ms bigint not null default 0,
    sandbox_peak_memory_bytes bigint not null default 0,
    error_code text,
    error_message text,
    error_details jsonb,
    warnings jsonb not null default '[]',
    metadata jsonb not null default '{}',
    created_at timestamptz not null,
    scheduled_at timestamptz,
    started_at timestamptz,
    paused_at timestamptz,
    completed_at timestamptz,
    updated_at timestamptz not null,
    primary key (id)
) partition by range (id);
create index executions_organization on executions (organization_id, id desc);
create index executions_agent on executions (agent_id, id desc);

create table execution_payloads (
    execution_id uuid not null,
    organization_id uuid not null,
    config jsonb not null,
    input jsonb not null,
    variables jsonb not null,
    workspace jsonb,
    output jsonb,
    primary key (execution_id)
) partition by range (execution_id);

create table live_executions (
    execution_id uuid primary key,
    organization_id uuid not null,
    user_id uuid not null,
    status text not null,
    epoch integer not null default 0,
    owner text,
    lease_expires_at timestamptz,
    wake_seq integer not null default 0,
    handled_seq integer not null default 0,
    last_event integer not null default 0,
    last_log integer not null default 0,
    last_message integer not null default 0,
    last_step integer not null default 0,
    attempts integer not null default 0,
    losses_without_step integer not null default 0,
    queue text not null,
    priority integer not null default 0,
    ready_at timestamptz not null,
    enqueued_at timestamptz,
    job_id bigint,
    slot boolean not null,
    paused_from text,
    wait_kind text,
    wait_deadline timestamptz,
    wait_then text,
    deadline_at timestamptz,
    chunk integer not null default 1,
    state_schema integer not null,
    state jsonb not null,
    model_attempts integer not null default 0,
    tool_calls integer not null default 0,
    input_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    reasoning_tokens bigint not null default 0,
    cost numeric not null default 0,
    unpriced boolean not null default false
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
create index live_executions_due on live_executions (status, ready_at);

create table claims (
    execution_id uuid not null,
    epoch integer not null,
    event text not null check (event in ('claimed', 'released', 'lost', 'ended')),
    organization_id uuid not null,
    worker text not null,
    at timestamptz not null,
    primary key (execution_id, epoch, event)
) partition by range (execution_id);

create table steps (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    epoch integer not null,
    kind text not null check (kind in ('model', 'tool')),
    call_id text not null,
    tool_name text,
    provider text,
    model text,
    attempts jsonb not null default '[]',
    has_tool_calls boolean not null default false,
    tool_names text[] not null default '{}',
    finish_reason text,
    provider_response_id text,
    input_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    reasoning_tokens bigint not null default 0,
    cost numeric not null default 0,
    error jsonb,
    started_at timestamptz not null,
    completed_at timestamptz not null,
    primary key (execution_id, seq)
) partition by range (execution_id);

create table run_messages (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    step integer not null,
    message jsonb not null,
    primary key (execution_id, seq)
) partition by range (execution_id);

create table effects (
    execution_id uuid not null,
    message_seq integer not null,
    call_id text not null,
    organization_id uuid not null,
    idempotency_key uuid not null,
    tool_name text not null,
    arguments jsonb not null,
    policy text not null check (policy in ('none', 'idempotent', 'ask', 'unknown')),
    state text not null check (state in ('started', 'done', 'unknown')),
    epoch integer not null,
    started_at timestamptz not null,
    completed_at timestamptz,
    primary key (execution_id, message_seq, call_id)
) partition by range (execution_id);

create table signals (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    kind text not null,
    payload jsonb not null default '{}',
    created_by uuid,
    created_at timestamptz not null,
    handled_at timestamptz,
    primary key (execution_id, seq)
) partition by range (execution_id);

create table waits (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    kind text not null check (kind in ('input', 'tools', 'approval', 'event')),
    message_seq integer not null,
    call_id text not null,
    request jsonb not null,
    outcome text not null check (outcome in ('answered', 'approved', 'denied', 'expired',
        'withdrawn')),
    answer jsonb,
    opened_at timestamptz not null,
    closed_at timestamptz not null,
    primary key (execution_id, seq)
) partition by range (execution_id);

create table events (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    user_id uuid not null,
    epoch integer not null,
    type text not null,
    data jsonb not null,
    at timestamptz not null,
    tx xid8 not null default pg_current_xact_id(),
    primary key (execution_id, seq)
) partition by range (execution_id);

create table logs (
    execution_id uuid not null,
    seq integer not null,
    organization_id uuid not null,
    level text not null check (level in ('debug', 'info', 'warning', 'error')),
    event_type text not null,
    message text not null,
    context jsonb not null default '{}',
    at timestamptz not null,
    primary key (execution_id, seq)
) partition by range (execution_id);

create table usage_records (
    execution_id uuid not null,
    call_id text not null,
    organization_id uuid not null,
    user_id uuid not null,
    end_user text,
    agent_id uuid not null,
    agent_version_id uuid not null,
    provider text not null,
    model text not null,
    credential text not null,
    price_entry text,
    price_source text,
    input_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    output_tokens bigint not null,
    reasoning_tokens bigint not null,
    input_cost numeric,
    output_cost numeric,
    currency text not null default 'USD',
    at timestamptz not null,
    primary key (execution_id, call_id)
) partition by range (execution_id);

create table slots (
    organization_id uuid not null,
    user_id uuid not null,
    active integer not null check (active >= 0),
    primary key (organization_id, user_id)
) with (fillfactor = 40);

create table idempotency_keys (
    organization_id uuid not null,
    user_id uuid not null,
    key text not null,
    request_hash bytea not null,
    execution_id uuid not null,
    created_at timestamptz not null,
    primary key (organization_id, user_id, key)
) partition by hash (organization_id, user_id, key);

create table outbox (
    id bigint generated always as identity primary key,
    tx xid8 not null default pg_current_xact_id(),
    organization_id uuid not null,
    subject_id uuid not null,
    type text not null,
    data jsonb not null,
    at timestamptz not null
);
create index outbox_at on outbox (at);
"""

MONTHLY = (
    "executions",
    "execution_payloads",
    "claims",
    "steps",
    "run_messages",
    "effects",
    "signals",
    "waits",
    "usage_records",
)
DAILY = ("events", "logs")

# Security definer, because only the owner may create tables; the tables are fixed by name here, so
# the one who calls it can only choose one of them (to hold one parent's lock at a time). Partitions
# that exist already are left alone.
PARTITIONS = """
create function ensure_partitions(only_of text default null) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    spec record;
    lower_bound timestamptz;
    upper_bound timestamptz;
    partition text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('chargehand.ensure_partitions'));
    for spec in
        select name, 'month' as unit, 1 as behind, 3 as ahead
          from unnest(array[{monthly}]) as name
        union all
        select name, 'day', 2, 7 from unnest(array[{daily}]) as name
    loop
        continue when spec.name <> only_of;
        for i in -spec.behind .. spec.ahead loop
            lower_bound := (date_trunc(spec.unit, now() at time zone 'UTC')
                            + make_interval(months => case spec.unit when 'month' then i else 0 end,
                                            days => case spec.unit when 'day' then i else 0 end)
                           ) at time zone 'UTC';
            upper_bound := (lower_bound at time zone 'UTC' + ('1 ' || spec.unit)::interval)
                           at time zone 'UTC';
            partition := spec.name || '_p' || to_char(lower_bound at time zone 'UTC',
                case spec.unit when 'month' then 'YYYYMM' else 'YYYYMMDD' end);
            if to_regclass('public.' || quote_ident(partition)) is null then
                execute format('create table %I partition of %I for values from (%L) to (%L)',
                    partition, spec.name, uuid7_floor(lower_bound), uuid7_floor(upper_bound));
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end
$$;

create function partitions_ahead() returns table (parent text, ahead integer)
language sql stable as $$
    select parent.relname::text,
           count(*) filter (where child.relname > parent.relname || '_p' || to_char(
               now() at time zone 'UTC',
               case when length(child.relname) - length(parent.relname) = 8
                    then 'YYYYMM' else 'YYYYMMDD' end))::integer
      from pg_inherits
      join pg_class parent on parent.oid = inhparent
      join pg_class child on child.oid = inhrelid
     where parent.relkind = 'p' and parent.relnamespace = 'public'::regnamespace
       and child.relname ~ '_p[0-9]{{6,8}}$'
     group by parent.relname
$$;
"""

# table → what the application role may do with its own organization's rows
TENANT_TABLES = {
    "memberships": "select, insert, update, delete",
    "api_keys": "select, insert, update",
    "blobs": "select, insert",
    "uploads": "select, insert, delete",
    "agents": "select, insert, update, delete",
    "agent_versions": "select, insert, update, delete",
    "executions": "select, insert, update",
    "execution_payloads": "select, insert, update",
    "live_executions": "select, insert, update, delete",
    "claims": "select, insert",
    "steps": "select, insert",
    "run_messages": "select, insert",
    "effects": "select, insert, update",
    "signals": "select, insert, update",
    "waits": "select, insert",
    "events": "select, insert",
    "logs": "select, insert",
    "usage_records": "select, insert",
    "slots": "select, insert, update",
    "idempotency_keys": "select, insert, update",
    "outbox": "insert",
}

# table → what the system role may do across organizations: find keys and due runs, sweep up
SYSTEM_TABLES = {
    "organizations": "select",
    "users": "select",
    "memberships": "select",
    "api_keys": "select, update (last_used_at)",
    "live_executions": "select, update (lease_expires_at, enqueued_at, job_id)",
    "slots": "select, update (active)",
    "idempotency_keys": "select, delete",
    "outbox": "select, delete",
}


def upgrade() -> None:
    app, system = context.config.attributes["roles"]
    for part in (FUNCTIONS, TENANCY, STORAGE, AGENTS, EXECUTIONS):
        _run(part)
    for remainder in range(8):
        op.execute(
            f"create table idempotency_keys_h{remainder} partition of idempotency_keys "
            f"for values with (modulus 8, remainder {remainder})"
        )
    _run(PARTITIONS.format(monthly=_quoted(MONTHLY), daily=_quoted(DAILY)))
    op.execute("revoke all on function ensure_partitions(text) from public")
    op.execute("select ensure_partitions()")
    _install_queue(app, system)
    op.execute(f"grant usage on schema public to {app}, {system}")
    op.execute(f"grant execute on function ensure_partitions(text) to {system}")
    op.execute(f"grant select on alembic_version, schema_state to {app}, {system}")
    _wall_in(app, system)


def _run(script: str) -> None:
    """Statement by statement, as asyncpg wants it; each begins with ``create`` in column 0."""
    for statement in re.split(r";\n+(?=create |\Z)", script.strip() + "\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _wall_in(app: str, system: str) -> None:
    """Forced row-level security on every tenant table, then only the grants that are needed."""
    for table in ("organizations", "users", *TENANT_TABLES):
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
    for table, rights in TENANT_TABLES.items():
        op.execute(f"grant {rights} on {table} to {app}")
        op.execute(
            f"create policy tenant on {table} to {app} "
            "using (organization_id = (select current_organization())) "
            "with check (organization_id = (select current_organization()))"
        )
    op.execute(f"grant select, insert, update on organizations to {app}")
    op.execute(
        f"create policy tenant on organizations to {app} "
        "using (id = (select current_organization())) "
        "with check (id = (select current_organization()))"
    )
    op.execute(f"grant select, insert on users to {app}")
    op.execute(
        f"create policy members on users for select to {app} using "
        "(exists (select from memberships where memberships.user_id = users.id))"
    )
    op.execute(f"create policy newcomers on users for insert to {app} with check (true)")
    op.execute(
        f"create policy public_agents on agents for select to {app} "
        "using (visibility = 'public' and archived_at is null)"
    )
    op.execute(
        f"create policy public_versions on agent_versions for select to {app} using "
        "(status in ('published', 'deprecated') and exists (select from agents "
        "where agents.id = agent_versions.agent_id and agents.visibility = 'public'))"
    )
    for table, rights in SYSTEM_TABLES.items():
        op.execute(f"grant {rights} on {table} to {system}")
        op.execute(f"create policy everything on {table} to {system} using (true)")


def _install_queue(app: str, system: str) -> None:
    """PgQueuer's tables, in a schema of their own, ids only.

    Its trigger is left out: a NOTIFY inside a hot commit serialises commits, so the channel is
    rung by ``kernel.jobs`` after the commit.
    """
    from pgqueuer.adapters.persistence import schema_ddl
    from pgqueuer.domain.schema.declaration import target
    from pgqueuer.domain.settings import DBSettings

    settings = DBSettings(db_schema="queue")
    schema = target(settings)
    statements = [
        "create schema queue",
        *(schema_ddl.render_enum(entry, settings) for entry in schema.enums),
        *(schema_ddl.render_table(entry, settings) for entry in schema.tables),
        *(schema_ddl.render_index(entry, settings) for entry in schema.indexes),
    ]
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
    op.execute(f"grant usage on schema queue to {app}, {system}")
    op.execute(f"grant insert, select (id) on queue.pgqueuer to {app}")
    op.execute(f"grant usage on sequence queue.pgqueuer_id_seq to {app}")
    op.execute(f"grant select, insert, update, delete on all tables in schema queue to {system}")
    op.execute(f"grant usage on all sequences in schema queue to {system}")
