"""The windows that a run saved.

Goes in: files that `rankreward.Scorer.save` wrote. Comes out: their rows, and the recipe's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankreward.errors import CheckpointError
from rankreward.quantiles.checkpoint import load_state
from rankreward.runs.parts import Notes, Window

MOST = 6  # more curves over one another cannot be told apart


def numbered(files: Iterable[Path]) -> list[Path]:
    """Files in the order of the last number in their path, their step."""
    return sorted(files, key=lambda file: (_number(file), file))


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def read_windows(files: Sequence[Path], notes: Notes) -> tuple[list[Window], str]:
    """The windows in some of these files, and the recipe they say they are of.

    Args:
        files: in the order of their steps; where there are many, six evenly spaced ones are read.
        notes: where to say what was left out.

    Returns:
        The windows by step and key, one a step and key; and the recipe's name, empty where none
        says it.
    """
    found: dict[tuple[int, str], Window] = {}
    recipe = ""
    for file in spread(files, MOST):
        try:
            state = load_state(file)
            for window in _windows(state):
                found[window.step, window.key] = window
            recipe = str(state.get("recipe") or recipe)
        except (CheckpointError, OSError) as error:
            notes.bad("windows", f"a window was left out: {error}")
        except (KeyError, TypeError, ValueError) as error:
            notes.bad("windows", f"{file}: expected a scorer's window, got {error!r:.200}")
    return [found[place] for place in sorted(found)], recipe


def _windows(state: dict[str, Any]) -> list[Window]:
    config, step = state["config"], state["step"]
    metrics = tuple(map(str, config["metrics"]))
    keys = [""] if config["keys"] is None else list(map(str, config["keys"]))
    rows = np.asarray(state["rows"], dtype=np.float64).reshape(-1, len(metrics))
    parts = np.split(rows, np.cumsum(state["sizes"])[:-1])
    return [
        Window(0 if step is None else int(step), key, metrics, part)
        for key, part in zip(keys, parts, strict=True)
    ]


def _number(file: Path) -> int:
    found = re.findall(r"\d+", "/".join(file.parts[-2:]))
    return int(found[-1]) if found else -1
