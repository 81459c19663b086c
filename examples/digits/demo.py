"""Train the tiny policy with the ranked reward, and show that it got better.

Evaluates the start on held-out digits, runs GRPO (TRL's own trainer) with the `dr_seg` reward,
evaluates again, prints one table and writes curves, distributions, pictures and a page of the run
to a folder.

    python examples/digits/demo.py --seed 0 --out runs/demo
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

# Set before transformers is imported: nothing is downloaded, and tokenizers do not fork.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

import rankreward as rr
from policy import RECIPE, START, generate, load, text_tokens_only
from rankreward.adapters.trl import RankReward
from rankreward.datasets.digits import Scene, scenes, to_dataset
from rankreward.evaluation import Evaluation, GrabCut, compare, evaluate
from rankreward.report import contact_sheet, plot_curves, plot_ecdf, write_run_page
from rankreward.runs import read_run

PROMPTS, ROLLOUTS = 16, 8
MODES = ("greedy", "sampled")


class Windows(TrainerCallback):
    """Keeps the ranked reward's window as it stood at some steps."""

    def __init__(self, scorer: rr.Scorer, steps: tuple[int, ...]) -> None:
        self.scorer, self.steps = scorer, steps
        self.rows: dict[int, np.ndarray] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self.steps:
            self.rows[state.global_step] = self.scorer.quantiles.rows


