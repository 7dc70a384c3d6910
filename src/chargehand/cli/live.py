"""A run as it is watched: its events as JSON Lines, or its answer and steps on the screen."""

import json
import sys
from typing import TYPE_CHECKING, Any

from chargehand.cli import options, output
from chargehand.cli.waits import told_of

if TYPE_CHECKING:
    from chargehand_client import Event, Execution, Run


REQUESTS = ("input.requested", "approval.requested", "event.awaited")
_TOLD_OTHERWISE = ("execution.taken_over", "execution.failed", "step.tool")
"""Lines of the log of which another event, or the end, has told already."""


def stream_lines(stream: "Run") -> "Execution":
    """One event a line, the run last."""
    for event in stream:
        print_line({"id": event.id, "type": event.type, "data": event.data})
    execution = stream.result()
    print_line({"type": "execution", "data": execution.document})
    return execution


def print_line(document: Any) -> None:
    """One of JSON Lines."""
    print(json.dumps(document, ensure_ascii=False, default=str), flush=True)


def show_live(stream: "Run") -> "Execution":
    """Steps and answer as they come."""
    live = Live(stream.id)
    live.line(f"run {stream.id}")
    for event in stream:
        live.show(event)
    execution = stream.result()
    live.end(execution)
    return execution


class Live:
    """A run on the screen: its answer on standard output, its steps on standard error.

    The answer is streamed where standard output is a terminal; elsewhere it is printed once, whole,
    at the end, for what was streamed may be taken back.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._steps = output.console(sys.stderr)
        self._streams = sys.stdout.isatty()
        self._within_line = False
        self._streamed = False

    def line(self, text: str, style: str = "dim") -> None:
        """A line of progress, or several."""
        if not options.given.quiet:
            self._tell(text, style)

    def _tell(self, text: str, style: str) -> None:
        self._break_line()
        shown = "\n".join(map(output.visible, text.splitlines()))
        self._steps.print(shown, style=style, markup=False)

    def show(self, event: "Event") -> None:
        from chargehand_client import OutputDelta, OutputReset

        if isinstance(event, OutputDelta):
            self._stream(event.text)
            return
        if isinstance(event, OutputReset):
            self._streamed = False
        if event.type in REQUESTS:
            # Also where only results are wanted: without an answer there is none.
            self._tell("\n".join(told_of(event.data, self._run)), "bold yellow")
        if event.type == "status.changed" and event.data.get("status") == "paused":
            command = f"chargehand executions resume {self._run}"
            self._tell(f"It is paused.\nresume with: {command}", "bold yellow")
        told = line_of(event)
        if told is not None:
            self.line(*told)

    def end(self, execution: "Execution") -> None:
        self._break_line()
        if execution.output is not None and not self._streamed:
            print(_as_text(execution.output), flush=True)
        if execution.error is not None:
            self._tell(f"{execution.error.code}: {execution.error.message}", "bold red")
        self.line(summary_of(execution), "green" if execution.status == "completed" else "bold red")

    def _stream(self, text: str) -> None:
        if not self._streams or not text:
            return
        sys.stdout.write(text)
        sys.stdout.flush()
        self._streamed = True
        self._within_line = not text.endswith("\n")

    def _break_line(self) -> None:
        if self._within_line:
            print(flush=True)
            self._within_line = False


def line_of(event: "Event") -> tuple[str, str] | None:
    """The line of progress that an event is worth, and its style."""
    from chargehand_client import (
        LogWritten,
        OutputReset,
        StatusChanged,
        StepCompleted,
        ToolCompleted,
    )

    match event:
        case StepCompleted(step_type="model"):
            does = f"calls {', '.join(event.tool_names)}" if event.tool_names else "answers"
            cost = f"{event.tokens_used:,} tokens  {seconds(event.duration_ms)}"
            return f"{event.step_number:>4}  model  {does}  {cost}", "cyan"
        case ToolCompleted():
            outcome, style = ("failed", "yellow") if event.error else ("ok", "dim")
            told = f"{event.tool_name}  {outcome}  {seconds(event.duration_ms)}"
            return f"{event.step_number:>4}  tool   {told}", style
        case StatusChanged(taken_over=True):
            return f"      taken over by worker {event.worker} (claim {event.epoch})", "yellow"
        case OutputReset():
            return f"      the answer begins again: {event.reason}", "yellow"
        case LogWritten(level="warning" | "error") if event.event_type not in _TOLD_OTHERWISE:
            return f"      {event.level}: {event.message}", "yellow"
        case _:
            return None


def summary_of(execution: "Execution") -> str:
    """One line: how it ended, how long it took, and what it cost."""
    parts = [
        f"{execution.status} in {seconds(execution.duration_ms or 0)}",
        f"{execution.steps} steps",
        f"{execution.usage.total_tokens:,} tokens",
        cost_of(execution),
    ]
    return ", ".join(parts)


def cost_of(execution: "Execution") -> str:
    cost = f"{execution.cost.normalize():f} {execution.currency}"
    return f"{cost} and what models without a price cost" if execution.unpriced else cost


def seconds(duration_ms: int) -> str:
    """A duration as it is shown: ``840 ms``, ``2.5 s``."""
    return f"{duration_ms} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.1f} s"


def _as_text(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False)
