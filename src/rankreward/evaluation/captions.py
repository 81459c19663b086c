"""Texts: whether they single out their object, and how long they are.

Goes in: cosines of n texts with images, as `rankreward.ClipSimilarity` gives them, and lengths.
Comes out: measures, each a `Measure`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rankreward.errors import InputError
from rankreward.evaluation.measures import Measure, Quantile, Ratio, mean, per_sample
from rankreward.metrics.arrays import as_floats

_PREFIX = {"caption": "", "reasoning": "T"}


def caption_measures(
    region: ArrayLike, image: ArrayLike, *, of: Literal["caption", "reasoning"]
) -> dict[str, Ratio]:
    r"""How much closer texts are to their object than to the whole image.

    .. math:: \mathrm{SNR} = \frac{\sum_i S_{1,i}}{\sum_i S_{2,i}}

    Args:
        region: (n,) cosine of each text with the crop of its reference box, S1; NaN where there is
            no text, or one that the encoder cannot read.
        image: (n,) cosine with the whole image, S2, likewise.
        of: which text it is; the paper prefixes the measures of reasoning by T.

    Returns:
        - ``S1`` and ``S2``, or ``TS1`` and ``TS2``: the means;
        - ``SNR``, or ``TSNR``: mean S1 over mean S2; not the mean of the ratios, which one S2 near
          0 would decide;
        - ``caption compared``, or ``reasoning compared``: share of the n texts that the others
          are of. A text with a NaN is left out of them, where the released reward makes it 0.

        NaN where no text is left.

    Raises:
        InputError: the shapes differ or are not (n,), a cosine is infinite, or `of` is neither.

    Example:
        >>> found = caption_measures([0.26, np.nan], [0.25, np.nan], of="caption")
        >>> {name: round(measure.value, 3) for name, measure in found.items()}
        {'S1': 0.26, 'S2': 0.25, 'SNR': 1.04, 'caption compared': 0.5}

    Source:
        DPAD, arXiv 2603.04002.
    """
    if of not in _PREFIX:
        raise InputError(f"of: expected 'caption' or 'reasoning', got {of!r}")
    first, second = as_floats("region", region), as_floats("image", image)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"region, image: expected two (n,) arrays, got {first.shape} and {second.shape}"
        )
    if np.isinf(first).any() or np.isinf(second).any():
        raise InputError("region, image: expected cosines, or NaN for no text, got inf")
    compared, prefix = ~(np.isnan(first) | np.isnan(second)), _PREFIX[of]
    near, wide = mean(first, compared), mean(second, compared)
    return {
        f"{prefix}S1": near,
        f"{prefix}S2": wide,
        f"{prefix}SNR": Ratio(near.top, wide.top),
        f"{of} compared": mean(compared),
    }


def length_measures(lengths: ArrayLike, *, unit: str = "tokens") -> dict[str, Measure]:
    """How long texts are.

    Args:
        lengths: (n,) numbers of at least 0, such as the tokens of each reasoning chain.
        unit: what was counted, for the names.

    Returns:
        ``mean tokens``, ``p50 tokens`` and ``p95 tokens``; NaN without texts.

    Raises:
        InputError: the lengths are not (n,), not finite, or below 0.

    Example:
        >>> found = length_measures([10, 20, 60])
        >>> {name: measure.value for name, measure in found.items()}
        {'mean tokens': 30.0, 'p50 tokens': 20.0, 'p95 tokens': 56.0}

    Source:
        DPAD, arXiv 2603.04002, compares the tokens of reasoning chains.
    """
    numbers = per_sample("lengths", lengths)
    if (numbers < 0).any():
        raise InputError("lengths: expected numbers of at least 0")
    return {
        f"mean {unit}": mean(numbers),
        f"p50 {unit}": Quantile(numbers, 0.5),
        f"p95 {unit}": Quantile(numbers, 0.95),
    }
