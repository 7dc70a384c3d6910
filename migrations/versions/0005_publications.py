"""What a hub outside is told: an order of all events, and how far it has been told."""

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Entries come in ascending order, so that an insert goes to the page that the last one went to.
ORDER = "create index events_publication on events (tx) where type <> 'log'"

POSITION = """
create table publications (
    name text primary key,
    tx xid8 not null,
    execution_id uuid not null,
    seq integer not null,
    moved_at timestamptz not null default now()
) with (fillfactor = 40)
"""

TOLD = "execution_id, seq, user_id, epoch, type, data, tx"


def upgrade() -> None:
    _, system = context.config.attributes["roles"]
    op.execute(ORDER)
    op.execute(POSITION)
    op.execute("alter table publications enable row level security")
    op.execute("alter table publications force row level security")
    op.execute(f"grant select, insert, update on publications to {system}")
    op.execute(f"create policy everything on publications to {system} using (true)")
    # Lines of the log are for who holds the scope, which nobody at a hub can show: not even the
    # process that tells the hub can read them.
    op.execute(f"grant select ({TOLD}) on events to {system}")
    op.execute(f"create policy told on events for select to {system} using (type <> 'log')")
