"""Checks: the invariants, run on a reward function.

Goes in: a reward in the signature of a trainer, and what answers look like. Comes out: a `Report`,
a failed assertion, or a class of tests for pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

from rankreward.errors import InputError, require
from rankreward.explain import nearest
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer
from rankreward.testing.invariants import INVARIANTS
from rankreward.testing.layouts import Layout, ReferenceForm
from rankreward.testing.report import Counterexample, Finding, Report, RewardFailure
from rankreward.testing.signatures import Caller, SignatureName, make_caller
from rankreward.testing.trial import Invariant, Trial, Violation

hypothesis: Any = require("hypothesis", extra="testing")

EXAMPLES = 100


def check_reward(
    reward: Any,
    layout: Any = None,
    *,
    signature: SignatureName = "ours",
    invariants: Iterable[str | Invariant] | None = None,
    skip: Collection[str] = (),
    max_examples: int = EXAMPLES,
    bounds: tuple[float, float] | None = None,
    frame: tuple[int, int] | None = None,
    references: ReferenceForm | Callable[[Any], Any] | None = None,
    thought: str | None = None,
    reference: str = "solution",
    columns: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Report:
    """Run the invariants on a reward function.

    Examples are the same in each run of the same program unless a seed is given; none is kept
    on disk.

    Args:
        reward: a function in one of the signatures below; or a `Scorer`, whose window is not
            moved; or a recipe, by name or as a `Recipe`, which is scored by `warmed`.
        layout: what answers look like: the name of a schema, whatever `Scorer` takes as a recipe,
            or a `Layout`. Known for scorers and recipes.
        signature: how the function is called: ``ours``, ``fn(completions, references)``, which
            returns B numbers; ``trl``, by keyword, completions as chat messages, B numbers;
            ``verl``, by keyword, one completion a call, a number or a mapping with ``score``;
            ``easyr1``, a list of mappings, B mappings with ``overall``.
        invariants: which to check: names, or invariants of your own; all of `INVARIANTS` unless
            given.
        skip: names that are not checked.
        max_examples: how many examples of each invariant are tried.
        bounds: the least and the most that the reward pays; `bounded` is checked where given.
        frame: for a schema: width and height of the frame of boxes and points; 840 x 840 unless
            given.
        references: how references are written: ``json`` (the default), ``data``, ``tagged``, or a
            function of the objects for a form of your own.
        thought: the reasoning of well-formed completions; "I compare." unless given. Needed where
            a reward looks at it.
        reference: the column that holds the reference, for TRL.
        columns: what else a row of the dataset holds: name to a value for all rows, or a function
            of the completion.
        arguments: further keyword arguments of each call, as they are.
        seed: another choice of examples.

    Returns:
        A report with a finding for each invariant; where `returns` is broken the others are not
        checked.

    Raises:
        InputError: an argument makes no sense.
        ConfigError: a recipe cannot be understood.

    Example:
        >>> from rankreward.testing import check_reward
        >>> def pays_length(completions, references):
        ...     return [float(len(text)) for text in completions]
        >>> report = check_reward(pays_length, "boxes", invariants=["returns", "duplicates"])
        >>> print(report["duplicates"].counterexample.calls[0].paid)
        (69.0, 96.0)
    """
    check = Check.of(
        reward,
        layout,
        signature=signature,
        invariants=invariants,
        skip=skip,
        max_examples=max_examples,
        bounds=bounds,
        frame=frame,
        references=references,
        thought=thought,
        reference=reference,
        columns=columns,
        arguments=arguments,
        seed=seed,
    )
    return Report(check.caller_name, tuple(check.findings()))


def assert_reward(reward: Any, layout: Any = None, **options: Any) -> None:
    """Run the invariants on a reward function, and raise if one is broken.

    Args:
        reward: as for `check_reward`.
        layout: as for `check_reward`.
        **options: as for `check_reward`.

    Raises:
        RewardFailure: an invariant is broken; an AssertionError whose message is the report.
    """
    check_reward(reward, layout, **options).assert_passed()


def reward_tests(reward: Any, layout: Any = None, **options: Any) -> type:
    """A class of tests, one an invariant, for a test module.

        TestMyReward = reward_tests(my_reward, "grounding_list", signature="trl")

    Args:
        reward: as for `check_reward`.
        layout: as for `check_reward`.
        **options: as for `check_reward`.

    Returns:
        A class that pytest collects where its name begins with ``Test``. A test of an invariant
        that cannot be asked of such a reward is skipped.
    """
    check = Check.of(reward, layout, **options)

    def test(self: Any, name: str) -> None:
        """What the reward promises."""
        __tracebackhide__ = True
        del self
        check.run(name)

    pytest: Any = require("pytest", extra="testing")
    marked = pytest.mark.parametrize("name", check.names)(test)
    return type(
        "TestReward", (), {"test": marked, "__doc__": f"What {check.caller_name} promises."}
    )


@dataclass
class Check:
    """The invariants that are to be run on a reward, and how; one at a time, or all."""

    caller: Caller
    layout: Layout
    chosen: tuple[Invariant, ...]
    skip: frozenset[str]
    bounds: tuple[float, float] | None
    max_examples: int
    seed: int | None
    caller_name: str = ""
    _returns: list[Finding] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        reward: Any,
        layout: Any = None,
        *,
        signature: SignatureName = "ours",
        invariants: Iterable[str | Invariant] | None = None,
        skip: Collection[str] = (),
        max_examples: int = EXAMPLES,
        bounds: tuple[float, float] | None = None,
        frame: tuple[int, int] | None = None,
        references: ReferenceForm | Callable[[Any], Any] | None = None,
        thought: str | None = None,
        reference: str = "solution",
        columns: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Check:
        """As `check_reward`, but nothing has been run yet."""
        if layout is None:
            layout = _layout_of(reward)
        made = Layout.of(layout, frame=frame, references=references, thought=thought)
        caller = make_caller(reward, signature, made, reference, columns or {}, arguments or {})
        chosen = tuple(INVARIANTS if invariants is None else map(_invariant, invariants))
        unknown = set(skip) - {each.name for each in (*INVARIANTS, *chosen)}
        if unknown:
            hint = nearest(min(unknown), [each.name for each in INVARIANTS])
            raise InputError(f"skip: no invariant {min(unknown)!r}: {hint}")
        if isinstance(max_examples, bool) or not isinstance(max_examples, int) or max_examples < 1:
            raise InputError(f"max_examples: expected a whole number from 1, got {max_examples!r}")
        if bounds is not None and not _are_bounds(bounds):
            raise InputError(
                f"bounds: expected two numbers, the least and the most, got {bounds!r:.60}"
            )
        name = reward if isinstance(reward, str) else _name_of(reward)
        return cls(caller, made, chosen, frozenset(skip), bounds, max_examples, seed, name)

    @property
    def names(self) -> list[str]:
        """The names of the invariants, in their order; without those to be skipped."""
        return [each.name for each in self.chosen if each.name not in self.skip]

    def findings(self) -> list[Finding]:
        """What comes of each invariant."""
        return [self.finding(each) for each in self.chosen]

    def finding(self, invariant: Invariant) -> Finding:
        """What comes of one invariant."""
        why = self._why_not(invariant)
        if why:
            return _finding(invariant, "skipped", note=why)
        if invariant.name == "returns":
            return self._readable()
        if self._readable().status == "failed":
            return _finding(invariant, "skipped", note="not checked, for `returns` is broken")
        return self._run(invariant)

    def run(self, name: str) -> None:
        """Check one invariant, inside a test.

        Raises:
            RewardFailure: it is broken.
        """
        __tracebackhide__ = True
        found = self.finding(next(each for each in self.chosen if each.name == name))
        if found.status == "skipped":
            require("pytest", extra="testing").skip(found.note)
        if found.status == "failed":
            raise RewardFailure(str(found))

    def _why_not(self, invariant: Invariant) -> str:
        if invariant.name in self.skip:
            return "skipped as asked"
        if invariant.name == "bounded" and self.bounds is None:
            return "no bounds were given"
        return invariant.applies(self.layout)

    def _readable(self) -> Finding:
        """What comes of the invariant that all others rest on; found once."""
        if not self._returns:
            self._returns.append(self._run(INVARIANTS[0]))
        return self._returns[0]

    def _run(self, invariant: Invariant) -> Finding:
        tried = _Tried()
        one = partial(self._once, invariant, tried)
        try:
            if invariant.drawn:
                self._search(one)
            else:
                one(None)
        except Violation as violation:
            return _finding(invariant, "failed", tried, violation.counterexample)
        except (hypothesis.errors.Unsatisfiable, hypothesis.errors.UnsatisfiedAssumption):
            why = "the reward raised, or paid None, on every example"
            return _finding(invariant, "skipped", tried, note=why)
        except hypothesis.errors.Flaky:
            assert tried.last is not None
            return _finding(invariant, "failed", tried, _not_always(tried.last))
        return _finding(invariant, "passed", tried)

    def _once(self, invariant: Invariant, tried: _Tried, data: Any) -> None:
        tried.count += tried.last is None
        trial = Trial(self.layout, self.caller, self.bounds, invariant.strict, data)
        try:
            invariant.check(trial)
        except Violation as violation:
            tried.last = violation.counterexample
            raise

    def _search(self, one: Callable[[Any], None]) -> None:
        """Let Hypothesis look for an example that breaks it, and for the smallest."""
        phases = hypothesis.Phase
        quiet = hypothesis.settings(
            max_examples=self.max_examples,
            database=None,
            derandomize=self.seed is None,
            deadline=None,
            phases=(phases.explicit, phases.generate, phases.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=hypothesis.Verbosity.quiet,
        )

        def run(data: Any) -> None:
            one(data)

        search = hypothesis.given(hypothesis.strategies.data())(run)
        if self.seed is not None:
            search = hypothesis.seed(self.seed)(search)
        quiet(search)()


@dataclass
class _Tried:
    """How many examples were tried before the first that failed, and the last that did."""

    count: int = 0
    last: Counterexample | None = None


def _finding(
    invariant: Invariant,
    status: Any,
    tried: _Tried | None = None,
    counterexample: Counterexample | None = None,
    note: str = "",
) -> Finding:
    return Finding(
        invariant.name,
        invariant.statement,
        invariant.reason,
        status,
        0 if tried is None else tried.count,
        counterexample,
        note,
    )


def _not_always(found: Counterexample) -> Counterexample:
    expected = f"{found.expected}; this came once and not again, the reward is not deterministic"
    return Counterexample(found.calls, expected, found.code)


def _invariant(given: str | Invariant) -> Invariant:
    if isinstance(given, Invariant):
        return given
    known = {each.name: each for each in INVARIANTS}
    if given not in known:
        raise InputError(f"invariants: no {given!r}: {nearest(given, [*known])}")
    return known[given]


def _are_bounds(given: Any) -> bool:
    pair = isinstance(given, list | tuple) and len(given) == 2
    return pair and all(isinstance(each, Real) for each in given) and given[0] <= given[1]


def _layout_of(reward: Any) -> Any:
    if isinstance(reward, Scorer):
        return reward.recipe
    if isinstance(reward, str | Recipe):
        return reward
    scorer = getattr(reward, "scorer", None)
    if isinstance(scorer, Scorer):
        return scorer.recipe
    raise InputError(
        "layout: expected a schema or a recipe that says what answers look like, such as "
        "'grounding_list', got None"
    )


def _name_of(reward: Any) -> str:
    if isinstance(reward, Scorer):
        return reward.recipe.name
    if isinstance(reward, Recipe):
        return reward.name
    return str(getattr(reward, "__name__", type(reward).__name__))
