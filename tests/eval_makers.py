"""A mixed set of answers to digit scenes, and runs of them; as a script, a run that can be killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builders import entry, wrap

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.datasets.digits import scenes

RECIPE = rr.Recipe.load("dr_seg").resized(84)
SCENES = list(scenes(24, seed=1, split="eval"))


def answers(seed: int = 0) -> dict[str, str]:
    """Right, shifted, surplus, missed and unreadable answers, each from the scene's reference."""
    rng, texts = np.random.default_rng(seed), {}
    for place, scene in enumerate(SCENES):
        entries = [entry(t.box.tolist(), t.point.tolist()) for t in scene.targets]
        kind = rng.integers(5)
        if kind == 1:
            shift = int(rng.integers(1, 8))
            entries = [
                entry([int(v) + shift for v in t.box], t.point.tolist()) for t in scene.targets
            ]
        elif kind == 2:
            entries += [entry([2, 2, 30, 30], [9, 9])]
        elif kind == 3:
            entries = entries[:-1]
        texts[f"scene-{place}"] = wrap(entries) if kind != 4 else "I see nothing."
    return texts


def write(path: Path, texts: dict[str, str]) -> Path:
    """The answers as a file."""
    lines = [json.dumps({"id": name, "completion": text}) for name, text in texts.items()]
    path.write_text("\n".join(lines))
    return path


def run(out: Path, policy: Any = None, **options: Any) -> Path:
    """A run of a policy, or of `answers`, over the scenes."""
    if policy is None:
        policy = ev.StoredPolicy(write(out.parent / f"{out.name}.answers", answers()))
    arguments = {"recipe": RECIPE, "segmenter": ev.GrabCut(), "batch_size": 4, **options}
    samples = arguments.pop("samples", None) or ev.scene_samples(SCENES)
    return ev.run_policy(policy, samples, out=out, **arguments)


def timeless(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without the only thing that two equal runs differ in."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


class Slow(ev.StoredPolicy):
    """Takes its time, so that a signal meets it at work."""

    def complete(self, images: Any, prompts: Any, ids: Any) -> Any:
        time.sleep(0.05)
        return super().complete(images, prompts, ids)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Slow(sys.argv[2]), batch_size=2)
