"""Compiled kernels: how they are compiled, and when they are loaded.

Loading Numba and its cached kernels takes about a second of a process, the first time on a machine
some more. NumPy gives the same answers, slower. So NumPy works until its work has cost what the
loading costs; then the kernels are loaded, once a process. Whoever knows that there will be much
to do calls `warmup` and has them at once.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import StateError

PRICE = 1.0  # seconds that loading takes, the cache being there
MODULES = (
    "rankreward.parsing.kernels",
    "rankreward.metrics.kernels",
    "rankreward.quantiles.kernels",
)

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}
_forked_while_loading = False
_spent = 0.0  # seconds that NumPy has worked; minus infinity where the kernels cannot be had


def warmup() -> None:
    """Load the compiled kernels now.

    They are loaded by themselves once NumPy has cost a second in all; call this where the first
    calls have to be fast, as before a benchmark. The first time on a machine it compiles, for
    some seconds, and keeps the result in Numba's cache. A second call does nothing.

    Raises:
        Exception: whatever keeps Numba from working here. Loading by itself only warns of it, and
            goes on with NumPy.

    Example:
        >>> warmup()
    """
    if _forked_while_loading:
        raise StateError(
            "this process was forked while a thread was loading the kernels, and cannot load them "
            "any more; call warmup() before the fork"
        )
    with _lock:
        if not _loaded:
            _loaded.update({name: importlib.import_module(name) for name in MODULES})


def kernels(module: str, cost: float) -> ModuleType | None:
    """A module of compiled kernels, or None while NumPy is still the cheaper way.

    Args:
        module: one of `MODULES`.
        cost: seconds that the work at hand takes in NumPy, roughly.
    """
    global _spent  # noqa: PLW0603 - one meter a process is the point
    if not _loaded:
        _spent += cost  # threads may lose one another's additions; it is an estimate
        if _spent < PRICE or _lock.locked():  # while one thread loads, the others work on
            return None
        try:
            warmup()
        except Exception as error:  # noqa: BLE001 - a broken Numba can raise anything
            # Speed is lost, answers are not: this must not end a run.
            _spent = float("-inf")
            warnings.warn(
                f"rankreward works on without its compiled kernels, with NumPy: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
    return _loaded[module]


def kernel(signature: str, *, nogil: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at once for one signature, and cache it where there is a place for it."""
    from numba import njit  # noqa: PLC0415 - half a second that most processes need not pay

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, nogil=nogil, error_model="numpy", cache=True)(function)
        except Exception:  # noqa: BLE001 - no place for a cache, a full disk, a damaged file
            return njit(signature, nogil=nogil, error_model="numpy")(function)

    return decorate


def as_bytes(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    r"""Texts as kernels read them, one after the other, each with a zero byte after it.

    A byte is a character, so that places are those of the texts; what is not ASCII is a ``?``.

    Returns:
        The bytes, and the place of the zero after each text.

    Example:
        >>> data, stops = as_bytes(["a\u00e9", ""])
        >>> data.tobytes(), stops.tolist()
        (b'a?\x00\x00', [2, 3])
    """
    joined = bytearray("\0".join([*texts, ""]), "ascii", "replace")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.frombuffer(joined, np.uint8), np.cumsum(lengths + 1) - 1


def _after_fork() -> None:
    """In a child whose parent was loading, that thread is gone, and Python's import locks with it.

    The child would wait for them for ever, so it goes on with NumPy.
    """
    global _lock, _spent, _forked_while_loading  # noqa: PLW0603
    if _lock.locked():
        _lock = threading.Lock()
        _forked_while_loading = not _loaded
        _spent = float("-inf")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
