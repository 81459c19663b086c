"""Reports: what a check found, for people.

Goes in: findings. Comes out: text with the invariant that is broken, why it matters, the smallest
counterexample and the lines that show it again.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from rankreward.testing.snippets import code_of

Status = Literal["passed", "failed", "skipped"]
_MARK = {"passed": "ok    ", "failed": "FAILED", "skipped": "-     "}
_SHOWN = 400  # characters of a value in a report


class RewardFailure(AssertionError):  # noqa: N818 - it is a failed assertion, not an error
    """A reward function breaks an invariant; the message is the report."""


@dataclass(frozen=True)
class Call:
    """One call of the reward.

    Attributes:
        completions: B completions.
        references: B references.
        paid: B rewards, None where TRL is told that there is none; or what came instead of them.
    """

    completions: tuple[str, ...]
    references: tuple[Any, ...]
    paid: tuple[float | None, ...] | str


@dataclass(frozen=True)
class Counterexample:
    """Calls that an invariant does not allow.

    Attributes:
        calls: what was asked and paid, in order.
        expected: what should have been paid.
        code: lines of Python that make these calls and print what is paid.
    """

    calls: tuple[Call, ...]
    expected: str
    code: str = ""

    def __str__(self) -> str:
        lines: list[str] = []
        last: Any = object()
        for call in self.calls:
            paid: list[Any] = [call.paid] if isinstance(call.paid, str) else list(call.paid)
            paid += [""] * (len(call.completions) - len(paid))
            for text, reference, each in zip(call.completions, call.references, paid, strict=False):
                if repr(reference) != repr(last):
                    lines.append(f"reference   {_cut(code_of(reference))}")
                last = reference
                lines.append(f"completion  {_cut(code_of(text))}")
                lines.append(f"  paid      {each if isinstance(each, str) else _number(each)}")
        return "\n".join([*lines, f"expected    {self.expected}"])


@dataclass(frozen=True)
class Finding:
    """What came of one invariant.

    Attributes:
        name: the invariant.
        statement: what it says.
        reason: why it matters.
        status: ``passed``, ``failed`` or ``skipped``.
        examples: how many were tried until the first that failed, or in all.
        counterexample: the smallest that was found, if it failed.
        note: why it was skipped.
    """

    name: str
    statement: str
    reason: str
    status: Status
    examples: int = 0
    counterexample: Counterexample | None = None
    note: str = ""

    def line(self) -> str:
        """The finding in one line."""
        if self.status == "skipped":
            return f"{_MARK[self.status]} {self.name:<20} {self.note}"
        tried = f"{self.examples} example" + "s" * (self.examples != 1)
        return f"{_MARK[self.status]} {self.name:<20} {self.statement} ({tried})"

    def __str__(self) -> str:
        if self.counterexample is None:
            return self.line()
        parts = [
            f"{self.name}: {self.statement}",
            textwrap.indent(textwrap.fill(f"why: {self.reason}", 96), "  "),
            textwrap.indent(str(self.counterexample), "  "),
        ]
        if self.counterexample.code:
            parts += ["  reproduce", textwrap.indent(self.counterexample.code, "    ")]
        return "\n".join(parts)


@dataclass(frozen=True)
class Report:
    """What a check of a reward function found.

    Attributes:
        reward: the name of the function.
        findings: one for each invariant.
    """

    reward: str
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The invariants that are broken."""
        return tuple(each for each in self.findings if each.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether none is."""
        return not self.failures

    def __getitem__(self, name: str) -> Finding:
        """The finding of an invariant.

        Raises:
            KeyError: there is none of this name; the message has those there are.
        """
        known = {each.name: each for each in self.findings}
        if name not in known:
            raise KeyError(f"no finding {name!r}, there are {', '.join(known)}")
        return known[name]

    def __str__(self) -> str:
        checked = sum(each.status != "skipped" for each in self.findings)
        head = f"{self.reward}: {len(self.failures)} of {checked} invariants are broken"
        lines = [head, *(each.line() for each in self.findings)]
        return "\n".join(["\n".join(lines), *(f"\n{each}" for each in self.failures)])

    def assert_passed(self) -> None:
        """Raise if an invariant is broken.

        Raises:
            RewardFailure: one is; an AssertionError whose message is the report.
        """
        if not self.passed:
            raise RewardFailure(str(self))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]} ... {text[-15:]}"


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:.6g}"
