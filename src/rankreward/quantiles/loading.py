"""When the compiled kernels are loaded.

Loading Numba and its cached kernels takes about a second of a process, the first time on a machine
some more. NumPy gives the same answers, slower. So NumPy works until its work has cost what the
loading costs; then the kernels are loaded, once a process. Whoever knows that there will be much
to rank calls `warmup` and has them at once.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

PRICE = 1.0  # seconds that loading takes, the cache being there

_lock = threading.Lock()
_kernels: ModuleType | None = None
_spent = 0.0


def warmup() -> None:
    """Load the compiled kernels now.

    A service loads them by itself once NumPy has cost it a second; call this where the first
    calls have to be fast, as before a benchmark. The first time on a machine it compiles, for
    some seconds, and keeps the result in Numba's cache. A second call does nothing.

    Example:
        >>> warmup()
    """
    global _kernels  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _kernels is None:
            _kernels = importlib.import_module("rankreward.quantiles.kernels")


def kernels(cost: float) -> ModuleType | None:
    """The compiled kernels, or None while NumPy is still the cheaper way.

    Args:
        cost: seconds that the work at hand takes in NumPy, roughly.
    """
    global _spent  # noqa: PLW0603
    if _kernels is None:
        _spent += cost  # threads may lose one another's additions; it is an estimate
        if _spent < PRICE or _lock.locked():  # while one thread loads, the others work on
            return None
        warmup()
    return _kernels