def main() -> None:
    args = parse_args()
    quiet()
    console = Console()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    trainer_folder = args.out / "trainer"
    checkpoint = last_checkpoint(trainer_folder) if args.resume else None
    model, processor = load(args.start)
    held_out = list(scenes(args.eval_scenes, seed=0, split="eval"))
    clock = {}

    begin = time.perf_counter()
    before, answers_before = judge(model, processor, held_out, "evaluate the start")
    clock["evaluation before"] = time.perf_counter() - begin

    reward = RankReward(RECIPE, reference="solution")
    middle = max(args.steps // 2, 1)
    windows = Windows(reward.scorer, (1, middle, args.steps))
    begin = time.perf_counter()
    if checkpoint is not None:
        # The trainer restores its own state, but not these weights: it looks for their names
        # inside the model, and a saved Qwen2.5-VL carries the names of the original release.
        model, _ = load(args.start, weights=checkpoint)
    log = train(model, processor, reward, windows, args, checkpoint=checkpoint)
    clock["training"] = time.perf_counter() - begin

    begin = time.perf_counter()
    after, answers_after = judge(model, processor, held_out, "evaluate the result")
    clock["evaluation after"] = time.perf_counter() - begin

    result = summarise(before, after, args, clock)
    (args.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    (args.out / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    reward.scorer.save(args.out / "window.npz")
    model.save_pretrained(args.out / "policy")
    answers = {"before": answers_before, "after": answers_after}
    draw(args.out, log, windows.rows, held_out, answers)
    page = write_run_page(args.out / "report.html", [read_run(args.out)])
    console.print(as_table(result))
    console.print(", ".join(f"{part} {seconds:.0f} s" for part, seconds in clock.items()))
    console.print(
        "The reward in the log starts high and levels off: ranks are taken among recent rollouts, "
        "which get better too. The raw metrics show the progress."
    )
    console.print(f"Pictures, log and policy: {args.out}/, all curves: {page}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the sampling")
    parser.add_argument("--steps", type=int, default=150, help="GRPO steps")
    parser.add_argument("--eval-scenes", type=int, default=400, help="held-out scenes")
    parser.add_argument("--start", type=Path, default=START, help="folder of the start's weights")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where results go")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return parser.parse_args()


def train(
    model: Any,
    processor: Any,
    reward: RankReward,
    windows: Windows,
    args: argparse.Namespace,
    *,
    checkpoint: Path | None,
) -> list[dict[str, Any]]:
    """GRPO with TRL's trainer, from the start or from a checkpoint; returns its log."""
    composed = scenes(PROMPTS * args.steps, seed=args.seed + 1, split="train")
    total = PROMPTS * args.steps
    data = to_dataset(list(tqdm(composed, "compose scenes", total=total)), RECIPE)
    config = GRPOConfig(
        output_dir=str(args.out / "trainer"),
        per_device_train_batch_size=PROMPTS * ROLLOUTS,
        num_generations=ROLLOUTS,
        max_steps=args.steps,
        max_completion_length=64,
        temperature=1.0,
        learning_rate=4e-4,
        lr_scheduler_type="linear",
        warmup_steps=5,
        # The policy has to write text only: a visual token in an answer has no image behind it.
        generation_kwargs={"suppress_tokens": text_tokens_only(processor.tokenizer)},
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_steps=max(args.steps // 4, 1),
        save_total_limit=1,
        report_to=[],
        log_completions=True,  # trainer/completions/*.parquet: to be scored again, and replayed
        num_completions_to_print=0,
        seed=args.seed,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[reward],
        args=config,
        train_dataset=data,
        processing_class=processor,
        callbacks=[reward.callback(), windows],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.remove_callback(transformers.ProgressCallback)
    trainer.add_callback(Progress())
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return [entry for entry in trainer.state.log_history if "reward" in entry]


def last_checkpoint(folder: Path) -> Path:
    """Where an interrupted run can go on from."""
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None:
        raise SystemExit(f"--resume: expected a checkpoint in {folder}, got none; leave it out")
    return Path(last)


class Progress(TrainerCallback):
    """One bar with the reward and the raw metrics in it, in place of a line a step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(desc="GRPO", total=state.max_steps, initial=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "reward" in logs:
            names = ("iou", "count", "point")
            shown = {name: f"{logs[f'rankreward/raw/{name}']:.2f}" for name in names}
            self.bar.set_postfix(reward=f"{logs['reward']:.2f}", **shown, refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


def judge(
    model: Any, processor: Any, held_out: list[Scene], title: str
) -> tuple[dict[str, Evaluation], list[str]]:
    """Evaluate a policy greedily and sampled; returns the greedy answers besides."""
    results, segmenter, greedy = {}, GrabCut(), []
    for mode in MODES:
        torch.manual_seed(0)
        texts = generate(
            model, processor, held_out, sample=mode == "sampled", title=f"{title}, {mode}"
        )
        greedy = greedy or texts
        results[mode] = evaluate(
            texts,
            [scene.reference for scene in held_out],
            [scene.image for scene in held_out],
            [scene.mask for scene in held_out],
            recipe=RECIPE,
            segmenter=segmenter,
        )
    return results, greedy


def summarise(
    before: dict[str, Evaluation],
    after: dict[str, Evaluation],
    args: argparse.Namespace,
    clock: dict[str, float],
) -> dict[str, Any]:
    """Everything that the table shows, as plain values."""
    measures = {}
    for mode in MODES:
        first, second = before[mode].summary(), after[mode].summary()
        for name, (difference, low, high) in compare(before[mode], after[mode]).items():
            measures[f"{name}, {mode}"] = {
                "before": first[name],
                "after": second[name],
                "difference": difference,
                "low": low,
                "high": high,
            }
    settings = {"seed": args.seed, "steps": args.steps, "eval_scenes": args.eval_scenes}
    return {"settings": settings, "seconds": clock, "measures": measures}


def as_table(result: dict[str, Any]) -> Table:
    settings = result["settings"]
    table = Table(
        title=f"{settings['eval_scenes']} scenes of held-out digits, before and after "
        f"{settings['steps']} steps of GRPO (seed {settings['seed']})"
    )
    for column in ("measure", "before", "after", "difference", "95% interval"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, row in result["measures"].items():
        clear = row["low"] > 0 or row["high"] < 0
        table.add_row(
            name,
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['difference']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
            style="bold" if clear else None,
        )
    return table


def draw(
    out: Path,
    log: list[dict[str, Any]],
    windows: dict[int, np.ndarray],
    held_out: list[Scene],
    answers: dict[str, list[str]],
) -> None:
    """Write curves.png, ecdf.png and contact_sheet.png."""
    names = tuple(RECIPE.accuracy.metrics)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    plot_curves(axes[0], log, ["reward"])
    plot_curves(axes[1], log, [f"rankreward/raw/{name}" for name in names])
    plot_curves(axes[2], log, [f"rankreward/rank/{name}" for name in names])
    titles = ("reward: against recent rollouts, need not rise", "raw metrics: should rise", "ranks")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
    _save(figure, out / "curves.png")

    figure, axes = plt.subplots(1, len(names), figsize=(15, 4))
    for column, (ax, name) in enumerate(zip(axes, names, strict=True)):
        for step, rows in windows.items():
            plot_ecdf(ax, rows[:, column], f"step {step}")
        ax.set_title(name)
    _save(figure, out / "ecdf.png")

    shown = held_out[:10]
    sheet = contact_sheet(
        [scene.image for scene in shown],
        [scene.query for scene in shown],
        [np.array([t.box for t in scene.targets]).reshape(-1, 4) for scene in shown],
        {name: [_boxes(text) for text in texts[: len(shown)]] for name, texts in answers.items()},
    )
    _save(sheet, out / "contact_sheet.png")


def _boxes(text: str) -> np.ndarray | None:
    answer = rr.parse(text).answer
    return None if answer is None else answer.boxes


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def quiet() -> None:
    """Keep the libraries' chatter off the screen; errors still show."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(trl|transformers|accelerate|torch)\b")


if __name__ == "__main__":
    main()
