"""The table of a contract suite: which case holds for which implementation, and why one does not.

A case is a test function with a title; its marker runs it for every implementation but those that
it excuses, each with a reason. The table in the documentation is made of the same markers, so that
it cannot say more than what is tested.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

Kind = Literal["ability", "fault"]


@dataclass(frozen=True)
class Case:
    kind: Kind
    title: str
    excused: Mapping[str, str]


@dataclass
class Contract:
    """The cases of one suite, in their order; ``argument`` is the fixture that they run on."""

    argument: str
    implementations: tuple[str, ...]
    cases: list[Case] = field(default_factory=list[Case])

    def ability(self, title: str, **excused: str) -> Callable[[Any], Any]:
        return self._case("ability", title, excused)

    def fault(self, title: str, **excused: str) -> Callable[[Any], Any]:
        return self._case("fault", title, excused)

    def _case(self, kind: Kind, title: str, excused: Mapping[str, str]) -> Callable[[Any], Any]:
        named = {name.replace("_", "-"): reason for name, reason in excused.items()}
        assert named.keys() <= set(self.implementations), named
        self.cases.append(Case(kind, title, named))
        run_on = [name for name in self.implementations if name not in named]
        return pytest.mark.parametrize(self.argument, run_on, indirect=True)

    def table(self) -> str:
        """Markdown: a row for each case, a column for each implementation, reasons below."""
        reasons: dict[str, int] = {}
        for case in self.cases:
            for reason in case.excused.values():
                reasons.setdefault(reason, len(reasons) + 1)
        head = ["", *self.implementations]
        lines = [_row(head), _row(["---"] * len(head))]
        for kind, heading in (("ability", "**abilities**"), ("fault", "**faults**")):
            lines.append(_row([heading, *[""] * len(self.implementations)]))
            lines += [_row(self._cells(c, reasons)) for c in self.cases if c.kind == kind]
        notes = [f"{number}. {reason}" for reason, number in reasons.items()]
        return "\n".join([*lines, "", *notes])

    def _cells(self, case: Case, reasons: Mapping[str, int]) -> list[str]:
        cells = (
            f"– ({reasons[case.excused[name]]})" if name in case.excused else "✓"
            for name in self.implementations
        )
        return [case.title, *cells]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
