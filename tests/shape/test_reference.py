"""The reference is what the code says, and lacks nothing that the running code has (SPEC OPS-9)."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from tests.factories.described import described_app
from tests.shape.reference import (
    commands_page,
    errors_page,
    events_page,
    markdown,
    routes_page,
    settings_page,
)
from tests.shape.write_reference import WRITERS, written

import chargehand
import chargehand_client
from chargehand.cli import output
from chargehand.executions.event_types import EVENT_TYPES
from chargehand.settings import CLIENT_VARIABLES
from chargehand_client.events import KINDS, Event

DOCS = markdown.REFERENCE.parent
SERVICE = Path(chargehand.__file__).parent
CLIENT = Path(chargehand_client.__file__).parent


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return described_app().openapi()


def text_of(writer: Any) -> str:
    return writer.page().document.read_text()


def section(text: str, heading: str) -> str:
    """From a heading to the next one of its kind or of a higher one."""
    level = heading.partition(" ")[0]
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no {heading}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text, by their first cells."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    told = [[cell.replace(r"\|", "|").strip() for cell in row] for row in cells]
    return {row[0]: row for row in told}


@pytest.mark.parametrize("writer", WRITERS, ids=lambda one: one.__name__.rpartition(".")[2])
def test_each_page_is_as_the_code_has_it(writer: Any) -> None:
    page = writer.page()
    assert page.document.read_text() == written(page), "run: make reference"


def test_the_words_around_the_marks_are_kept() -> None:
    text = "Before.\n<!-- a -->\nold\n<!-- end of a -->\nAfter.\n"
    expected = "Before.\n<!-- a -->\nnew\n<!-- end of a -->\nAfter.\n"
    assert markdown.filled(text, {"a": "new"}) == expected
    with pytest.raises(AssertionError, match="is missing"):
        markdown.filled(text, {"b": "new"})


def test_each_route_of_the_application_has_its_entry() -> None:
    text, count = text_of(routes_page), 0
    for context in iter_route_contexts(described_app().routes):
        route: Any = context
        if not hasattr(route, "endpoint"):
            continue
        methods = getattr(route, "methods", None)
        for method in methods or ["WebSocket"]:
            entry = f"`{method} {route.path}`:" if methods else f"| `{route.path}` | "
            assert entry in text, (method, route.path)
            count += 1
    assert count > 35


def test_each_entry_of_a_route_says_all_of_it(document: dict[str, Any]) -> None:
    text = text_of(routes_page)
    found = routes_page.routes(document)
    common = routes_page.common_codes(found)
    for route in found:
        entry = section(text, f"#### {route.name}")
        assert route.operation["summary"] in entry
        assert all(f"`{scope}`" in entry for scope in route.scopes)
        assert f"`{route.role}`" in entry or route.role is None
        told = rows(entry)
        for parameter in route.operation.get("parameters", ()):
            assert told[f"`{parameter['name']}`"][-1], (route.name, parameter["name"])
        for status, response in route.operation["responses"].items():
            codes = set(response.get("x-error-codes", ())) - set(common)
            assert all(f"`{code}`" in entry for code in codes), route.name
            assert codes or "x-error-codes" in response or f"Answers {status}:" in entry


def test_each_body_and_shape_has_its_fields_with_their_meanings(document: dict[str, Any]) -> None:
    text = text_of(routes_page)
    for name, schema in document["components"]["schemas"].items():
        if name not in ("Error", "Violations", "StreamEvent") and not name.endswith("Page"):
            twin = re.sub("Output$", "Input", name)
            at = name if twin not in document["components"]["schemas"] else twin
            told = rows(shape_in(text, at))
            for field in schema["properties"]:
                assert told[f"`{field}`"][-1].endswith("."), (name, field)


def shape_in(text: str, name: str) -> str:
    """Where a shape has its table: its own place, or the first route that takes it."""
    if f"\n### {name}\n" in text:
        return section(text, f"### {name}")
    _, found, rest = text.partition(f": `{name}`. ")
    assert found, f"no shape {name}"
    return rest.partition("\n- Answers")[0]


def described(schema: Any, at: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each shape and each field below it, with its place."""
    yield at, schema
    for name, field in schema.get("properties", {}).items():
        yield from described(field, f"{at}.{name}")


