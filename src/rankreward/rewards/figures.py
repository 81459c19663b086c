"""What a log shows of the reward, under the same names whatever the trainer.

Goes in: the columns of a scored batch, and the window. Comes out: names and numbers. A figure that
is not defined, such as the mean of a metric that applied nowhere, is left out.

| name | what |
|---|---|
| ``rankreward/raw/<metric>``, ``rankreward/raw_std/<metric>`` | mean and standard deviation of the raw metric |
| ``rankreward/rank/<metric>`` | mean of what it counts for |
| ``rankreward/variance_share/<metric>`` | its variance as a share of the sum over all metrics, raw |
| ``rankreward/rank_variance_share/<metric>`` | the same of what it counts for |
| ``rankreward/ties/<metric>`` | how often two rollouts of the batch have the same raw value |
| ``rankreward/term/<term>`` | mean contribution to the reward |
| ``rankreward/failures``, ``rankreward/failure/<code>`` | share of unreadable completions, in all and by what is wrong |
| ``rankreward/window/size`` | rows in the window that the ranks were taken in |
| ``rankreward/window/added``, ``rankreward/window/evicted`` | rows that the last flush added and evicted |
| ``rankreward/window/flushes`` | flushes so far that added rows |
| ``rankreward/seconds`` | time spent on the reward: reading, measuring, ranking |
"""  # noqa: E501 - a table's rows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rankreward.parsing.failure import FailureCode
from rankreward.quantiles import FlushStats
from rankreward.quantiles.window import deviation

Floats = NDArray[np.float64]

CODES: tuple[str, ...] = get_args(FailureCode)


def batch_log(
    raw: Mapping[str, Floats],
    ranks: Mapping[str, Floats],
    terms: Mapping[str, Floats],
    failures: Sequence[str | None],
) -> dict[str, float]:
    """The figures of a batch.

    Args:
        raw: metric to (B,) float64, NaN where it does not apply; as in `RewardBatch`.
        ranks: likewise, what they count for.
        terms: term to (B,) float64.
        failures: B codes, None where nothing is wrong.

    Returns:
        Name to number; empty for an empty batch.
    """
    if not failures:
        return {}
    log: dict[str, float] = {}
    for name, column in raw.items():
        _add(log, f"raw/{name}", _mean(column))
        _add(log, f"raw_std/{name}", _std(column))
        _add(log, f"ties/{name}", _ties(column))
    for name, column in ranks.items():
        _add(log, f"rank/{name}", _mean(column))
    for kind, columns in (("variance_share", raw), ("rank_variance_share", ranks)):
        for name, share in _shares(columns).items():
            _add(log, f"{kind}/{name}", share)
    for name, column in terms.items():
        _add(log, f"term/{name}", _mean(column))
    broken = [code for code in failures if code is not None]
    _add(log, "failures", len(broken) / len(failures))
    for code in CODES:  # all of them, or an average over ranks would be of those that failed
        _add(log, f"failure/{code}", broken.count(code) / len(failures))
    return log


class WindowLog:
    """The figures of the window, counted over its flushes."""

    def __init__(self) -> None:
        self._flushes = 0
        self._last: FlushStats | None = None

    def flushed(self, stats: FlushStats) -> None:
        """Count a flush."""
        self._flushes += stats.added > 0
        if stats.added:
            self._last = stats

    def figures(self, size: int) -> dict[str, float]:
        """Name to number, for a window that has `size` rows now."""
        log = {"rankreward/window/size": float(size)}
        log["rankreward/window/flushes"] = float(self._flushes)
        if self._last is not None:
            log["rankreward/window/added"] = float(self._last.added)
            log["rankreward/window/evicted"] = float(self._last.evicted)
        return log


def _add(log: dict[str, float], name: str, value: float) -> None:
    if not np.isnan(value):
        log[f"rankreward/{name}"] = float(value)


def _defined(column: Floats) -> Floats:
    return column[~np.isnan(column)]


def _mean(column: Floats) -> float:
    defined = _defined(column)
    return float(defined.mean()) if len(defined) else float("nan")


def _std(column: Floats) -> float:
    defined = _defined(column)
    return deviation(defined) if len(defined) else float("nan")


def _ties(column: Floats) -> float:
    """The share of pairs of rollouts that have the same value."""
    defined = _defined(column)
    if len(defined) < 2:
        return float("nan")
    counts = np.unique(defined, return_counts=True)[1]
    pairs = len(defined) * (len(defined) - 1)
    return float((counts * (counts - 1)).sum() / pairs)


def _shares(columns: Mapping[str, Floats]) -> dict[str, float]:
    variances = {name: _std(column) ** 2 for name, column in columns.items()}
    total = float(np.nansum(list(variances.values())))
    return {name: value / total for name, value in variances.items()} if total > 0 else {}
