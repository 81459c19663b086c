"""From records to measures, with intervals.

Goes in: the records of a run, and the name of a protocol. Comes out: every measure that the records
define, alone or by stratum, as a table.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankreward.errors import InputError
from rankreward.evaluation.average_precision import Score, detection_scores
from rankreward.evaluation.captions import caption_measures, length_measures
from rankreward.evaluation.counting import Unreadable, count_measures
from rankreward.evaluation.detection import any_box_hit_rate, hit_rate, match_boxes
from rankreward.evaluation.facts import box_score, overlap_of
from rankreward.evaluation.intervals import Interval, Row, table
from rankreward.evaluation.measures import Floats, Measure, Ratio, mean
from rankreward.evaluation.protocols import PROTOCOLS, Protocol
from rankreward.evaluation.records import Record, judged
from rankreward.tables import Sheet

_NO_STRATUM = "none"


@dataclass(frozen=True)
class Summary:
    """What a run comes to.

    Attributes:
        protocol: the protocol's name.
        rows: a measure of a stratum each, with its interval.
        samples: how many samples were judged.
        errors: how many could not be, and enter no measure.
        unreadable: how many of the judged ones have an answer that could not be read.
        failures: how many completions have which failure, by its code.
    """

    protocol: str
    rows: list[Row]
    samples: int
    errors: int
    unreadable: int
    failures: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values; None in the place of NaN."""
        rows = [
            {"stratum": row.stratum, "measure": row.measure, "n": row.n, **_ends(row.interval)}
            for row in self.rows
        ]
        return {**vars(self), "rows": rows}

    def sheet(self) -> Sheet:
        """The table, which has ``csv``, ``markdown`` and ``rich``."""
        title = (
            f"{self.samples} samples, protocol {self.protocol}; {self.unreadable} answers "
            f"unreadable, {self.errors} samples with errors left out"
        )
        header = ("stratum", "measure", "n", "value", "low", "high")
        rows = [(row.stratum, row.measure, row.n, *_numbers(row.interval)) for row in self.rows]
        asked = self.samples + self.errors
        share, nothing = self.errors / asked, (math.nan, math.nan)
        rows.append(("all", "samples with errors", asked, share, *nothing))
        return Sheet(title, header, tuple(rows))


