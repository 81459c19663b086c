"""Arrays are checked once, where they enter."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError


def as_floats(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as a float64 copy in plain (C) order, whatever its shape.

    Raises:
        InputError: they are no rectangle of real numbers; texts, booleans and None are none.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: tensors with gradients
        raise InputError(f"{name}: expected an array of numbers ({error})") from error
    if array.size and array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected numbers, got an array of {array.dtype}")
    return array.astype(np.float64, order="C")


def as_rows(name: str, values: ArrayLike, width: int) -> NDArray[np.float64]:
    """`values` as (N, width) float64; an empty sequence is (0, width).

    Raises:
        InputError: the shape is another one, or a value is no finite number.
    """
    rows = as_floats(name, values)
    if rows.shape == (0,):
        rows = rows.reshape(0, width)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InputError(f"{name}: expected shape (N, {width}), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or inf")
    return rows
