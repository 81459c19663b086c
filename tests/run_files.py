"""Folders of runs that the tests of reports share, in the shapes in which their writers leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from page_runs import HOSTILE
from pyarrow import parquet
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

import rankreward as rr
from rankreward.rewards.figures import WindowLog, batch_log

REFERENCE = '[{"bbox_2d": [100, 100, 300, 300], "point_2d": [200, 200]}]'
STEPS, GROUPS, SIZE = 24, 3, 4


def completion(rng: np.random.Generator, step: int) -> str:
    """A box that comes nearer to the reference; some cannot be read, and one is hostile."""
    lucky = rng.random()
    if lucky < 0.05:
        return f"<think>{HOSTILE}</think><answer>[NaN {HOSTILE} \x00]</answer>"
    if lucky < 0.15:
        return '<think>hm</think>\n<answer>{"bbox_2d": [1, 2</answer>'
    if lucky < 0.2:
        return "<think>hm"
    shift = rng.normal(0, 100 * (1 - step / STEPS), 4)
    x1, y1 = np.clip(100 + shift[:2], 0, 250)
    box = [x1, y1, *np.clip(300 + shift[2:], 260, 839)]
    entry = [{"bbox_2d": box, "point_2d": [200 + shift[0], 200]}]
    return f"<think><look>a cup</look></think>\n<answer>{json.dumps(entry)}</answer>"


class Training:
    """A run of the reward, as a trainer has it: completions, rewards and figures of each step."""

    def __init__(self, windows: Mapping[int, Path], steps: int = STEPS) -> None:
        scorer, log, rng = rr.Scorer("dr_seg"), WindowLog(), np.random.default_rng(0)
        self.texts: list[list[str]] = []
        self.batches: list[rr.RewardBatch] = []
        self.figures: list[dict[str, float]] = []
        for step in range(1, steps + 1):
            texts = [completion(rng, step) for _ in range(GROUPS * SIZE)]
            batch = scorer.score(texts, [REFERENCE] * len(texts))
            figures = batch_log(batch.raw, batch.ranks, batch.terms, batch.codes)
            figures |= {**log.figures(scorer.quantiles.size), "rankreward/seconds": 0.001 * step}
            log.flushed(scorer.flush(step))
            if step in windows:
                windows[step].parent.mkdir(parents=True, exist_ok=True)
                scorer.save(windows[step])
            self.texts.append(texts)
            self.batches.append(batch)
            self.figures.append(figures)
        self.recipe = scorer.recipe

    def groups(self, step: int) -> np.ndarray:
        return self.batches[step - 1].total.reshape(GROUPS, SIZE)


def write_lines(path: Path, lines: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def scored(folder: Path) -> Training:
    """What `rankreward score` writes."""
    windows = {step: folder / f"windows/step-{step:08d}.npz" for step in (1, 4, 8, 12, 16, 20, 24)}
    run = Training(windows)
    steps, examples = [], []
    for step, (figures, batch) in enumerate(zip(run.figures, run.batches, strict=True), 1):
        groups = run.groups(step)
        steps.append(
            {
                "step": step,
                "rows": len(batch),
                "reward": batch.total.mean(),
                "reward_std": batch.total.std(),
            }
            | figures
            | {"rankreward/group_std": groups.std(axis=1).mean()}
            | {"rankreward/dead_groups": (groups.std(axis=1) == 0).mean()}
            | {"completions/mean_length": float(np.mean([*map(len, run.texts[step - 1])]))}
        )
        for place, failure in enumerate(batch.failures):
            if failure is not None:
                told = {
                    "code": failure.code,
                    "message": failure.message,
                    "position": failure.position,
                }
                text = run.texts[step - 1][place]
                row = {
                    "why": failure.code,
                    "place": f"log.jsonl:{place}",
                    "step": step,
                    "failure": told,
                }
                examples.append({**row, "completion": text, "reference": REFERENCE, "total": 1.0})
    row = {"why": "best", "place": "log.jsonl:1", "step": 1, "failure": None, "total": 5.0}
    examples.append({**row, "completion": HOSTILE, "reference": REFERENCE})
    write_lines(folder / "steps.jsonl", steps)
    write_lines(folder / "examples.jsonl", examples)
    (folder / "settings.json").write_text(
        json.dumps({"recipe": run.recipe.model_dump(mode="json")})
    )
    return run


def trl_entry(run: Training, step: int) -> dict[str, float]:
    """An entry of TRL 1.16's history."""
    batch, groups = run.batches[step - 1], run.groups(step)
    return {
        "loss": 0.01,
        "grad_norm": 0.3,
        "learning_rate": 1e-5,
        "num_tokens": 1000.0 * step,
        "completions/mean_length": 18.0 + step,
        "completions/clipped_ratio": 0.0,
        "rewards/dr_seg/mean": float(batch.total.mean()),
        "reward": float(batch.total.mean()),
        "reward_std": float(batch.total.std()),
        "frac_reward_zero_std": float((groups.std(axis=1) == 0).mean()),
        **run.figures[step - 1],
        "kl": 0.001 * step,
        "entropy": 1.0 - 0.01 * step,
        "step_time": 1.3,
        "epoch": step / STEPS,
        "step": step,
    }


