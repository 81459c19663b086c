"""Normalizers: how metrics of unequal scale are made to count alike, or not.

Goes in: raw metric values of a batch. Comes out: what they count for. All normalizers share the
scorer's window of recent rollouts, which also those fill that do not need it, so that its summary
shows every recipe's metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.kinds import Ecdf, Group, Normalizer, Raw, ReleasedEcdf, ZScore
from rankreward.quantiles import QuantileService
from rankreward.shaping import gdpo

Floats = NDArray[np.float64]

NAN_STANDS_FOR = 2.0  # in the released window: above all its metrics, which end at 1
WINDOW = 2048  # rows of the window that only the summary needs


def make_window(
    normalizer: Normalizer, metrics: tuple[str, ...], make: Callable[..., QuantileService]
) -> QuantileService:
    """The window that a recipe's metrics go to."""
    match normalizer:
        case Ecdf():
            return make(
                metrics=metrics,
                window=normalizer.window,
                warm_start=normalizer.warm_start,
                ties=normalizer.ties,
                order=normalizer.order,
            )
        case ReleasedEcdf():
            return make(
                metrics=metrics,
                window=normalizer.window,
                warm_start=normalizer.warm_start,
                ties="weak",
                order="arrival",
                precision="float32",
            )
        case ZScore():
            return make(metrics=metrics, window=normalizer.window, warm_start=0)
        case Raw() | Group():
            return make(metrics=metrics, window=WINDOW, warm_start=0)


def window_values(normalizer: Normalizer, raw: Floats) -> Floats:
    """What enters the window of raw metrics (B, N): NaN that ranks above all, where it does."""
    if isinstance(normalizer, ReleasedEcdf):
        return np.where(np.isnan(raw), NAN_STANDS_FOR, raw)
    return raw


def normalize(
    normalizer: Normalizer,
    raw: Floats,
    window: QuantileService,
    keys: str | Sequence[str] | None,
    groups: Sequence[Any] | None,
) -> Floats:
    """What raw metrics (B, N) count for; NaN stays NaN.

    Returns:
        (B, N) float64: ranks in [0, 1] (``ecdf``), the values themselves (``none``), standard
        scores in the window (``zscore``) or in the group (``group``). A standard score is 0 where
        there is no spread to measure by.

    Raises:
        InputError: the groups are missing where they are needed.

    Source:
        ``ecdf``: Dr. Seg, arXiv 2603.00152. ``group``: GDPO, before its step over the batch.
    """
    window._check_keys(keys, len(raw))  # noqa: SLF001 - wrong keys are wrong with any normalizer
    match normalizer:
        case Ecdf():
            return window.rank(raw, keys)
        case ReleasedEcdf():
            ranks = window.rank(window_values(normalizer, raw), keys)
            return np.array([[round(rank, 1) for rank in row] for row in ranks.tolist()]).reshape(
                raw.shape
            )
        case ZScore():
            return window.standardize(raw, keys)
        case Raw():
            return raw.copy()
        case Group():
            if groups is None:
                raise InputError(
                    "groups: expected one id a completion, which the normalizer 'group' needs, "
                    "got none"
                )
            scores = [
                gdpo({"metric": column}, groups, eps=normalizer.eps, whiten=False)
                for column in raw.T
            ]
            return np.where(np.isnan(raw), np.nan, np.stack(scores, axis=1))
