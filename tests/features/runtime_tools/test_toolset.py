"""Looking up, checking, calling and capping tools; the two that keep state."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.kernel.identifiers import ExecutionId, OrganizationId, new_id
from chargehand.runtime.toolset import (
    TOOLS_OF,
    Tool,
    ToolContext,
    ToolFailed,
    Toolset,
    capped,
)

TOOLSET = Toolset({"files": {}, "todo": {}, "metadata": {}})


@pytest.fixture
def context() -> ToolContext:
    return ToolContext(OrganizationId(new_id()), ExecutionId(new_id()), new_id())


async def failure(context: ToolContext, name: str, arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await TOOLSET.call(name, arguments, context)
    return caught.value


def test_the_model_is_told_of_the_agents_tools_only() -> None:
    names = [definition.name for definition in TOOLSET.definitions()]
    assert names == [
        *("read_file", "list_dir", "search_files", "todo_write"),
        *("metadata_read", "metadata_write"),
    ]
    todo = Toolset({"todo": {}})
    assert [definition.name for definition in todo.definitions()] == ["todo_write"]
    assert todo.get("read_file") is None
    for definition in TOOLSET.definitions():
        tool = TOOLSET.get(definition.name)
        assert tool is not None
        assert definition.parameters_json_schema == tool.parameters


async def test_an_unknown_tool_names_the_nearest(context: ToolContext) -> None:
    error = await failure(context, "readfile", {})
    assert "Did you mean read_file?" in error.message
    assert "metadata_write" in error.message
    with pytest.raises(ToolFailed, match="no tools"):
        await Toolset({}).call("read_file", {}, context)


async def test_every_violation_is_named_with_its_place(context: ToolContext) -> None:
    error = await failure(context, "todo_write", {"todos": [{"content": 7}, {"x": 1}], "y": 2})
    places = {violation["pointer"] for violation in error.details["violations"]}
    assert places >= {"/todos/0", "/todos/0/content", "/todos/1", ""}
    for place in ("/todos/0/content", "'y' was unexpected", '"status" is a required property'):
        assert place in error.message


@pytest.mark.parametrize("arguments", ["{", "[]", "7", "null", "NaN", '{"path": "a"} x'])
async def test_arguments_that_are_no_object_are_told(context: ToolContext, arguments: str) -> None:
    assert "JSON" in (await failure(context, "read_file", arguments)).message


@pytest.mark.parametrize("arguments", ["", " ", None, {}, "{}"])
async def test_no_arguments_are_an_empty_object(context: ToolContext, arguments: Any) -> None:
    assert await TOOLSET.call("metadata_read", arguments, context) == "{}"


async def test_a_huge_argument_does_not_come_back_in_the_error(context: ToolContext) -> None:
    error = await failure(context, "read_file", {"path": "x" * 1_000_000})
    assert len(error.message) < 1_000


def answering(text: str, schema: dict[str, Any] | None = None) -> Toolset:
    async def run(_context: ToolContext, _arguments: dict[str, Any]) -> str:
        return text

    tool = Tool("say", "Says it.", schema or {"type": "object"}, "none", run)
    return Toolset({"own": {}}, {**TOOLS_OF, "own": lambda _options: [tool]})


async def test_a_long_answer_is_cut_in_the_middle(context: ToolContext) -> None:
    found = await answering("h" * 20_000 + "m" * 12_345 + "t" * 10_000).call("say", {}, context)
    assert found == "h" * 20_000 + "\n[… 12,345 characters cut …]\n" + "t" * 10_000


async def test_an_answer_can_be_stored(context: ToolContext) -> None:
    assert await answering("a\0b\udcffc").call("say", {}, context) == "a\ufffdb?c"


async def test_a_schema_reads_nothing_from_elsewhere(context: ToolContext) -> None:
    for uri in ("file:///etc/passwd", "http://127.0.0.1:1/schema.json"):
        with pytest.raises(ValueError, match="is not read"):
            await answering("", {"$ref": uri}).call("say", {}, context)


@given(st.text(max_size=200), st.integers(1, 100))
def test_capping_keeps_head_and_tail(text: str, characters: int) -> None:
    found = capped(text, characters)
    if len(text) <= characters:
        assert found == text
        return
    head, _, rest = found.partition(f"\n[… {len(text) - characters:,} characters cut …]\n")
    assert len(head) + len(rest) == characters
    assert text.startswith(head)
    assert text.endswith(rest)


async def test_the_list_of_todos_is_replaced_whole(context: ToolContext) -> None:
    todos = [
        {"content": "Read the code", "status": "completed"},
        {"content": "Write a test", "status": "in_progress"},
        {"content": "Fix it", "status": "pending"},
    ]
    found = await TOOLSET.call("todo_write", json.dumps({"todos": todos}), context)
    assert found == "1 of 3 done\n[x] Read the code\n[~] Write a test\n[ ] Fix it"
    assert context.state == {"todos": todos}
    assert await TOOLSET.call("todo_write", {"todos": []}, context) == "The list is empty now."
    assert context.state == {"todos": []}


@pytest.mark.parametrize(
    "todos",
    [
        [{"content": "x", "status": "done"}],
        [{"content": "", "status": "pending"}],
        [{"content": "x" * 301, "status": "pending"}],
        [{"content": "x", "status": "pending"}] * 51,
        [{"content": "x", "status": "pending", "id": 1}],
    ],
)
async def test_todos_that_do_not_fit_change_nothing(context: ToolContext, todos: Any) -> None:
    await TOOLSET.call("todo_write", {"todos": [{"content": "a", "status": "pending"}]}, context)
    await failure(context, "todo_write", {"todos": todos})
    assert [todo["content"] for todo in context.state["todos"]] == ["a"]


async def test_what_is_noted_can_be_read_again(context: ToolContext) -> None:
    for key, value in {"file": "a.py", "lines": [1, 2], "deep": {"x": None}}.items():
        await TOOLSET.call("metadata_write", {"key": key, "value": value}, context)
    assert json.loads(await TOOLSET.call("metadata_read", {}, context)) == {
        "file": "a.py",
        "lines": [1, 2],
        "deep": {"x": None},
    }
    some = await TOOLSET.call("metadata_read", {"keys": ["file", "gone"]}, context)
    assert some == '{\n  "file": "a.py"\n}\nNever written: gone'
    await TOOLSET.call("metadata_write", {"key": "file", "value": None}, context)
    assert set(context.state["metadata"]) == {"lines", "deep"}


async def test_notes_are_bounded_each_and_together(context: ToolContext) -> None:
    async def write(key: str, size: int) -> None:
        await TOOLSET.call("metadata_write", {"key": key, "value": "x" * (size - 2)}, context)

    with pytest.raises(ToolFailed, match="4,096 are allowed"):
        await write("large", 4_097)
    for number in range(3):
        await write(str(number), 4_096)
    await write("3", 4_000)
    before = dict(context.state["metadata"])
    with pytest.raises(ToolFailed, match="16,384 are allowed"):
        await write("4", 100)
    assert context.state["metadata"] == before
    await write("3", 100)
    assert len(json.dumps(context.state["metadata"])) < 16_384


async def test_a_call_leaves_the_state_that_it_was_given_untouched(context: ToolContext) -> None:
    """The loop hands over a copy of the state and keeps the old one for a call that is undone."""
    await TOOLSET.call("metadata_write", {"key": "a", "value": 1}, context)
    before, context.state = context.state, dict(context.state)
    await TOOLSET.call("metadata_write", {"key": "b", "value": 2}, context)
    assert before["metadata"] == {"a": 1}
