"""Where a reader of events stands: what is new, and where to go on. Pure."""

import re
from abc import ABC, abstractmethod
from dataclasses import replace

from chargehand_client.errors import ArgumentRefused, Unreachable
from chargehand_client.events import Event, Position, StatusChanged, read_event
from chargehand_client.executions import WAITING_FOR_A_PERSON
from chargehand_client.outgoing import path_of
from chargehand_client.requests import Request, parameters_of
from chargehand_client.retries import delay_s

# A connection that lasted this long was good, though nothing new came: a proxy's time limit on
# quiet streams must not end a run that waits for a person.
_GOOD_CONNECTION_S = 10.0
_ENDED_EARLY = "the stream ended too soon"
_USER_EVENT = re.compile("[0-9a-f]{16}-[0-9a-f]{32}-[0-9a-f]{8}")


class Resumption(ABC):
    """A stream's events, each exactly once and in order, over as many connections as it takes."""

    begins_now = False
    """Where it begins is said by the first message of the first connection."""

    def __init__(
        self, request: Request, tries: int, after: str | None, *, whose: str, remedy: str
    ) -> None:
        """Begin behind the event ``after``; ``whose`` and ``remedy`` are for the error's text."""
        self.ended = False
        self.last: str | None = after
        """The id behind which it goes on; None: from where it begins."""
        self._request = request
        self._tries = tries
        self._whose = whose
        self._remedy = remedy
        self._fruitless = 0
        self._opened = (0.0, after)

    def request(self) -> Request:
        """What opens the stream behind what was seen."""
        resumed = {} if self.last is None else {"Last-Event-ID": self.last}
        headers = {"Accept": "text/event-stream", **resumed}
        return replace(self._request, headers=headers)

    def opened(self, status: int, now_s: float) -> None:
        """A connection begins; status 204 says that nothing is behind what was seen."""
        self._opened = (now_s, self.last)
        self.ended = self.ended or status == 204

    @abstractmethod
    def seen(self, event_id: str, event_type: str, data: str) -> Event | None:
        """The event that came, or None where it is none, or came before. Raises ValueError."""

    def broken(self, reason: Exception | None, now_s: float) -> float:
        """Seconds to wait before the stream is opened again. Raises Unreachable to give up."""
        opened_s, before = self._opened
        good = self.last != before or now_s - opened_s >= _GOOD_CONNECTION_S
        self._fruitless = 0 if good else self._fruitless + 1
        if self._fruitless >= self._tries:
            raise Unreachable(
                f"The events of {self._whose} break off again and again: "
                f"{reason or _ENDED_EARLY}. {self._remedy}"
            )
        return delay_s(self._fruitless)


class RunResumption(Resumption):
    """The events of one run, from its beginning to ``done``."""

    def __init__(self, url: str, execution_id: str, tries: int, after: str | None = None) -> None:
        """Raises ArgumentRefused where ``after`` is no event's id."""
        request = Request(method="GET", path=path_of("executions", execution_id, "events"))
        remedy = f"The run goes on; look at it with GET {url}/api/v1/executions/{execution_id}."
        super().__init__(request, tries, after, whose=f"run {execution_id}", remedy=remedy)
        self.id = execution_id
        if after is not None:
            try:
                self.last = str(Position.parse(after))
            except ValueError as error:
                raise _no_id(after, "1.42") from error

    def seen(self, event_id: str, event_type: str, data: str) -> Event | None:
        position = Position.parse(event_id)
        event = read_event(event_id, event_type, data, self.id)
        if self.last is not None and position <= Position.parse(self.last):
            return None
        self.last = event_id
        self.ended = event.type == "done"
        return event


class UserResumption(Resumption):
    """The events of all runs of a user, from the moment of the first connection on, for ever."""

    def __init__(self, tries: int, user_id: str | None, after: str | None) -> None:
        """Raises ArgumentRefused for what is no event's id, and for a user that cannot be sent."""
        if after is not None and _USER_EVENT.fullmatch(after) is None:
            raise _no_id(after, f"{'0' * 16}-{'0' * 32}-{'0' * 8}")
        parameters = parameters_of({"user": user_id})
        request = Request(method="GET", path=path_of("me", "events"), parameters=parameters)
        remedy = "The runs go on; take them up again with the id of the last event as `after`."
        super().__init__(request, tries, after, whose="a user's runs", remedy=remedy)
        self.begins_now = after is None

    def seen(self, event_id: str, event_type: str, data: str) -> Event | None:
        # Such ids sort as their events do.
        if _USER_EVENT.fullmatch(event_id) is None:
            raise ValueError(f"{event_id!r} is no id of a user's topic")
        # The first message of the first connection is an id alone.
        event = read_event(event_id, event_type, data, None) if data else None
        if self.last is not None and event_id <= self.last:
            return None
        self.last = event_id
        return event


def needs_a_person(event: Event) -> bool:
    return isinstance(event, StatusChanged) and event.status in WAITING_FOR_A_PERSON


def _no_id(after: str, example: str) -> ArgumentRefused:
    return ArgumentRefused(
        f"{after[:60]!r} is not the id of an event. Give the id of one that came, as in {example}."
    )