def summarise(
    records: Sequence[Record],
    protocol: str | Protocol,
    *,
    by: str | None = None,
    unreadable: Unreadable = "wrong",
    ap: Score | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Summary:
    """All measures that records define.

    Args:
        records: as from `rankreward.evaluation.records.merge`; those with an error are counted, and
            enter no measure.
        protocol: how masks are scored, by name or as it is.
        by: name of a stratum that results are told apart by; samples without it are "none".
        unreadable: what an unreadable answer counts, as in `count_measures`.
        ap: what stands in for scores in COCO's average precision, as in `detection_scores`; not
            computed unless given. It has no interval.
        resamples: of the bootstrap.
        level: share of the resamples that an interval holds.
        seed: of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: no sample was judged, no record has the stratum, or an argument is another one.
    """
    protocol, good = find_protocol(protocol), judged(records)
    if not good:
        raise InputError(f"summarise: expected judged samples, got {len(records)} with errors")
    names = ["all"] * len(good) if by is None else strata_of(good, by)
    rows = table(
        measures_of(good, protocol, unreadable=unreadable),
        by=names,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    if ap is not None:
        rows += _average_precision(good, names, ap)
    codes = Counter(record["failure"]["code"] for record in good if record["failure"])
    return Summary(
        protocol.name,
        sorted(rows, key=lambda row: row.stratum),  # stable: measures keep their order
        len(good),
        len(records) - len(good),
        sum(record["count"] is None for record in good),
        dict(codes.most_common()),
    )


def measures_of(
    records: Sequence[Record], protocol: Protocol, *, unreadable: Unreadable = "wrong"
) -> dict[str, Measure]:
    """The measures that n judged records define.

    Args:
        records: without errors.
        protocol: how masks are scored.
        unreadable: as in `summarise`.

    Returns:
        Name to measure, each of all n; a sample that lacks what a measure needs counts nothing in
        it. Hit rates stand only where no sample asks for more than one object.
    """
    return {
        "parsable answers": mean([record["failure"] is None for record in records]),
        **_masks(records, protocol),
        **_boxes(records),
        **_counts(records, unreadable),
        **_captions(records),
        **_lengths(records),
    }


def find_protocol(protocol: str | Protocol) -> Protocol:
    """A protocol by its name.

    Raises:
        InputError: there is none of this name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    return PROTOCOLS[protocol]


def strata_of(records: Sequence[Record], name: str) -> list[str]:
    """Each record's stratum.

    Raises:
        InputError: no record has one of this name.
    """
    strata = [record["strata"] for record in records]
    known = sorted({key for each in strata for key in each})
    if name not in known:
        raise InputError(f"by: expected one of {', '.join(known) or 'no strata'}, got {name!r}")
    return [each.get(name, _NO_STRATUM) for each in strata]


def _masks(records: Sequence[Record], protocol: Protocol) -> dict[str, Measure]:
    index = _having(records, "pixels")
    overlaps = [
        overlap_of(records[i]["pixels"], protocol, count=records[i]["count"]) for i in index
    ]
    return _spread(protocol.measures(overlaps), index, len(records)) if index else {}


def _boxes(records: Sequence[Record]) -> dict[str, Measure]:
    index = _having(records, "reference_boxes")
    if not index:
        return {}
    found, sought = _answers(records, index), _references(records, index)
    scores = np.array([box_score(*pair) for pair in zip(found, sought, strict=True)])
    measures = {"mean box IoU": mean(scores, ~np.isnan(scores))}
    if max(map(len, sought)) <= 1:
        measures["first box hit rate"] = hit_rate(found, sought)
        measures["any box hit rate"] = any_box_hit_rate(found, sought)
    measures |= match_boxes(found, sought).measures()
    return _spread(measures, index, len(records))


def _counts(records: Sequence[Record], unreadable: Unreadable) -> dict[str, Measure]:
    index = _having(records, "reference_count")
    if not index:
        return {}
    counts = [records[i]["count"] for i in index]
    measures = count_measures(
        [math.nan if count is None else count for count in counts],
        [records[i]["reference_count"] for i in index],
        unreadable=unreadable,
    )
    return _spread(measures, index, len(records))


def _captions(records: Sequence[Record]) -> dict[str, Measure]:
    index = _having(records, "captions")
    measures: dict[str, Ratio] = {}
    for of in ("caption", "reasoning"):
        pairs = [records[i]["captions"][of] or (None, None) for i in index]
        near, wide = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        if index:
            measures |= caption_measures(near, wide, of=of)
    return _spread(measures, index, len(records))


def _lengths(records: Sequence[Record]) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    if len(_having(records, "tokens")) == len(records):
        measures |= length_measures([record["tokens"] for record in records])
    if _having(records, "finish"):
        ends = [record["finish"] for record in records]
        measures["cut off"] = mean(
            [end == "length" for end in ends], np.array([end is not None for end in ends])
        )
    return measures


def _having(records: Sequence[Record], key: str) -> list[int]:
    """The places of the records that know this."""
    return [place for place, record in enumerate(records) if record.get(key) is not None]


def _spread(measures: Mapping[str, Ratio], index: list[int], count: int) -> dict[str, Measure]:
    """Measures of the records at `index` as measures of all."""

    def whole(part: Floats) -> Floats:
        values = np.zeros(count)
        values[index] = part
        return values

    return {
        name: Ratio(whole(measure.top), whole(measure.bottom), measure.root)
        for name, measure in measures.items()
    }


def _answers(records: Sequence[Record], index: Sequence[int]) -> list[Floats | None]:
    boxes = (records[i]["boxes"] for i in index)
    return [None if each is None else np.array(each, float).reshape(-1, 4) for each in boxes]


def _references(records: Sequence[Record], index: Sequence[int]) -> list[Floats]:
    return [np.array(records[i]["reference_boxes"], float).reshape(-1, 4) for i in index]


def _average_precision(records: Sequence[Record], names: Sequence[str], score: Score) -> list[Row]:
    rows = []
    for stratum in sorted(set(names)):
        part = [r for r, name in zip(records, names, strict=True) if name == stratum]
        index = _having(part, "reference_boxes")
        sizes = [part[i]["size"] for i in index]
        found, sought = _answers(part, index), _references(part, index)
        scores = detection_scores(found, sought, score=score, sizes=np.reshape(sizes, (-1, 2)))
        for name in ("AP", "AP50", "AP75"):
            interval = Interval(scores[name], math.nan, math.nan)
            rows.append(Row(stratum, f"{name} by {score}", len(index), interval))
    return rows


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _ends(interval: Interval) -> dict[str, float | None]:
    numbers = zip(("value", "low", "high"), _numbers(interval), strict=True)
    return {name: None if math.isnan(number) else number for name, number in numbers}
