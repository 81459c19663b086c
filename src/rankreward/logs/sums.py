"""What a log's rewards add up to, a step at a time and in all.

Goes in: scored chunks. Comes out: a line of figures a step, under the names of
`rankreward.rewards.figures`, and the summary of the log. Memory is bounded, however large a step,
but for some bytes a group.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.logs.rows import LogRow
from rankreward.logs.scoring import Scored
from rankreward.logs.spreads import Spreads
from rankreward.rewards import RewardBatch
from rankreward.rewards.figures import WindowLog, batch_log
from rankreward.tables import Sheet

Floats = NDArray[np.float64]

_KEPT = 1 << 18  # rows whose columns are kept for a step's figures; beyond it every second one is
_METRIC = ("raw", "rank", "variance_share", "rank_variance_share", "ties")


class Step:
    """The figures of one step."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._totals = _Moments()
        self._parts: list[_Part] = []
        self._stride, self._kept = 1, 0
        self._groups = Spreads()
        self._length, self._tokens = 0, 0.0
        self._window = 0

    def add(self, scored: Scored) -> None:
        """Take a chunk of the step."""
        batch, self._window = scored.batch, scored.window
        if batch is None:
            return
        first = -self._totals.count % self._stride
        self._totals.add(batch.total)
        self._length += sum(len(row.completion) for row in scored.rows)
        self._tokens += sum(tokens_of(row) for row in scored.rows)
        self._groups.add([row.group for row in scored.rows], batch.total)
        self._keep(_Part.of(batch).every(self._stride, first))

    @property
    def rows(self) -> int:
        """Rollouts so far."""
        return self._totals.count

    def line(self, window: WindowLog) -> dict[str, Any]:
        """The step as a line of ``steps.jsonl``."""
        made: dict[str, Any] = {
            "step": self._number,
            "rows": self.rows,
            "reward": self._totals.mean,
            "reward_std": self._totals.std,
            "completions/mean_length": self._length / self.rows,
        }
        if not math.isnan(self._tokens):
            made["completions/mean_tokens"] = self._tokens / self.rows
        made |= self._groups.figures()
        if self._stride > 1:
            made["rankreward/every"] = self._stride  # the row that the figures below are of
        whole = _Part.joined(self._parts)
        figures = batch_log(whole.raw, whole.ranks, whole.terms, whole.codes)
        return {**made, **figures, **window.figures(self._window)}

    def _keep(self, part: _Part) -> None:
        self._parts.append(part)
        self._kept += len(part.codes)
        while self._kept > _KEPT:
            whole = _Part.joined(self._parts).every(2, 0)
            self._parts, self._kept = [whole], len(whole.codes)
            self._stride *= 2


