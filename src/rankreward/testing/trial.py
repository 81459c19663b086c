"""Trials: one example of an invariant, and the invariant itself.

Goes in: a reward and a source of examples. Comes out: what the reward paid, and `Violation` where
that is not allowed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankreward.errors import require
from rankreward.testing.layouts import Layout
from rankreward.testing.report import Call, Counterexample
from rankreward.testing.signatures import Caller, WrongReturn

TOLERANCE = 1e-9  # of equal rewards; sums in another order differ by less
_KEPT = 8  # calls that a counterexample shows


class Violation(Exception):  # noqa: N818 - data of a check, never raised to users
    """An example that breaks an invariant."""

    def __init__(self, counterexample: Counterexample) -> None:
        super().__init__(counterexample.expected)
        self.counterexample = counterexample


@dataclass
class Trial:
    """One example: draws what the policy wrote, asks what it is paid, states what was expected.

    Attributes:
        layout: writes completions and references.
        bounds: the least and the most that the reward says it pays, or None.
    """

    layout: Layout
    caller: Caller
    bounds: tuple[float, float] | None = None
    strict: bool = False  # whether an exception of the reward breaks the invariant
    data: Any = None
    made: list[Call] = field(default_factory=list)

    def draw(self, strategy: Any) -> Any:
        """A value of a Hypothesis strategy."""
        return self.data.draw(strategy)

    def assume(self, condition: bool) -> None:  # noqa: FBT001 - as Hypothesis has it
        """Give up this example unless the condition holds."""
        require("hypothesis", extra="testing").assume(condition)

    def score(self, completions: Sequence[str], references: Sequence[Any]) -> list[float]:
        """What a batch of B completions with B references is paid.

        Where the reward raises, or returns what its trainer cannot read, the example is given up:
        the invariants `returns` and `finite` are about that. So it is where TRL is told of each
        that there is no reward (None); beside other rewards such a one is NaN here.
        """
        calls = self.caller.calls(completions, copy.deepcopy(list(references)))
        paid = self._paid(completions, references, calls)
        self.made.append(Call(tuple(completions), tuple(references), tuple(paid)))
        if self.data is not None and not self.strict:
            self.assume(any(each is not None for each in paid))
        return [math.nan if each is None else each for each in paid]

    def against(self, completions: Sequence[str], truth: Any) -> list[float]:
        """What completions are paid where this answer is the right one for each of them."""
        return self.score(completions, [self.layout.reference(truth)] * len(completions))

    def pay(self, answer: Any, truth: Any) -> float:
        """What a well-formed completion with this answer is paid, alone."""
        return self.against([self.layout.text(answer)], truth)[0]

    def expect(self, condition: bool, expected: str) -> None:  # noqa: FBT001 - as assert has it
        """Break the invariant unless the condition holds.

        Args:
            condition: what should be so.
            expected: how the report says what should have been paid.
        """
        if not condition:
            raise Violation(self.counterexample(self.made, expected))

    def unchanged(self, completions: Sequence[str], references: Sequence[Any]) -> bool:
        """Whether a call leaves its arguments as they are."""
        calls = self.caller.calls(completions, references)
        before = copy.deepcopy(calls)
        paid = self._paid(completions, references, calls)
        self.made.append(Call(tuple(completions), tuple(references), tuple(paid)))
        return _same(before, calls)

    def _paid(
        self, completions: Sequence[str], references: Sequence[Any], calls: list[Any]
    ) -> list[float | None]:
        try:
            return self.caller.pay(calls, len(completions))
        except Exception as error:  # whatever it is, it would end or falsify a run
            if not self.strict:
                self.assume(condition=False)
            if isinstance(error, WrongReturn):
                got, expected = "what the trainer cannot read", str(error)
            else:
                got = f"nothing: it raised {type(error).__name__}: {error!s:.200}"
                expected = "a reward for any text of a policy"
            self.made.append(Call(tuple(completions), tuple(references), got))
            raise Violation(self.counterexample(self.made, expected)) from error

    def counterexample(self, calls: Sequence[Call], expected: str) -> Counterexample:
        """Calls that are not as they should be, with the lines that make them again."""
        kept = tuple(calls[-_KEPT:])
        code = "\n".join(self.caller.code(call.completions, call.references) for call in kept)
        return Counterexample(kept, expected, f"{self.caller.imports(code)}\n{code}".strip())


@dataclass(frozen=True)
class Invariant:
    """Something that a reward promises for whatever the policy writes.

    Attributes:
        name: its name.
        statement: what is promised, in one line.
        reason: why that matters, or who broke it.
        check: draws an example from a `Trial` and says with `Trial.expect` what should be so.
        applies: why it cannot be asked of rewards with such a layout; empty if it can.
        strict: whether an exception of the reward breaks it.
        drawn: whether it draws; else it is checked once.
    """

    name: str
    statement: str
    reason: str
    check: Callable[[Trial], None]
    applies: Callable[[Layout], str] = lambda _: ""
    strict: bool = False
    drawn: bool = True


def _same(one: Any, other: Any) -> bool:
    """Whether two nests of plain values are equal, NaN to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 - NaN
