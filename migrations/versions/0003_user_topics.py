"""The order of a user's events across runs, and the key that signs subscription tokens."""

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# On the partitioned table: the partitions that are there get it, and so do those made later.
# Equal entries (a transaction writes several events) are stored once, so it ends with ``tx``.
USER_TOPIC = """
create index events_user_topic on events (user_id, tx)
 where type not in ('output.delta', 'output.reset', 'log')
"""

SECRETS = """
create table installation_secrets (
    name text primary key,
    secret bytea not null,
    created_at timestamptz not null default now()
)
"""

# 244 random bits of PostgreSQL's own strong generator; pgcrypto may not be installed.
SIGNING = """
insert into installation_secrets (name, secret) values ('subscription_tokens',
    sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
"""


def upgrade() -> None:
    _, system = context.config.attributes["roles"]
    op.execute(USER_TOPIC)
    op.execute(SECRETS)
    op.execute(SIGNING)
    op.execute("alter table installation_secrets enable row level security")
    op.execute("alter table installation_secrets force row level security")
    op.execute(f"grant select on installation_secrets to {system}")
    op.execute(f"create policy everything on installation_secrets to {system} using (true)")