class _Moments:
    """Mean and standard deviation of what comes in parts."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self._low, self._high = math.inf, -math.inf

    def add(self, values: Floats) -> None:
        mean, count = float(values.mean()), len(values)
        apart = mean - self.mean
        total = self.count + count
        self._squares += float(((values - mean) ** 2).sum())
        self._squares += apart * apart * self.count * count / total
        self.mean = mean if not self.count else self.mean + apart * count / total
        self.count = total
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return 0.0 if self._low == self._high else math.sqrt(self._squares / self.count)


@dataclass(frozen=True)
class _Part:
    """The columns of a batch, or of some of its rows."""

    raw: dict[str, Floats]
    ranks: dict[str, Floats]
    terms: dict[str, Floats]
    codes: list[str | None]

    @classmethod
    def of(cls, batch: RewardBatch) -> _Part:
        return cls(dict(batch.raw), dict(batch.ranks), dict(batch.terms), batch.codes)

    @classmethod
    def joined(cls, parts: Sequence[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return cls(
            {name: np.concatenate([part.raw[name] for part in parts]) for name in first.raw},
            {name: np.concatenate([part.ranks[name] for part in parts]) for name in first.ranks},
            {name: np.concatenate([part.terms[name] for part in parts]) for name in first.terms},
            [code for part in parts for code in part.codes],
        )

    def every(self, stride: int, first: int) -> _Part:
        """Every so many rows, from the first on."""
        if stride == 1:
            return self
        some = slice(first, None, stride)
        return _Part(
            {name: column[some].copy() for name, column in self.raw.items()},
            {name: column[some].copy() for name, column in self.ranks.items()},
            {name: column[some].copy() for name, column in self.terms.items()},
            self.codes[some],
        )


def tokens_of(row: LogRow) -> float:
    """The length of a completion in tokens, NaN where the log does not say."""
    tokens = row.columns.get("tokens")
    if not isinstance(tokens, int | float) or isinstance(tokens, bool):
        return math.nan
    return tokens if 0 <= tokens < 2**53 else math.nan


@dataclass
class Totals:
    """The figures of a log, from those of its steps.

    Attributes:
        recipe: the recipe's name.
        bad: rows that could not be scored.
        failures: code to rollouts.
    """

    recipe: str
    bad: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _steps: list[tuple[int, float]] = field(default_factory=list)  # rows, mean reward
    _figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0]))
    _groups: float = 0.0
    _dead: float = 0.0

    def add(self, line: dict[str, Any], failures: Counter[str]) -> None:
        """Take a step that is complete."""
        rows = line["rows"]
        self.failures += failures
        self._steps.append((rows, line["reward"]))
        groups = line.get("rankreward/groups", 0)
        self._groups += groups
        self._dead += line.get("rankreward/dead_groups", 0.0) * groups
        for name, value in line.items():
            if name.startswith("rankreward/") or name == "completions/mean_tokens":
                self._figures[name][0] += value * rows
                self._figures[name][1] += rows

    def as_dict(self, *, finished: bool) -> dict[str, Any]:
        """The summary: means over rollouts of the steps' figures, None where there is none."""
        tenth = max(1, len(self._steps) // 10)
        means = {name: total / rows for name, (total, rows) in self._figures.items()}
        metrics: dict[str, dict[str, float | None]] = {}
        for name in means:
            kind, _, metric = name.removeprefix("rankreward/").partition("/")
            if kind == "raw":
                metrics[metric] = {
                    each: means.get(f"rankreward/{each}/{metric}") for each in _METRIC
                }
        return {
            "recipe": self.recipe,
            "finished": finished,
            "rollouts": sum(rows for rows, _ in self._steps),
            "steps": len(self._steps),
            "bad_rows": self.bad,
            "reward": _mean(self._steps),
            "reward_first": _mean(self._steps[:tenth]),
            "reward_last": _mean(self._steps[-tenth:]),
            "tokens": means.get("completions/mean_tokens"),
            "groups": round(self._groups) or None,
            "dead_groups": self._dead / self._groups if self._groups else None,
            "unreadable": sum(self.failures.values()),
            "failures": dict(self.failures.most_common()),
            "terms": {
                name.removeprefix("rankreward/term/"): mean
                for name, mean in means.items()
                if name.startswith("rankreward/term/")
            },
            "metrics": metrics,
        }


def sheets(summary: dict[str, Any]) -> list[Sheet]:
    """A summary as tables: the log, its terms and metrics, its failures."""
    rollouts = summary["rollouts"]
    title = summary["recipe"] + ("" if summary["finished"] else ", unfinished")
    names = {
        "rollouts": "rollouts", "steps": "steps", "bad_rows": "bad rows, not scored",
        "reward": "mean reward", "reward_first": "mean reward, first tenth of the steps",
        "reward_last": "mean reward, last tenth of the steps", "tokens": "mean tokens",
        "groups": "groups", "dead_groups": "share of dead groups (all rewards equal)",
        "unreadable": "unreadable answers",
    }  # fmt: skip
    figures = tuple(
        (text, summary[name]) for name, text in names.items() if summary[name] is not None
    )
    made = [Sheet(title, ("of the log", "value"), figures)]
    paid = tuple(
        (name, value, *(summary["metrics"].get(name, {}).get(each) for each in _METRIC))
        for name, value in summary["terms"].items()
    )
    header = ("term", "paid", "raw", "rank", "variance share, raw", "ranked", "ties")
    made.append(Sheet("means", header, paid))
    failed = tuple((code, n, n / rollouts) for code, n in summary["failures"].items())
    return [*made, Sheet("unreadable answers", ("code", "answers", "share"), failed)][
        : 2 + bool(failed)
    ]


def _mean(steps: Sequence[tuple[int, float]]) -> float | None:
    rows = sum(count for count, _ in steps)
    return sum(count * mean for count, mean in steps) / rows if rows else None
