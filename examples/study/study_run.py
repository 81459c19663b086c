"""One run of a study: train the digit policy with a variant's reward, and measure what came out.

Goes in: a design, a variant's name and a seed. Comes out: a record of plain values, with measures
on held-out scenes before and after, and curves of training. The trainer is TRL's `GRPOTrainer`.

All variants get the same start, the same scenes in the same order for a seed, and the same prompt
(that of `dr_seg`, which asks for a look), so that nothing but the reward differs.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import rankreward as rr
from policy import RECIPE, generate, load, text_tokens_only
from rankreward.adapters.trl import RankReward
from rankreward.datasets.digits import Scene, scenes, to_dataset
from rankreward.evaluation import GrabCut, evaluate
from study_design import Design, Training, Variant

YARDSTICK = RECIPE.override({"name": "yardstick", "accuracy.normalizer": {"kind": "none"}})
Record = dict[str, Any]
Floats = NDArray[np.float64]


def run(design: Design, name: str, seed: int) -> Record:
    """Train and measure one variant with one seed."""
    quiet()
    variant = design.variants[name]
    training, sets = design.training_of(variant), design.sets(variant)
    clock, processor_seconds = [time.perf_counter()], time.process_time()
    before = _start_measures(json.dumps(sets), training.max_tokens)
    clock.append(time.perf_counter())
    model, processor = load()
    if torch.cuda.is_available():
        model.cuda()
    prepare_each_image_once(processor)
    encode_each_image_once(model)
    steps = train(model, processor, variant, training, seed)
    clock.append(time.perf_counter())
    after = measure(model, processor, sets, training.max_tokens)
    clock.append(time.perf_counter())
    return {
        "variant": name,
        "seed": seed,
        "fingerprint": design.fingerprint(name),
        "before": before,
        "after": after,
        "curves": curves(steps, design.block),
        "seconds": {
            **dict(zip(("before", "training", "after"), np.diff(clock).round(1), strict=True)),
            "processor": round(time.process_time() - processor_seconds, 1),
        },
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("rankreward", "trl", "transformers", "torch", "numpy")
        },
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def train(
    model: Any, processor: Any, variant: Variant, training: Training, seed: int
) -> list[dict[str, float]]:
    """GRPO from the start; the figures of every step."""
    reward = RankReward(variant.reward(), reference="solution")
    one_by_one = variant.aggregation == "normalize_then_sum"
    watch = Watch(reward.scorer, training.rollouts, one_by_one=one_by_one)
    transformers.set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward.terms() if one_by_one else [reward],
            args=config(training, seed, variant.aggregation, processor, folder),
            train_dataset=_rows(
                training.prompts * training.steps, seed, json.dumps(training.scenes)
            ),
            processing_class=processor,
            callbacks=[reward.callback(), watch],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.remove_callback(transformers.ProgressCallback)
        trainer.train()
    return watch.steps


def config(
    training: Training, seed: int, aggregation: str, processor: Any, folder: str
) -> GRPOConfig:
    """The trainer's settings: no checkpoints, no tables, nothing that costs time."""
    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=training.prompts * training.rollouts,
        num_generations=training.rollouts,
        max_steps=training.steps,
        max_completion_length=training.max_tokens,
        temperature=1.0,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=training.warmup_steps,
        multi_objective_aggregation=aggregation,
        generation_kwargs={"suppress_tokens": text_tokens_only(processor.tokenizer)},
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )


class Watch(TrainerCallback):
    """Keeps the figures of every step: what was paid, and what an outside yardstick says of it.

    The yardstick is the same for all variants: the raw metrics of `dr_seg`.
    """

    def __init__(self, scorer: rr.Scorer, rollouts: int, *, one_by_one: bool) -> None:
        self.rollouts, self.one_by_one = rollouts, one_by_one
        self.steps: list[dict[str, float]] = []
        self._yardstick, self._score = rr.Scorer(YARDSTICK), scorer.score
        scorer.score = self._see  # type: ignore[method-assign]

    def _see(self, completions: Sequence[str], references: Any, **others: Any) -> rr.RewardBatch:
        batch = self._score(completions, references, **others)
        plain = self._yardstick.score(completions, references, record=False)
        figures = {f"raw/{name}": float(np.nanmean(column)) for name, column in plain.raw.items()}
        figures["failures"] = float(np.mean([code is not None for code in plain.codes]))
        figures["look"] = float(plain.terms["look"].mean())
        shares = signal_shares(batch.terms, self.rollouts, one_by_one=self.one_by_one)
        self.steps.append({**figures, **shares})
        return batch

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        wanted = {"entropy", "grad_norm", "completions/mean_length"}
        if logs and "reward" in logs:
            self.steps[-1].update({key: float(logs[key]) for key in wanted & logs.keys()})


