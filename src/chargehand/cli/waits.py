"""What a run waits for, and what to type to answer it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any


def told_of(waiting: Mapping[str, Any], run: str) -> list[str]:
    """What a run waits for, and the commands that answer it, in lines for people.

    ``waiting`` is ``waiting_for`` of the execution, or the data of the event that tells of it.
    """
    return [*asked_of(waiting), *answers_to(waiting, run)]


def asked_of(waiting: Mapping[str, Any]) -> list[str]:
    """What a run waits for."""
    match waiting["kind"]:
        case "input":
            schema = waiting.get("answer_schema")
            form = "" if schema is None else f" (JSON Schema of the answer: {_json(schema)})"
            return [f"It asks: {waiting['question']}{form}"]
        case "tools":
            return ["It waits for your tools:", *_calls(waiting)]
        case "approval":
            if waiting["reason"] == "interrupted":
                first = "This call was cut short, and may have had its effect. Make it again?"
            else:
                persons = waiting["persons"]
                who = "a person has" if persons == 1 else f"{persons} persons have"
                first = f"It waits until {who} approved:"
            return [first, *_calls(waiting)]
        case _:
            payload = waiting.get("filter")
            having = f" with {_json(payload)}" if payload else ""
            return [f"It waits for the event {waiting['event_type']}{having}."]


def answers_to(waiting: Mapping[str, Any], run: str) -> list[str]:
    """Commands to be typed, with capitals for what is not known yet."""
    number = f"--wait {waiting['wait']}"
    match waiting["kind"]:
        case "input":
            return [f"answer with: chargehand executions input {run} ANSWER {number}"]
        case "tools":
            ids = [shlex.quote(call["call_id"]) for call in waiting["calls"]]
            results = " ".join(f"--result {call_id}=OUTPUT" for call_id in ids)
            return [f"answer with: chargehand executions input {run} {results} {number}"]
        case "approval":
            verbs = ("approve", "deny")
            return [f"{verb} with: chargehand executions {verb} {run} {number}" for verb in verbs]
        case _:
            words = [waiting["event_type"], _json(waiting.get("filter") or {})]
            return [f"send it with: chargehand events send {shlex.join(words)}"]


def _calls(waiting: Mapping[str, Any]) -> list[str]:
    return [f"  {call['tool_name']} {_json(call['arguments'])}" for call in waiting["calls"]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
