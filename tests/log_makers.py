"""Logs for the tests, as trainers write them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from builders import G1, entry, wrap

REFERENCE = json.dumps(G1)


def completion(rng: np.random.Generator) -> str:
    """An answer that is off by a random distance, or broken."""
    if rng.random() < 0.15:
        return "<think>no"
    shift = rng.uniform(-80, 80, 4).round(1)
    box = (np.array([100, 100, 300, 300]) + shift).tolist()
    return wrap([entry(box, box[:2])])


def rollouts(steps: int, groups: int = 3, size: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of a plain log."""
    rng = np.random.default_rng(seed)
    return [
        {
            "step": step, "group": group, "prompt": f"question {step} {group}",
            "completion": completion(rng), "reference": REFERENCE, "tokens": int(rng.integers(99)),
        }
        for step in range(1, steps + 1)
        for group in range(groups)
        for _ in range(size)
    ]  # fmt: skip


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_verl(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """verl's dumps: a file a step, named by it, with the keys of its batch as uid."""
    folder.mkdir()
    counts: dict[tuple[int, int], int] = {}
    for row in rows:
        place = counts[row["step"], row["group"]] = counts.get((row["step"], row["group"]), -1) + 1
        entry = {
            "input": row["prompt"], "output": row["completion"], "gts": row["reference"],
            "score": 1.0, "step": row["step"], "uid": f"5c1e_{row['group']}_{place}_0",
        }  # fmt: skip
        with (folder / f"{row['step']}.jsonl").open("a") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return folder


def write_generations(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """EasyR1's generations.log."""
    with path.open("a") as file:
        for row in rows:
            file.write(
                f"[prompt] {row['prompt']}\n[output] {row['completion']}\n"
                f"[ground_truth] {row['reference']}\n[score] 1.0\n\n"
            )
    return path