def signal_shares(
    terms: dict[str, Floats], rollouts: int, *, one_by_one: bool, eps: float = 1e-4
) -> dict[str, float]:
    """How much of the advantages' variance each term accounts for, and how much it spreads.

    With the advantage A the sum of parts A_k, one a term, the share of term k is
    cov(A_k, A) / var(A), pooled over the groups; the shares add up to 1. Advantages are those of
    GRPO (the group's standard score of the sum), or `one_by_one` of GDPO (the sum of the group's
    standard scores).

    Args:
        terms: name to (B,) what was paid; groups are neighbours.
        rollouts: completions a group.
        one_by_one: whether terms are normalised one by one.
        eps: added to standard deviations, as the trainer does.

    Returns:
        ``share/<term>``; ``spread/<term>``, the mean over groups of the standard deviation within
        the group; and ``dead``, the share of groups whose advantages are all 0.
    """
    parts = np.stack([*terms.values()], axis=-1).reshape(-1, rollouts, len(terms))
    parts = parts - parts.mean(axis=1, keepdims=True)
    spread = parts.std(axis=1, ddof=1)
    if one_by_one:
        parts = parts / (spread[:, None, :] + eps)
    else:
        parts = parts / (parts.sum(axis=2).std(axis=1, ddof=1)[:, None, None] + eps)
    whole = parts.sum(axis=2)
    power = (whole**2).sum()
    dead = np.abs(whole).max(axis=1) < 1e-6
    shares = (parts * whole[:, :, None]).sum(axis=(0, 1)) / power if power else np.zeros(len(terms))
    return {
        **{f"share/{name}": float(share) for name, share in zip(terms, shares, strict=True)},
        **{f"spread/{name}": float(s) for name, s in zip(terms, spread.mean(axis=0), strict=True)},
        "dead": float(dead.mean()),
    }


def curves(steps: Sequence[dict[str, float]], block: int) -> dict[str, list[float]]:
    """Means over blocks of steps, by name."""
    names = dict.fromkeys(name for step in steps for name in step)
    starts = range(0, len(steps), block)
    return {
        name: [
            round(float(np.nanmean([s.get(name, np.nan) for s in steps[k : k + block]])), 4)
            for k in starts
        ]
        for name in names
    }


def measure(
    model: Any, processor: Any, sets: dict[str, dict[str, Any]], max_tokens: int
) -> dict[str, dict[str, float]]:
    """Greedy answers to every held-out set, measured."""
    segmenter, result = GrabCut(), {}
    for name, options in sets.items():
        asked = _held_out(json.dumps(options))
        texts = generate(
            model, processor, asked, sample=False, title=name, max_new_tokens=max_tokens
        )
        done = evaluate(
            texts,
            [scene.reference for scene in asked],
            [scene.image for scene in asked],
            [scene.mask for scene in asked],
            recipe=RECIPE,
            segmenter=segmenter,
        )
        looks = float(np.mean([bool(rr.parse(text).looks) for text in texts]))
        values = {**done.summary(), "looks": looks}
        result[name] = {key: round(value, 4) for key, value in values.items()}
    return result


@functools.lru_cache(maxsize=8)
def _start_measures(sets: str, max_tokens: int) -> dict[str, dict[str, float]]:
    """What the start makes of the held-out sets; the same for all runs of a process."""
    model, processor = load()
    if torch.cuda.is_available():
        model.cuda()
    return measure(model, processor, json.loads(sets), max_tokens)


@functools.lru_cache(maxsize=32)
def _held_out(options: str) -> list[Scene]:
    return list(scenes(**{"seed": 0, **json.loads(options)}))


@functools.lru_cache(maxsize=2)
def _rows(count: int, seed: int, options: str) -> Any:
    """The training scenes of a seed, in the order in which every variant sees them."""
    made = scenes(count, seed=seed + 1, split="train", **json.loads(options))
    return to_dataset(list(made), RECIPE)


def prepare_each_image_once(processor: Any) -> None:
    """Cut a picture into patches once, and not once for each of its rollouts; the same result."""
    prepare = processor.image_processor.preprocess

    def once(images: Sequence[Any], **others: Any) -> Any:
        flat = [
            each for entry in images for each in (entry if isinstance(entry, list) else [entry])
        ]
        keys = [each.tobytes() for each in flat]
        kept = dict(zip(keys, flat, strict=True))
        place = [list(kept).index(key) for key in keys]
        output = prepare(list(kept.values()), **others)
        patches = output["pixel_values"]
        whole = patches.reshape(len(kept), -1, patches.shape[-1])[place]
        output["pixel_values"] = whole.reshape(-1, patches.shape[-1])
        output["image_grid_thw"] = output["image_grid_thw"][place]
        return output

    processor.image_processor.preprocess = once


def encode_each_image_once(model: Any) -> None:
    """Let the vision tower see a picture once, and not once for each of its rollouts.

    The outputs are the same up to rounding; a step takes a fifth less time.
    """
    visual = model.model.visual
    forward = visual.forward

    def once(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **others: Any) -> Any:
        pictures = hidden_states.view(len(grid_thw), -1)  # all of one size
        kept, place = torch.unique(pictures, dim=0, return_inverse=True)
        patches = kept.view(-1, hidden_states.shape[-1])
        output = forward(patches, grid_thw[: len(kept)], **others)
        for field in ("last_hidden_state", "pooler_output"):
            values = getattr(output, field)
            whole = values.view(len(kept), -1, values.shape[-1])[place]
            setattr(output, field, whole.reshape(-1, values.shape[-1]))
        return output

    visual.forward = once


def quiet() -> None:
    """Keep the libraries' chatter off the screen; errors still show."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(trl|transformers|accelerate|torch)\b")
