"""Two runs on the same samples, side by side.

Goes in: the records of both. Comes out: how much each measure differs, with intervals from the
samples that both have, and the samples that changed most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.evaluation.counting import Unreadable
from rankreward.evaluation.intervals import Row, table
from rankreward.evaluation.measures import Floats, Measure, Ratio
from rankreward.evaluation.protocols import Protocol
from rankreward.evaluation.records import Record, judged, merge
from rankreward.evaluation.summary import find_protocol, measures_of, strata_of
from rankreward.tables import Sheet

Sources = str | Path | Sequence[str | Path]
_SAME = ("reference_boxes", "reference_count", "size", "strata")


@dataclass(frozen=True)
class Change:
    """A sample that two runs answer differently.

    Attributes:
        id: its name.
        before: its score in the first run, in [0, 1].
        after: its score in the second.
        completions: what both wrote.
    """

    id: str
    before: float
    after: float
    completions: tuple[str, str]

    @property
    def delta(self) -> float:
        """`after` less `before`."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """What changed from one run to another.

    Attributes:
        protocol: the protocol's name.
        rows: the difference of each measure, the second run less the first, with its interval.
        values: what both runs come to, of stratum and measure.
        both: how many samples both runs judged.
        alone: how many the first judged alone, and how many the second.
        score: the measure that `changes` are of.
        changes: the samples whose score changed most, the largest change first.
    """

    protocol: str
    rows: list[Row]
    values: dict[tuple[str, str], tuple[float, float]]
    both: int
    alone: tuple[int, int]
    score: str
    changes: list[Change]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values; None in the place of NaN."""
        sheet = self.sheet()
        rows = [
            {
                name: None if value != value else value  # noqa: PLR0124 - NaN is not itself
                for name, value in zip(sheet.header, row, strict=True)
            }
            for row in sheet.rows
        ]
        changes = [{**asdict(change), "delta": change.delta} for change in self.changes]
        return {
            "protocol": self.protocol,
            "both": self.both,
            "alone": list(self.alone),
            "score": self.score,
            "rows": rows,
            "changes": changes,
        }

    def sheet(self) -> Sheet:
        """The table of differences, which has ``csv``, ``markdown`` and ``rich``."""
        title = (
            f"{self.both} samples in both runs, protocol {self.protocol}; "
            f"{self.alone[0]} in the first alone, {self.alone[1]} in the second"
        )
        header = ("stratum", "measure", "n", "before", "after", "difference", "low", "high")
        rows = [
            (
                *(row.stratum, row.measure, row.n),
                *self.values[row.stratum, row.measure],
                *(row.interval.value, row.interval.low, row.interval.high),
            )
            for row in self.rows
        ]
        return Sheet(title, header, tuple(rows))


@dataclass(frozen=True, eq=False)
class Difference:
    """One measure less another, of the same samples, so that resamples draw both alike."""

    before: Measure
    after: Measure

    def __len__(self) -> int:
        return len(self.before)

    @property
    def size(self) -> int:
        """How many samples both measures are of, at most."""
        return min(self.before.size, self.after.size)

    @property
    def value(self) -> float:
        """`after` less `before`."""
        return self.after.value - self.before.value

    def over(self, counts: Floats) -> Floats:
        """The difference over resamples, as `Measure.over`."""
        return np.asarray(self.after.over(counts) - self.before.over(counts))

    def take(self, index: NDArray[np.intp]) -> Difference:
        """The difference over the samples at `index`."""
        return Difference(self.before.take(index), self.after.take(index))


def compare_files(
    before: Sources, after: Sources, protocol: str | Protocol, **options: Any
) -> Comparison:
    """Compare two runs; see `compare_records`.

    Args:
        before: files of records, folders of runs, or one of these.
        after: likewise.
        protocol: how masks are scored, by name or as it is.
        options: further arguments of `compare_records`.

    Raises:
        InputError: as for `compare_records` and `rankreward.evaluation.records.merge`.
    """
    return compare_records(merge(before), merge(after), protocol, **options)


