"""The wall clock, in one place, so that times are always aware and in UTC."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def milliseconds_between(start: datetime, end: datetime) -> int:
    """The true milliseconds from ``start`` to ``end``, rounded down."""
    span = end - start
    return span.days * 86_400_000 + span.seconds * 1000 + span.microseconds // 1000
