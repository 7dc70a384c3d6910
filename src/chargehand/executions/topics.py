"""What can be followed: a run, or all runs of a user; and who may (SPEC EXE-10, TEN-5)."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chargehand.executions.live import Feed, Watch
from chargehand.executions.stories import (
    BEGINNING,
    Position,
    Stories,
    ToldEvent,
    parse_position,
)
from chargehand.executions.user_topics import UserTopics, parse_cursor
from chargehand.executions.views import find_controlled
from chargehand.kernel.database import Database
from chargehand.kernel.errors import Invalid, Violation
from chargehand.kernel.identifiers import ExecutionId, UserId
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.operations import get_member
from chargehand.tenancy.permissions import check_role, holds_scope
from chargehand.tenancy.subscription_tokens import Admitted

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TOPIC = re.compile(f"agent/({_UUID})|user/({_UUID})/agents")


@dataclass(frozen=True, slots=True)
class RunTopic:
    """One run, from its beginning to its end."""

    execution: ExecutionId

    def __str__(self) -> str:
        return f"agent/{self.execution}"


@dataclass(frozen=True, slots=True)
class UserTopic:
    """All runs of a user in one organization; see ``user_topics``."""

    user: UserId

    def __str__(self) -> str:
        return f"user/{self.user}/agents"


Topic = RunTopic | UserTopic


def parse_topic(text: str) -> Topic:
    """Raises Invalid."""
    match = _TOPIC.fullmatch(text)
    if match is None:
        raise Invalid(
            f"There is no topic {text[:100]!r}. The topics are agent/<execution id> and "
            "user/<user id>/agents.",
            violations=[Violation("/query/topic", "is not the name of a topic").as_json()],
        )
    if match[1]:
        return RunTopic(ExecutionId(UUID(match[1])))
    return UserTopic(UserId(UUID(match[2])))


async def check_may_follow(session: AsyncSession, caller: Caller, topic: Topic) -> None:
    """A run is for those who may control it, a user's runs are for the user and for admins.

    Raises ExecutionNotFound, MemberNotFound, Denied or RoleTooLow.
    """
    if isinstance(topic, RunTopic):
        await find_controlled(session, caller, topic.execution)
    elif topic.user != caller.user_id:
        check_role(caller, "admin")
        await get_member(session, caller.organization_id, topic.user)


@dataclass(frozen=True, slots=True)
class Opened:
    """A topic from a position on: ``follow`` needs a ``Watch`` that ``watching`` has given."""

    behind: str
    """The id of the event that it goes on behind."""
    begins_now: bool
    """``behind`` is the only way to come back to where it began."""
    endless: bool
    watching: Callable[[], AbstractContextManager[Watch]]
    follow: Callable[[Watch], AsyncIterator[ToldEvent | None]]
    is_over: bool
    """Nothing is behind the position, and nothing will be."""


def may_read_log(holder: Admitted) -> bool:
    """Whether the route of the log would answer who may follow the run: it takes no tokens."""
    return holder.topic is None and holds_scope(holder.caller, "executions:read")


class Topics:
    """The topics of this process."""

    def __init__(self, feed: Feed, database: Database) -> None:
        self._feed = feed
        self._database = database
        self._stories = Stories(feed, database)
        self._user_topics = UserTopics(database)

    async def open(self, holder: Admitted, topic: Topic, last_event_id: str | None) -> Opened:
        """Open a topic for who may follow it, behind the event with this id.

        It has been checked that a token opens it. Without an id a run is told from its beginning, a
        user's runs from now on. Raises Invalid for an id that is none, and what
        ``check_may_follow`` raises.
        """
        caller = holder.caller
        if isinstance(topic, RunTopic):
            position = parse_position(last_event_id)
            await self._check(caller, topic)
            over = position != BEGINNING and await self._stories.nothing_behind(
                caller.organization_id, topic.execution, position
            )
            return self._run(holder, topic.execution, position, is_over=over)
        cursor = parse_cursor(last_event_id)
        await self._check(caller, topic)
        begins_now = cursor is None
        cursor = cursor or await self._user_topics.now()
        return Opened(
            str(cursor),
            begins_now,
            True,
            partial(self._feed.watching_user, topic.user),
            partial(self._user_topics.follow, caller.organization_id, topic.user, cursor),
            is_over=False,
        )

    def open_started(self, holder: Admitted, execution: ExecutionId) -> Opened:
        """Open a run that the holder has started, from its beginning."""
        return self._run(holder, execution, BEGINNING, is_over=False)

    async def _check(self, caller: Caller, topic: Topic) -> None:
        async with self._database.transaction(caller.organization_id) as session:
            await check_may_follow(session, caller, topic)

    def _run(
        self, holder: Admitted, execution: ExecutionId, after: Position, *, is_over: bool
    ) -> Opened:
        organization, with_log = holder.caller.organization_id, may_read_log(holder)
        return Opened(
            str(after),
            False,
            False,
            partial(self._feed.watching_run, execution),
            partial(self._stories.follow, organization, execution, after, with_log=with_log),
            is_over=is_over,
        )
