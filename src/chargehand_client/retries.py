"""When a request is sent again, after how long, and when it is given up. Pure."""

import random

from chargehand_client.errors import Unreachable, error_of
from chargehand_client.requests import Request

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
# A service that wants more time than this is not restarting.
_LONGEST_WISH_S = 30.0
_TRANSIENT = frozenset({502, 503, 504})


class Attempts:
    """The attempts at one request.

    A request that did not reach the service is always sent again; one whose answer was lost, or
    was "not now", only if it is ``repeatable``. ``was_answered``: this service answered before.
    """

    def __init__(self, request: Request, url: str, tries: int, *, was_answered: bool) -> None:
        self._request = request
        self._url = url
        self._tries = tries
        self._was_answered = was_answered
        self._made = 0

    def lost(self, error: Exception, *, arrived: bool) -> float:
        """Seconds to wait after no answer; ``arrived``: the request may have.

        Raises Unreachable where it is not sent again.
        """
        self._made += 1
        # Fewer where nobody was ever there: that is a wrong address, not a restart.
        most = self._tries if arrived or self._was_answered else min(3, self._tries)
        if self._made >= most or (arrived and not self._request.repeatable):
            raise no_answer(self._url, error) from error
        return delay_s(self._made)

    def refused(self, status: int, body: bytes) -> float:
        """Seconds to wait after an answer that is an error. Raises ApiError where it stands."""
        self._made += 1
        self._was_answered = True
        request = self._request
        error = error_of(status, body, f"{request.method} {self._url}/api/v1{request.path}")
        last = self._made >= self._tries or not request.repeatable or status not in _TRANSIENT
        wished_s = error.retry_after_s or 0.0
        if last or wished_s > _LONGEST_WISH_S:
            raise error
        return max(delay_s(self._made), wished_s)


def delay_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded, with jitter."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**failures)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads clients, protects nothing)


def no_answer(url: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"Chargehand at {url} does not answer: {error or type(error).__name__}. "
        "Check that it runs (`chargehand up`) and that CHARGEHAND_URL is its address."
    )


def another_service(url: str, status: int, content_type: str | None) -> Unreachable:
    return Unreachable(
        f"Something at {url} answers, but not as Chargehand does: status {status}, "
        f"{content_type or 'no content type'}. "
        "Check that CHARGEHAND_URL is the address of Chargehand."
    )
