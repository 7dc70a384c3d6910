"""The types of events, from their closed table."""

from collections.abc import Iterator

from tests.shape.reference.markdown import REFERENCE, Page, code, paragraphs, table

from chargehand.executions.event_types import EVENT_TYPES, EventField, EventType


def page() -> Page:
    return Page(
        REFERENCE / "events.md",
        {"types": _overview(), "fields": paragraphs(*map(_section, EVENT_TYPES))},
    )


def _overview() -> str:
    rows = [
        (f"[`{one.name}`](#{one.name.replace('.', '')})", _told_in(one), one.meaning)
        for one in EVENT_TYPES
    ]
    return table(("type", "stream", "what it tells"), rows)


def _told_in(one: EventType) -> str:
    return "run, user" if one.in_user_topic else "run"


def _section(one: EventType) -> str:
    fields = table(("field", "type", "meaning"), map(_row, one.fields))
    return paragraphs(f"### {one.name}", one.meaning, fields)


def _row(field: EventField) -> tuple[str, str, str]:
    return code(field.name), field.kind, " ".join(_meaning(field))


def _meaning(field: EventField) -> Iterator[str]:
    yield field.meaning
    if field.when:
        yield f"Only where {field.when}."
