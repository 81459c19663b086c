"""Compiled kernels: how they are compiled, and when they are loaded.

Loading Numba and its cached kernels takes about a second of a process, the first time on a machine
some more. NumPy gives the same answers, slower. So NumPy works until its work has cost what the
loading costs; then the kernels are loaded, once a process. Whoever knows that there will be much
to do calls `warmup` and has them at once.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

PRICE = 1.0  # seconds that loading takes, the cache being there
MODULES = ("rankreward.metrics.kernels", "rankreward.quantiles.kernels")

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}
_spent = 0.0


def warmup() -> None:
    """Load the compiled kernels now.

    They are loaded by themselves once NumPy has cost a second in all; call this where the first
    calls have to be fast, as before a benchmark. The first time on a machine it compiles, for
    some seconds, and keeps the result in Numba's cache. A second call does nothing.

    Example:
        >>> warmup()
    """
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
        warmup()
    return _loaded[module]


def kernel(signature: str, *, nogil: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at once for one signature, and cache it where there is a place for it."""
    from numba import njit  # noqa: PLC0415 - half a second that most processes need not pay

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, nogil=nogil, error_model="numpy", cache=True)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return njit(signature, nogil=nogil, error_model="numpy")(function)

    return decorate
