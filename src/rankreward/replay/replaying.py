"""What the rollouts of a log would have earned under other recipes, and how far these agree.

Goes in: the log's rollouts, step by step, and two or more recipes. Comes out: `Replayed`: measures
of each recipe and of each two, with intervals, and the groups that two disagree about most. Each
recipe has a window of its own, which moves as it would have in training: with what it would have
measured, at each step's end. What it cannot know is what the policy would have learnt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rankreward.errors import InputError
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.replay.agreement import PAIR, Ratio, earned, pair_sums
from rankreward.replay.cases import Cases, Payment
from rankreward.replay.contestants import Contestant
from rankreward.replay.shares import own_measures, own_sums
from rankreward.replay.sums import Key, Measured, StepSums
from rankreward.rewards.scorer import RewardBatch
from rankreward.shaping.groups import group_index

BAD_SHOWN = 20  # rows that are named; all are counted
_HOPELESS = 1000  # bad rows with none before them that all recipes can pay
_NO_GROUPS = (
    "expected groups of two or more, without which there are no advantages to compare, got {}; "
    "name their column with --group, or say with --group-size how many answers to one question "
    "follow one another"
)


@dataclass(frozen=True, eq=False)
class Replayed:
    """What came out.

    Attributes:
        labels: of the recipes.
        steps: how many steps were compared.
        rows: how many rollouts.
        groups: how many groups.
        bad: how many rows were left out, for all recipes alike.
        bad_shown: the first of them.
        measures: of each recipe, then of each two.
        cases: the groups that two recipes disagree about most, pair by pair.
    """

    labels: tuple[str, ...]
    steps: int
    rows: int
    groups: int
    bad: int
    bad_shown: list[BadRow]
    measures: list[Measured]
    cases: list[dict[str, Any]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The labels of each two recipes."""
        return list(itertools.combinations(self.labels, 2))

    def get(self, name: str, *labels: str) -> Measured:
        """One measure of one recipe, or of two.

        Raises:
            KeyError: there is none.
        """
        wanted = (labels, name)
        found = next((each for each in self.measures if (each.labels, each.name) == wanted), None)
        if found is None:
            raise KeyError(wanted)
        return found

    def of(self, kind: str, label: str) -> dict[str, Measured]:
        """The shares of one kind, such as ``within``, by term or metric."""
        return {
            each.name.removeprefix(f"{kind}/"): each
            for each in self.measures
            if each.labels == (label,) and each.name.startswith(f"{kind}/")
        }


