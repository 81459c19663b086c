"""A log of EasyR1's rollouts, which EasyR1 does not keep itself.

Goes in: a training batch and what it was paid. Comes out: a file of JSON lines a step, as
`rankreward score` and `rankreward replay` read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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
        truths: B ground truths. Rollouts whose ground truths are equal are taken for one group, as
            EasyR1 shuffles a batch and names no groups.
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
            "step": step, "group": group, "completion": given["response"], **columns,
            "tokens": given["response_length"], "reward": total,
        }  # fmt: skip
        lines.append(_text(row) + "\n")
    path = folder / f"{step:08d}.jsonl"
    part = folder / f".{path.name}.{os.getpid()}.tmp"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(path)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, default=lambda array: array.tolist())
