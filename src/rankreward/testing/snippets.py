"""Snippets: values as the Python that makes them, for lines that can be pasted.

Goes in: a value. Comes out: its code. What has none is a name that begins with ``your_``, for the
reader to set.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np

_REPEATED = re.compile(r"(.{1,24}?)\1{19,}", re.DOTALL)
_PLAIN = (int, complex, bytes, type(None), type(...))
_SMALL = 256  # entries of an array that is written out


def nothing(*_: Any) -> None:
    """What a trainer logs with."""


def code_of(value: Any) -> str:  # noqa: PLR0911 - a line a type
    """A value as Python that makes it; long repetitions are written as products.

    Example:
        >>> from rankreward.testing.snippets import code_of
        >>> code_of("<think>" + "[" * 5000)
        "'<think>' + '[' * 5000"
        >>> code_of([float("nan"), object()])
        '[float("nan"), your_object]'
    """
    kind = type(value)
    if kind is str:
        return _text_code(value)
    if kind is float:
        return repr(value) if abs(value) < float("inf") else f'float("{value}")'
    if kind in _PLAIN or kind is bool:
        return repr(value)
    if kind in {list, tuple}:
        return _row_code(value)
    if kind is dict:
        pairs = (f"{code_of(key)}: {code_of(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, np.ndarray | np.generic):
        return _numpy_code(value)
    if kind is SimpleNamespace:
        fields = ", ".join(f"{key}={code_of(each)}" for key, each in vars(value).items())
        return f"types.SimpleNamespace({fields})"
    return "lambda *_: None" if value is nothing else f"your_{kind.__name__}"


def laid_out(value: Any, wide: int = 60) -> str:
    """The same, a long list an entry a line."""
    shown = code_of(value)
    if isinstance(value, list) and len(value) > 0 and len(shown) > wide:
        return "[" + "".join(f"\n        {code_of(each)}," for each in value) + "\n    ]"
    return shown


def _row_code(value: list[Any] | tuple[Any, ...]) -> str:
    if len(value) > 3 and value == list(range(len(value))):
        return f"list(range({len(value)}))"  # tokens that stand in for a tokenizer's
    inside = ", ".join(code_of(each) for each in value)
    if isinstance(value, list):
        return f"[{inside}]"
    return f"({inside},)" if len(value) == 1 else f"({inside})"


def _numpy_code(value: Any) -> str:
    """An array of zeros by its shape, a small one by its values, a number as one."""
    kind = str(value.dtype)
    if value.dtype.kind not in "biufc":
        return f"your_{type(value).__name__}"
    if value.ndim == 0:
        return f'np.array({code_of(value.item())}, "{kind}")[()]'
    if not value.any():
        return f'np.zeros({value.shape}, "{kind}")'
    if value.size <= _SMALL:
        return f'np.array({code_of(value.tolist())}, "{kind}")'
    return "your_array"


def _text_code(text: str) -> str:
    parts, start = [], 0
    for run in _REPEATED.finditer(text):
        unit = run.group(1)
        if run.start() > start:
            parts.append(repr(text[start : run.start()]))
        parts.append(f"{unit!r} * {(run.end() - run.start()) // len(unit)}")
        start = run.end()
    if start < len(text) or not parts:
        parts.append(repr(text[start:]))
    return " + ".join(parts)