def trl(folder: Path) -> Training:
    """TRL's output folder: two checkpoints, and tables of completions."""
    run = Training({step: folder / f"checkpoint-{step}/rankreward.npz" for step in (12, 24)})
    entries = [trl_entry(run, step) for step in range(1, STEPS + 1)]
    for step in (12, 24):
        evaluated = [{"eval_reward": 4.0, "epoch": 0.5, "step": step}]
        state = {"global_step": step, "log_history": entries[:step] + evaluated}
        (folder / f"checkpoint-{step}/trainer_state.json").write_text(json.dumps(state))
    for step in range(1, STEPS + 1):
        completions(folder / "completions", run, step)
    return run


def completions(folder: Path, run: Training, step: int) -> None:
    """TRL's table of a step, with the adapter's columns; half a surrogate pair fits no Parquet."""
    texts = [text.replace("\ud800", "?") for text in run.texts[step - 1]]
    count = len(texts)
    failures = [
        "" if f is None else f"{f.code}: {f.message}" for f in run.batches[step - 1].failures
    ]
    table = {
        "step": [step] * count,
        "prompt": [[{"role": "user", "content": "find"}]] * count,
        "completion": [[{"role": "assistant", "content": text}] for text in texts],
        "dr_seg": run.batches[step - 1].total.tolist(),
        "failure": [failure.replace("\ud800", "?") for failure in failures],
        "reference": [REFERENCE] * count,
        "group": [place // SIZE for place in range(count)],
        "advantage": [0.0] * count,
    }
    folder.mkdir(exist_ok=True)
    parquet.write_table(pa.table(table), folder / f"completions_{step:05d}.parquet")


def verl(folder: Path) -> Training:
    """verl's file logger, checkpoints and rollouts in one folder."""
    run = Training({step: folder / f"global_step_{step}/rankreward.npz" for step in (8, 24)})
    lines = []
    for step in range(1, STEPS + 1):
        batch = run.batches[step - 1]
        data = {
            "critic/score/mean": float(batch.total.mean()),
            "critic/rewards/mean": -1.0,
            "response_length/mean": 20.0 + step,
            "actor/entropy": 0.5,
            "actor/kl_loss": 0.001,
            "actor/grad_norm": 0.2,
            **run.figures[step - 1],
            "rankreward/errors": 0.0,
        }
        lines.append({"step": step, "data": data})
        rows = [
            {"input": "find", "output": text, "gts": REFERENCE, "score": total, "step": step, "uid": f"q_{place // SIZE}_{place % SIZE}_0"}
            for place, (text, total) in enumerate(zip(run.texts[step - 1], batch.total, strict=True))
        ]  # fmt: skip
        write_lines(folder / "rollouts" / f"{step}.jsonl", rows)
    write_lines(folder / "my_experiment.jsonl", lines)
    return run


def easyr1(folder: Path) -> Training:
    """EasyR1's nested log, its checkpoints, and the window of the last call."""
    paths = {16: folder / "global_step_16/rankreward.npz", 24: folder / "rankreward.npz"}
    run = Training(paths)
    lines = []
    for step in range(1, STEPS + 1):
        flat = {f"reward/{name}": value for name, value in run.figures[step - 1].items()}
        flat |= {"reward/overall": float(run.batches[step - 1].total.mean())}
        flat |= {
            "response_length/mean": 20.0 + step,
            "actor/entropy_loss": 0.6,
            "actor/kl_loss": 0.1,
        }
        lines.append({"step": step, **nested(flat)})
    write_lines(folder / "experiment_log.jsonl", lines)
    return run


def nested(flat: Mapping[str, float]) -> dict[str, Any]:
    """Names with slashes as mappings within one another."""
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        at = whole
        *path, last = name.split("/")
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return whole


def events(folder: Path) -> Training:
    """TensorBoard's files of a run in TRL, which writes ``train/`` before its names."""
    run = Training({24: folder / "checkpoint-24/rankreward.npz"})
    writer = EventFileWriter(str(folder / "runs" / "Nov21"))
    for step in range(1, STEPS + 1):
        for name, value in trl_entry(run, step).items():
            scalar = Summary(value=[Summary.Value(tag=f"train/{name}", simple_value=value)])
            writer.add_event(Event(step=step, wall_time=1.0, summary=scalar))
    writer.close()
    return run


WRITERS = {
    "rankreward score": scored,
    "TRL": trl,
    "verl": verl,
    "EasyR1": easyr1,
    "TensorBoard": events,
}
