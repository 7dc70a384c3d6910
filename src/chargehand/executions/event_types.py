"""The closed table of event types (SPEC EXE-10): what each tells, and its fields. Pure.

docs/reference/events.md is made of it. Tests hold that no other type is written, and that what runs
tell has these fields and no others.
"""

from typing import NamedTuple


class EventField(NamedTuple):
    """A field of an event's data. ``when``: the only events of the type that have it."""

    name: str
    kind: str
    meaning: str
    when: str = ""


class EventType(NamedTuple):
    name: str
    meaning: str
    fields: tuple[EventField, ...]
    in_user_topic: bool = True
    """False: only the run's own stream tells it."""


CLAIMED = "a worker begins or goes on with the run"
HANDED_OVER = "a worker gives the run back to its queue"
ENDED = "the run has ended"
ASKED = "`kind` is `input`"
ASKED_FOR_MORE = "the answer is to be of some form"
CALLED = "`kind` is `tools`"
FILTERED = "the payload matters"

_STEP = EventField("step_number", "integer", "The step's number in the run, from 1.")
_STEP_KIND = EventField("step_type", "string", "`model` or `tool`.")
_TOOL = EventField("tool_name", "string", "The tool.")
_TOOL_CALL = EventField("call_id", "string", "The model's id of the call.")
_DURATION = EventField("duration_ms", "integer", "How long it took, in milliseconds.")
_STEPS = EventField("step_count", "integer", "Finished steps.")
_TOKENS = EventField("token_usage", "integer", "Tokens so far, input and output together.")
_STEPS_AGAIN = EventField("steps", "integer", "The same as `step_count`.")
_COST = EventField("cost", "string", "An exact decimal, in the execution's currency.")
_USAGE = EventField("usage", "object", "The tokens in detail, as `TokenCounts` of the routes.")
_CALLS = EventField("calls", "list of objects", "`call_id`, `tool_name` and `arguments` of each.")


def _wait(*kinds: str) -> tuple[EventField, ...]:
    """The fields of every event that tells of an open wait of one of these kinds."""
    named = " or ".join(f"`{kind}`" for kind in kinds)
    return (
        EventField("wait", "integer", "The number of the wait; answers can name it."),
        EventField("kind", "string", f"{named}, as in `waiting_for` of the execution."),
        EventField("call_id", "string", "The model's id of the call that waits."),
        EventField("opened_at", "string", "Since when it waits."),
        EventField("deadline_at", "string or null", "Until when it waits; null: for ever."),
        EventField(
            "on_deadline", "string or null", "What happens then: `fail`, `continue` or `cancel`."
        ),
    )


EVENT_TYPES = (
    EventType(
        "status.changed",
        "The run has another status, or another worker.",
        (
            EventField("status", "string", "The status of the execution from now on."),
            _STEPS,
            _TOKENS,
            EventField("completed_at", "string or null", "When it ended; null: it goes on."),
            EventField(
                "epoch",
                "integer",
                "Counts the claims of the run.",
                "the run has not ended",
            ),
            EventField("worker", "string", "The worker's name.", CLAIMED),
            EventField("taken_over", "boolean", "Whether another worker was lost.", CLAIMED),
            EventField(
                "reason",
                "string",
                "`chunk`: others have their turn; `drain`: the worker is about to stop.",
                HANDED_OVER,
            ),
            _STEPS_AGAIN._replace(when=ENDED),
            _COST._replace(when=ENDED),
            _USAGE._replace(when=ENDED),
        ),
    ),
    EventType("step.started", "A step begins.", (_STEP, _STEP_KIND)),
    EventType(
        "step.completed",
        "A step is finished and stored: no other worker repeats it.",
        (
            _STEP,
            _STEP_KIND,
            EventField("has_tool_calls", "boolean", "Whether the model asked for tools."),
            EventField("tool_names", "list of strings", "The tools that it asked for."),
            EventField("tokens_used", "integer", "The tokens of the step."),
            _DURATION,
            _COST._replace(meaning="The step's cost, an exact decimal."),
        ),
    ),
    EventType(
        "tool.started",
        "A tool is about to be called.",
        (
            _STEP,
            _TOOL,
            _TOOL_CALL,
            EventField(
                "arguments", "any", "What the model calls it with: JSON, else the model's text."
            ),
        ),
    ),
    EventType(
        "tool.completed",
        "A tool has answered.",
        (
            _STEP,
            _TOOL,
            _TOOL_CALL,
            EventField(
                "error",
                "object or null",
                "Its `outcome` and its `message`; null where the tool succeeded.",
            ),
            EventField("output_preview", "string", "How its result begins."),
            _DURATION,
        ),
    ),
    EventType(
        "output.delta",
        "The model's text goes on.",
        (EventField("text", "string", "What comes behind the text so far."),),
        in_user_topic=False,
    ),
    EventType(
        "output.reset",
        "The text of this step so far is void; what follows begins it anew.",
        (EventField("reason", "string", "Why, for people."),),
        in_user_topic=False,
    ),
    EventType(
        "input.requested",
        "The run waits for an answer to its question, or for results of the tools of its caller.",
        (
            *_wait("input", "tools"),
            EventField("question", "string", "What the agent asks.", ASKED),
            EventField("answer_schema", "object", "JSON Schema of the answer.", ASKED_FOR_MORE),
            _CALLS._replace(when=CALLED),
        ),
    ),
    EventType(
        "approval.requested",
        "The run waits until persons have approved, or one has denied, a call of a tool.",
        (
            *_wait("approval"),
            _CALLS._replace(meaning="The call, with `call_id`, `tool_name` and `arguments`."),
            EventField(
                "reason",
                "string",
                "`needs_approval`: the agent's configuration says so; `interrupted`: the call was "
                "cut short, and may have had its effect.",
            ),
            EventField("persons", "integer", "How many different persons must approve."),
        ),
    ),
    EventType(
        "event.awaited",
        "The run waits for an event of the organization, because its model asked to.",
        (
            *_wait("event"),
            EventField("event_type", "string", "The type of the event."),
            EventField("filter", "object", "What its payload must have.", FILTERED),
        ),
    ),
    EventType(
        "log",
        "A line of the execution's log; only for keys with the scope `executions:read`.",
        (
            EventField("id", "integer", "The line's number in the run."),
            EventField("level", "string", "`debug`, `info`, `warning` or `error`."),
            EventField("event_type", "string", "What it tells of, like `step.model`."),
            EventField("message", "string", "What happened, for people."),
            EventField("context", "object", "The facts of it; they depend on `event_type`."),
            EventField("at", "string", "When it was written."),
        ),
        in_user_topic=False,
    ),
    EventType(
        "usage",
        "A call of a model is booked; a step has one for each call that it took.",
        (
            EventField("call_id", "string", "The call's id, as in the attempts of a step."),
            EventField("provider", "string", "The model's provider."),
            EventField("model", "string", "The model."),
            EventField("input_tokens", "integer", "All that went to the model."),
            EventField("output_tokens", "integer", "All that the model made."),
            _COST._replace(meaning="The call's cost, an exact decimal."),
            EventField(
                "price_source", "string or null", "Who states the price; null: none is known."
            ),
        ),
    ),
    EventType(
        "done",
        "The run has ended; nothing follows.",
        (
            EventField("status", "string", "`completed`, `failed` or `cancelled`."),
            EventField(
                "error",
                "object or null",
                "Its `code`, `message` and `details`; null: it did not fail.",
            ),
            _STEPS_AGAIN,
            _STEPS,
            _TOKENS,
            _COST,
            _USAGE,
        ),
    ),
)
