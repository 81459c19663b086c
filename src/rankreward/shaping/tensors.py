"""Tensors in, tensors out, without importing torch.

Goes in: arrays or tensors. Comes out: float64 arrays to compute with, and results of the kind that
came in. The maths is NumPy's, on the CPU: a batch has some thousand rewards, and in float64 the
answer does not depend on the precision a trainer runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats

Floats = NDArray[np.float64]
P = ParamSpec("P")


class Tensor(Protocol):
    """What is used of a `torch.Tensor`; spelled out, so that types need no torch either."""

    @property
    def dtype(self) -> Any:
        """The type of its numbers."""

    def is_floating_point(self) -> bool:
        """Whether its numbers have a fraction."""

    def detach(self) -> Self:
        """The same values, outside the graph."""

    def cpu(self) -> Self:
        """A copy in main memory."""

    def double(self) -> Self:
        """A copy in float64."""

    def float(self) -> Self:
        """A copy in float32."""

    def numpy(self) -> NDArray[Any]:
        """The same values as an array."""

    def new_tensor(self, data: Any, dtype: Any = ...) -> Self:
        """Other values on the same device."""


T = TypeVar("T", bound=Tensor)


class Shaper(Protocol[P]):
    """A function of an array, or of a tensor, that answers in kind."""

    @overload
    def __call__(self, values: T, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def __call__(self, values: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> Floats: ...


def answers_in_kind(function: Callable[Concatenate[ArrayLike, P], Floats]) -> Shaper[P]:
    """Let a function answer a tensor with a tensor; its first argument decides."""

    @wraps(function)
    def shaper(values: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return in_kind(values, function(values, *args, **kwargs))

    return shaper


def is_tensor(value: object) -> bool:
    """Whether it is a torch tensor, told by the name of its class's module."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__)


def as_array(values: Any) -> Any:
    """A tensor as an array, floats in float64; anything else as it is."""
    if not is_tensor(values):
        return values
    tensor = values.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def in_kind(like: Any, values: Floats) -> Any:
    """`values` as what `like` is: a tensor of its type and device, or an array.

    A tensor of whole numbers cannot hold an advantage and is answered in float32.
    """
    if not is_tensor(like):
        return values
    home = like.detach() if like.is_floating_point() else like.detach().float()
    return home.new_tensor(values, dtype=home.dtype)


def as_column(name: str, values: Any) -> Floats:
    """(B,) float64, all finite.

    Raises:
        InputError: the shape is another one, or a value is no finite number; names the first.
    """
    column = as_floats(name, as_array(values))
    if column.ndim != 1:
        raise InputError(f"{name}: expected shape (B,), got {column.shape}")
    if not np.isfinite(column).all():
        row = int(np.argmin(np.isfinite(column)))
        raise InputError(f"{name}[{row}]: expected a finite number, got {column[row]}")
    return column
