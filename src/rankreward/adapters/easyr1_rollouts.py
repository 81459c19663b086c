"""A log of EasyR1's rollouts, which EasyR1 does not keep itself.

Goes in: a training batch and what it was paid. Comes out: a file of JSON lines a step, as
`rankreward score` and `rankreward replay` read them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\d{8,}\.jsonl")


def write_rollouts(
    folder: Path,
    step: int,
    inputs: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, Any]],
    totals: Sequence[float],
) -> None:
    """Write the file of a step, in one move; a run that does a step again replaces it.

    Args:
        folder: made if it is not there.
        step: the step, from 1.
        inputs: B mappings, as EasyR1 passes them.
        truths: B ground truths, whose keys become columns, but for those that the log has itself;
            what is no JSON is written as Python shows it. Rollouts whose ground truths are equal
            are taken for one group, as EasyR1 shuffles a batch and names no groups.
        totals: B rewards.

    Raises:
        OSError: the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, int] = {}
    lines = []
    for given, truth, total in zip(inputs, truths, totals, strict=True):
        group = groups.setdefault(_text(truth), len(groups))
        columns = {name: value for name, value in truth.items() if name != "split"}
        row = {
            **columns, "step": step, "group": group, "completion": given["response"],
            "tokens": given["response_length"], "reward": total,
        }  # fmt: skip
        lines.append(_text(row) + "\n")
    path = folder / f"{step:08d}.jsonl"
    part = folder / f".{path.name}.{os.getpid()}.tmp"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(path)


def forget_rollouts(folder: Path, step: int) -> None:
    """Delete the files of a step and of later ones: the run that wrote them was given up.

    Args:
        folder: may not be there.
        step: from 1.

    Raises:
        OSError: a file cannot be deleted.
    """
    left = [path for path in folder.glob("*.jsonl") if _NAME.fullmatch(path.name)]
    for path in left:
        if int(path.stem) >= step:
            path.unlink(missing_ok=True)


def _text(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or a circle
        return json.dumps({str(name): _readable(each) for name, each in value.items()})


def _readable(value: Any) -> Any:
    """The value as JSON has it, or as Python shows it."""
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError):
        return _shown(value)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else _shown(value)


def _shown(value: Any) -> str:
    return f"{value!r:.1000}"