def test_the_document_says_what_everything_means(document: dict[str, Any]) -> None:
    for route in routes_page.routes(document):
        for parameter in route.operation.get("parameters", ()):
            assert parameter["description"].endswith("."), (route.name, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        for at, one in described(schema, name):
            # A page is of a kind of item, and its own name says so.
            if not at.endswith("Page") and at not in REFERS:
                assert one.get("description", "").endswith("."), at


REFERS = {"Error.error.details.violations"}
"""Whose meaning is that of the shape they refer to alone."""


def test_each_error_is_in_the_page() -> None:
    told = rows(text_of(errors_page))
    for error in (*errors_page.HTTP_ERRORS, *errors_page.RUN_ERRORS):
        assert told[f"`{error.code}`"][-2:] == [error.meaning, error.remedy]


def test_each_event_has_its_entry_with_its_fields() -> None:
    text = text_of(events_page)
    assert len({one.name for one in EVENT_TYPES}) == len(EVENT_TYPES)
    for one in EVENT_TYPES:
        assert one.meaning.endswith(".")
        told = rows(section(text, f"### {one.name}"))
        assert told.keys() == {"field", "---", *(f"`{field.name}`" for field in one.fields)}
        for field in one.fields:
            assert field.meaning.endswith("."), (one.name, field.name)
            assert field.meaning in told[f"`{field.name}`"][-1]


def test_no_event_is_written_whose_type_is_not_in_the_table() -> None:
    """``tests/features/executions/test_event_types.py`` holds the same of what runs tell."""
    made = [
        argument.value
        for module in SERVICE.rglob("*.py")
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id in ("Event", "ToldEvent")
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant)
    ]
    assert {"output.delta", "tool.started", "usage"} <= set(made) <= {t.name for t in EVENT_TYPES}


def test_the_client_knows_each_event_and_no_field_that_it_has_not() -> None:
    assert {one.name for one in EVENT_TYPES} == KINDS.keys()
    of_all = {field.name for field in fields(Event)}
    for one in EVENT_TYPES:
        known = {field.name for field in fields(KINDS[one.name])} - of_all
        assert known <= {field.name for field in one.fields}, one.name


def test_each_setting_has_its_entry_with_a_meaning() -> None:
    told = rows(text_of(settings_page))
    for title, group in settings_page.groups().items():
        assert (group.__doc__ or "").endswith("."), title
        for name, field in settings_page.variables(group):
            _, default, values, meaning = told[f"`{name}`"]
            assert default == ("none" if field.default is None else f"`{field.default}`")
            assert values, name
            assert meaning.endswith("."), name
    for name, meaning in CLIENT_VARIABLES.items():
        assert meaning.endswith("."), name
        assert told[f"`{name}`"][-1] == meaning


def test_the_clients_settings_are_those_that_it_reads() -> None:
    sources = "".join(module.read_text() for module in CLIENT.rglob("*.py"))
    assert set(re.findall(r"\bCHARGEHAND_[A-Z_]+\b", sources)) == CLIENT_VARIABLES.keys()


def test_each_command_and_option_has_its_entry() -> None:
    text = text_of(commands_page)
    for one in commands_page.tree():
        entry = section(text, f"### {one.path}")
        assert commands_page.summary(one), one.path
        assert commands_page.summary(one) in entry.replace("\n", " "), one.path
        assert one.commands or "For example:" in entry, f"{one.path} has no example"
        told = rows(entry)
        for parameter in one.command.params:
            # One that is hidden, as those of all commands are, is told of once.
            place = text if parameter.hidden else entry
            names = parameter.opts if parameter.param_type_name == "option" else ()
            for name in names:
                assert re.search(rf"(?<![\w-]){name}\b", place), (one.path, name)
            if not parameter.hidden:
                record = parameter.get_help_record(one.context)
                row = told[commands_page.names_of(record[0])]
                assert re.sub(r"\[[^]]*\]$", "", row[-1]).strip(), (one.path, record[0])


def test_each_exit_code_has_its_meaning() -> None:
    codes = {value for name, value in vars(output).items() if re.fullmatch("[A-Z][A-Z_]+", name)}
    assert {
        0,
        *(code for code in codes if isinstance(code, int)),
    } == commands_page.EXIT_CODES.keys()


def test_each_document_is_in_the_index_of_its_folder() -> None:
    for folder in (DOCS, markdown.REFERENCE):
        index = (folder / "README.md").read_text()
        for document in folder.glob("*.md"):
            assert document.name == "README.md" or f"]({document.name})" in index, document


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as they are on GitHub."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", sorted(markdown.REFERENCE.glob("*.md")), ids=lambda p: p.name)
def test_each_link_to_a_heading_leads_to_one(document: Path) -> None:
    text = document.read_text()
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        there = (document.parent / target).read_text() if target else text
        assert anchor in anchors(there), f"{target}#{anchor}"


def test_the_reference_is_for_readers_without_the_sources() -> None:
    for page in markdown.REFERENCE.glob("*.md"):
        assert not re.search(r"SPEC|[^`]``[^`]|\bchargehand\.[a-z]+\.", page.read_text()), page.name
