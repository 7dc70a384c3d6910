"""What steering and waiting need: an open wait, the line behind the slots, states of old steps."""

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# An open wait is in the live row, which nobody updates meanwhile; a closed
COLUMNS = """
alter table live_executions add column wait jsonb, add column wait_seq integer not null default 0;
-- How many runs of the user may be active: so that whoever gives a slot back can pass it on.
alter table slots add column allowed integer not null default 1;
-- Where a step changed the run's small state: what a fork at that step begins with.
alter table steps add column state jsonb;
-- Tools that the caller of the run answers for.
alter table execution_payloads add column tools jsonb
"""

INDEXES = """
create index live_executions_line on live_executions
 (organization_id, user_id, priority desc, ready_at) where status = 'pending' and not slot;
create index live_executions_deadline on live_executions (wait_deadline)
 where wait_deadline is not null;
create index live_executions_event on live_executions (organization_id, (wait ->> 'event_type'))
 where wait_kind = 'event'
"""


def upgrade() -> None:
    _, system = context.config.attributes["roles"]
    for statement in (COLUMNS + ";" + INDEXES).split(";"):
        op.execute(statement)
    op.execute(f"grant update (slot) on live_executions to {system}")
