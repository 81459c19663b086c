"""Groups: which rows belong together, and their statistics, for all groups at once.

Goes in: ids or a group size. Comes out: the number of each row's group, and per row the mean and
spread of its group. Nothing here loops over groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.shaping.tensors import Floats, Tensor, as_array, is_tensor

Groups = int | Iterable[Hashable] | NDArray[Any] | Tensor
Index = NDArray[np.intp]


def group_index(groups: Groups, rows: int) -> Index:
    """Number the groups, and say for each row which one it is in.

    Args:
        groups: (B,) ids, one a row: an array or tensor of numbers or texts, or any iterable of
            hashable values; rows of equal id form a group, wherever they stand. Or an int: groups
            of that size follow each other, as TRL lays them out.
        rows: B.

    Returns:
        (B,) from 0 without gaps; which group has which number is of no meaning.

    Raises:
        InputError: the ids are not (B,), one is NaN or unhashable, or B is no multiple of the size.

    Cost:
        O(B log B).
    """
    if isinstance(groups, (int, np.integer)) and not isinstance(groups, bool):
        if groups < 1 or rows % groups:
            raise InputError(f"groups: expected a size that divides the {rows} rows, got {groups}")
        return np.arange(rows) // int(groups)
    ids = as_array(groups)
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise InputError(f"groups: expected shape ({rows},) or a group size, got {ids.shape}")
    names: Iterable[Any]
    if isinstance(ids, np.ndarray) and ids.dtype != object:
        names, index = np.unique(ids, return_inverse=True, equal_nan=False)
        broken = bool(np.any(names != names))  # noqa: PLR0124 - NaN is no id
    else:
        names, index = _number(ids)
        broken = any(is_tensor(name) or name != name for name in names)  # noqa: PLR0124 - likewise
    if broken:
        raise InputError(
            "groups: expected ids that equal themselves, got NaN or a tensor among them"
        )
    if len(index) != rows:
        raise InputError(f"groups: expected {rows} ids, one a row, got {len(index)}")
    return index


def _number(ids: Any) -> tuple[list[Any], Index]:
    """Number values that need not sort; a list of 1 and "1" must not become texts either."""
    if isinstance(ids, (str, bytes)):
        raise InputError(f"groups: expected one id a row or a group size, got the text {ids!r:.40}")
    numbers: dict[Any, int] = {}
    try:
        index = [numbers.setdefault(name, len(numbers)) for name in ids]
    except TypeError as error:
        raise InputError(f"groups: expected hashable ids or a group size, got {error}") from error
    return list(numbers), np.array(index, dtype=np.intp)


def sizes(index: Index) -> Floats:
    """(B,): how many rows the group of each row has."""
    return _sums(index)


def centred(values: Floats, index: Index) -> Floats:
    """(B,): values less the mean of their group; exactly 0 where all of a group are equal."""
    lowest = np.full(int(index.max(initial=-1)) + 1, np.inf)
    np.minimum.at(lowest, index, values)
    # The mean of three 0.1 is not 0.1; that of three 0.0 is 0.0.
    above: Floats = values - lowest[index]
    return above - _sums(index, above) / sizes(index)


def deviation(deviations: Floats, index: Index, *, unbiased: bool = True) -> Floats:
    """(B,): the standard deviation of each row's group, given what `centred` gives.

    `unbiased` divides by n - 1 instead of n. A group of one has 0 either way.
    """
    return np.sqrt(_sums(index, deviations**2) / np.maximum(sizes(index) - unbiased, 1))


def scaled(deviations: Floats, spread: Floats, eps: float) -> Floats:
    """(B,): deviations / (spread + eps), and 0 where that divides by 0."""
    below = spread + eps
    return np.divide(deviations, below, out=np.zeros_like(deviations), where=below > 0)


def _sums(index: Index, values: Floats | None = None) -> Floats:
    """(B,): for each row the sum over its group, of ones without values; `index` may have gaps."""
    sums: Floats = np.bincount(index, values)[index].astype(np.float64)
    return sums
