"""Lists of executions: which of them a caller may see, filtered, newest first (SPEC EXE-17).

Every list goes down the ids, which are times; so a page costs what it shows, not what there is.
Where a filter leaves few rows, they are looked through; where it leaves many, a member's own runs
and those of each agent that he may read are merged, each from an index in the order of ids.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    func,
    lateral,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.agents.lookup import readable
from chargehand.agents.tables import Agent
from chargehand.executions.schemas import ExecutionView
from chargehand.executions.states import Status
from chargehand.executions.tables import Execution
from chargehand.executions.views import may_control, view_of, visible
from chargehand.tenancy.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What an execution must have; None asks for nothing. Times are aware: from, and before."""

    status: Status | None = None
    agent_id: UUID | None = None
    user_id: UUID | None = None
    end_user: str | None = None
    error_code: str | None = None
    is_test: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    @property
    def leave_few(self) -> bool:
        """Whether an index finds what they leave: few of an organization's runs, as a rule."""
        given = (self.agent_id, self.user_id, self.end_user, self.error_code)
        return self.status not in (None, "completed") or any(one is not None for one in given)

    def conditions(self) -> list[ColumnElement[bool]]:
        equal = {
            Execution.status: self.status,
            Execution.agent_id: self.agent_id,
            Execution.user_id: self.user_id,
            Execution.end_user: self.end_user,
            Execution.error_code: self.error_code,
            Execution.is_test: self.is_test,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        # By the id, whose first bits are the time: so whole partitions are left out.
        if self.created_after is not None:
            found.append(Execution.id >= func.uuid7_floor(self.created_after))
        if self.created_before is not None:
            found.append(Execution.id < func.uuid7_floor(self.created_before))
        return found


async def list_executions(
    session: AsyncSession, caller: Caller, filters: Filters, *, after: UUID | None, limit: int
) -> list[ExecutionView]:
    """The newest first, behind the execution ``after``, without input and output."""
    conditions = filters.conditions()
    if after is not None:
        conditions.append(Execution.id < after)
    query = visible(caller).order_by(Execution.id.desc()).limit(limit)
    if caller.is_admin or filters.leave_few:
        query = query.where(_listed(caller), *conditions)
    else:
        query = query.where(Execution.id.in_(_merged(caller, conditions, limit)))
    return [
        view_of(execution, live, None, whole=may_control(caller, execution, agent))
        for execution, live, agent in (await session.execute(query)).all()
    ]


def _listed(caller: Caller) -> ColumnElement[bool]:
    """``views.may_see`` as a condition."""
    if caller.is_admin:
        return true()
    own_agents = and_(Agent.organization_id == caller.organization_id, readable(caller))
    return or_(Execution.user_id == caller.user_id, own_agents, Agent.visibility == "public")


def _merged(caller: Caller, conditions: list[ColumnElement[bool]], limit: int) -> Select[UUID]:
    """The newest ids of the caller's own runs and of the runs of each agent that he may read."""
    newest = (
        select(Execution.id)
        .where(Execution.organization_id == caller.organization_id, *conditions)
        .order_by(Execution.id.desc())
        .limit(limit)
    )
    own = newest.where(Execution.user_id == caller.user_id).subquery()
    agents = (
        select(Agent.id)
        .where(
            or_(
                and_(Agent.organization_id == caller.organization_id, readable(caller)),
                Agent.visibility == "public",
            )
        )
        .subquery()
    )
    of_each = lateral(newest.where(Execution.agent_id == agents.c.id))
    of_agents = select(of_each.c.id).select_from(agents.join(of_each, true()))
    found = union(select(own.c.id), of_agents).subquery()
    return select(found.c.id).order_by(found.c.id.desc()).limit(limit)
