"""What lists of executions are filtered by: status, user, end user, error.

Each begins with the organization and ends with the id, which is the order of every list.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = {
    "executions_status": "(organization_id, status, id desc)",
    "executions_user": "(organization_id, user_id, id desc)",
    "executions_end_user": "(organization_id, end_user, id desc) where end_user is not null",
    "executions_error": "(organization_id, error_code, id desc) where error_code is not null",
}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        op.execute(f"create index {name} on executions {columns}")