def compare_records(
    before: Sequence[Record],
    after: Sequence[Record],
    protocol: str | Protocol,
    *,
    by: str | None = None,
    unreadable: Unreadable = "wrong",
    most: int = 10,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Paired differences of all measures, over the samples that both runs judged.

    Args:
        before: the records of the first run.
        after: those of the second.
        protocol: how masks are scored, by name or as it is.
        by: name of a stratum that results are told apart by.
        unreadable: what an unreadable answer counts, as in `count_measures`.
        most: how many changed samples are shown.
        resamples: of the bootstrap.
        level: share of the resamples that an interval holds.
        seed: of the bootstrap.

    Returns:
        The differences of the measures that both define; a mean is over the samples that both
        runs define it for. Samples are ranked by how much their
        IoU changed: that of masks as the protocol has it, else that of boxes.

    Raises:
        InputError: they have no judged sample in common, or the references of one differ.
    """
    protocol = find_protocol(protocol)
    first, second = ({r["id"]: r for r in judged(records)} for records in (before, after))
    ids = [name for name in first if name in second]
    _check_same(first, second, ids)
    pairs = [first[name] for name in ids], [second[name] for name in ids]
    sides = _paired([measures_of(side, protocol, unreadable=unreadable) for side in pairs])
    joint = {
        name: Difference(measure, sides[1][name])
        for name, measure in sides[0].items()
        if name in sides[1]
    }
    names = ["all"] * len(ids) if by is None else strata_of(pairs[0], by)
    score = "gIoU" if "gIoU" in joint else "mean box IoU"
    return Comparison(
        protocol.name,
        table(joint, by=names, resamples=resamples, level=level, seed=seed),
        _values(joint, names),
        len(ids),
        (len(first) - len(ids), len(second) - len(ids)),
        score,
        _changes(pairs, joint.get(score), most),
    )


def _paired(sides: Sequence[Mapping[str, Measure]]) -> list[dict[str, Measure]]:
    """Measures of both sides, means over the samples that both define alone.

    Or a run that leaves out what it does badly, such as unreadable answers, would look the better.
    """
    first, second = (dict(side) for side in sides)
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        if isinstance(one, Ratio) and isinstance(two, Ratio) and _is_mean(one) and _is_mean(two):
            both = one.bottom * two.bottom
            first[name] = Ratio(one.top * both, both, one.root)
            second[name] = Ratio(two.top * both, both, two.root)
    return [first, second]


def _is_mean(measure: Ratio) -> bool:
    return bool(np.isin(measure.bottom, (0, 1)).all())


def _check_same(
    first: Mapping[str, Record], second: Mapping[str, Record], ids: Sequence[str]
) -> None:
    if not ids:
        raise InputError(
            "compare: expected runs on the same samples, got none that both judged, of "
            f"{len(first)} and {len(second)}"
        )
    for name in ids:
        other = [key for key in _SAME if first[name].get(key) != second[name].get(key)]
        if other:
            raise InputError(
                f"compare: expected runs on the same data, sample {name!r} differs in "
                f"{', '.join(other)}"
            )


def _values(
    joint: Mapping[str, Difference], names: Sequence[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    column, values = np.array(names), {}
    for stratum in sorted(set(names)):
        index = np.flatnonzero(column == stratum)
        for name, measure in joint.items():
            part = measure.take(index)
            values[stratum, name] = part.before.value, part.after.value
    return values


def _changes(
    pairs: tuple[list[Record], list[Record]], measure: Difference | None, most: int
) -> list[Change]:
    """The samples that a measure changed most at; ties in the order of the data."""
    if measure is None:
        return []
    before, after = measure.before, measure.after
    assert isinstance(before, Ratio)  # a mean: its top is each sample's score
    assert isinstance(after, Ratio)
    order = np.argsort(-np.abs(after.top - before.top), kind="stable")
    return [
        Change(
            pairs[0][i]["id"],
            float(before.top[i]),
            float(after.top[i]),
            (pairs[0][i]["completion"], pairs[1][i]["completion"]),
        )
        for i in order[:most].tolist()
        if before.top[i] != after.top[i]
    ]