class Replay:
    """Pays rollouts by several recipes; `add` the chunks of a log in order, then ask for `done`.

    Args:
        contestants: two or more, with windows that have seen nothing.
        most: how many groups are kept for each two recipes.

    Cost:
        Scoring each rollout once a recipe. Memory for one chunk, `most` groups for each two
        recipes, and the sums of each step.
    """

    def __init__(self, contestants: Sequence[Contestant], *, most: int = 10) -> None:
        self.contestants = list(contestants)
        self._pairs = list(itertools.combinations(range(len(self.contestants)), 2))
        self._cases = {pair: Cases(most) for pair in self._pairs}
        self._sums = StepSums()
        self._measures = self._named_measures()
        self._bad = 0
        self._bad_shown: list[BadRow] = []

    def add(self, chunk: Chunk) -> None:
        """Pay the rollouts of a chunk; where a step ends with it, the windows move.

        Raises:
            InputError: the first rollout lacks what a recipe needs, or a group; none of the first
                thousand can be paid by all recipes; or one refuses rollouts that it takes one by
                one.
        """
        rows, batches = self._paid(self._usable(chunk))
        if rows:
            self._compare(chunk.step, rows, batches)
        elif not self._sums.steps and self._bad >= _HOPELESS:
            raise self._nothing()
        for each in self.contestants if chunk.ends else ():
            each.scorer.flush(chunk.step)

    def by_step(self) -> Iterator[dict[str, Any]]:
        """The measures of each step by itself, None where undefined.

        A mapping of ``step``, ``rows``, ``groups``, ``recipes`` and ``pairs``. A step without a
        rollout that all recipes can pay is left out.
        """
        label = (self.contestants[0].label,)
        for step, sums, values in self._sums.by_step(self._measures):
            figures: dict[str, Any] = {"step": step, "rows": int(sums[label, "rows"])}
            figures |= {"groups": int(sums[label, "groups"]), "recipes": {}, "pairs": {}}
            for (labels, name), value in values.items():
                kind = "recipes" if len(labels) == 1 else "pairs"
                own = figures[kind].setdefault(" against ".join(labels), {})
                own[name] = None if math.isnan(value) else value
            yield figures

    def done(self, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Replayed:
        """The measures of all that was added; see `StepSums.measured` for the intervals.

        Raises:
            InputError: there was no rollout that all recipes can pay, or no group of two.
        """
        if not self._sums.steps:
            raise self._nothing()
        label = (self.contestants[0].label,)
        both = (*label, self.contestants[1].label)
        if not self._sums.total(both, "pairs"):
            raise InputError(f"log: {_NO_GROUPS.format('none')}")
        return Replayed(
            labels=tuple(each.label for each in self.contestants),
            steps=len(self._sums.steps),
            rows=int(self._sums.total(label, "rows")),
            groups=int(self._sums.total(label, "groups")),
            bad=self._bad,
            bad_shown=self._bad_shown,
            measures=self._sums.measured(
                self._measures, resamples=resamples, level=level, seed=seed
            ),
            cases=[case for cases in self._cases.values() for case in cases.found()],
        )

    def _usable(self, chunk: Chunk) -> list[LogRow]:
        """The rollouts that every recipe can pay; the others are counted."""
        bad, rows = list(chunk.bad), list(chunk.rows)
        if rows and not self._sums.steps:
            self._check(rows)
        complete = [(row, self._lacking(row)) for row in rows]
        bad += [BadRow(row.place, f"expected {lack}, got none") for row, lack in complete if lack]
        rows = [row for row, lack in complete if not lack]
        self._leave_out(bad)
        for each in self.contestants:
            rows = self._without(rows, each.unreadable(rows) if rows else [])
        return rows

    def _paid(self, rows: list[LogRow]) -> tuple[list[LogRow], list[RewardBatch]]:
        """What each recipe pays; a row that one of them refuses is left out for all."""
        if not rows:
            return [], []
        try:
            return rows, [each.score(rows) for each in self.contestants]
        except InputError:
            before = len(rows)
            for each in self.contestants:
                rows = self._without(rows, each.refused(rows))
            if len(rows) == before:
                raise  # no row is at fault by itself
        return rows, [each.score(rows) for each in self.contestants] if rows else []

    def _without(self, rows: list[LogRow], wrong: list[BadRow | None]) -> list[LogRow]:
        self._leave_out([each for each in wrong if each is not None])
        return [row for row, found in zip(rows, wrong, strict=True) if found is None]

    def _leave_out(self, bad: list[BadRow]) -> None:
        self._bad += len(bad)
        self._bad_shown += bad[: BAD_SHOWN - len(self._bad_shown)]

    def _nothing(self) -> InputError:
        first = f"; the first: {_said(self._bad_shown[0])}" if self._bad else ""
        return InputError(f"log: expected rollouts, got none, and {self._bad} bad rows{first}")

    def _check(self, rows: Sequence[LogRow]) -> None:
        """What the first rollouts lack all of them lack, most likely: said before hours pass."""
        row, groups = rows[0], {each.group for each in rows}
        if row.group is None:
            raise InputError(f"{row.place}: {_NO_GROUPS.format('none')}")
        if len(groups) == len(rows) > 1:
            got = f"{len(groups)} groups for {len(rows)} rollouts"
            raise InputError(f"{row.place}: {_NO_GROUPS.format(got)}")
        for each in self.contestants:
            if lack := each.lacking(row):
                raise InputError(
                    f"{row.place}: expected {lack}, which {each.label} needs, got "
                    f"{', '.join(row.columns) or 'no columns'}"
                )

    def _lacking(self, row: LogRow) -> str:
        if row.group is None:
            return "a group"
        return next(filter(None, (each.lacking(row) for each in self.contestants)), "")

    def _compare(self, step: int, rows: list[LogRow], batches: list[RewardBatch]) -> None:
        index = group_index([str(row.group) for row in rows], len(rows))
        payments, sums = [], dict[Key, float]()
        for each, batch in zip(self.contestants, batches, strict=True):
            each.record(batch)
            found = earned(batch.total, batch.terms, index)
            payments.append(Payment(each.label, batch, found))
            own = own_sums(batch, found, index, each.recipe)
            sums |= {((each.label,), name): value for name, value in own.items()}
        for one, other in self._pairs:
            first, second = payments[one], payments[other]
            both = pair_sums(first.earned, second.earned, index)
            sums |= {((first.label, second.label), name): value for name, value in both.items()}
            self._cases[one, other].add(step, rows, index, first, second)
        self._sums.add(step, sums)

    def _named_measures(self) -> dict[Key, Ratio]:
        measures: dict[Key, Ratio] = {}
        for each in self.contestants:
            own = own_measures(each.recipe)
            measures |= {((each.label,), name): ratio for name, ratio in own.items()}
        for one, other in self._pairs:
            labels = (self.contestants[one].label, self.contestants[other].label)
            measures |= {(labels, name): ratio for name, ratio in PAIR.items()}
        return measures


def replay(
    chunks: Iterable[Chunk], contestants: Sequence[Contestant], *, most: int = 10
) -> Replayed:
    """Replay a whole log; see `Replay`, which also tells the measures of each step."""
    run = Replay(contestants, most=most)
    for chunk in chunks:
        run.add(chunk)
    return run.done()


def _said(bad: BadRow) -> str:
    return f"{bad.place}: {bad.reason}"
