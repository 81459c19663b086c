"""A random policy of the real architecture and what a trainer needs to run it for a few steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import torch
from trl import GRPOConfig, GRPOTrainer

from policy import RECIPE, load, text_tokens_only
from rankreward.adapters.trl import RankReward
from rankreward.datasets.digits import scenes, to_dataset

GROUP, BATCH = 4, 8


def rows(count: int, *, split: Any = "train") -> datasets.Dataset:
    """Digit scenes as a trainer's dataset."""
    return to_dataset(list(scenes(count, seed=5, split=split)), RECIPE)


def trainer(
    out: Path, reward: RankReward, *, funcs: list[Any] | None = None, **options: Any
) -> GRPOTrainer:
    """TRL's trainer over the demo's policy, in batches of two groups of four."""
    torch.manual_seed(0)
    model, processor = load()
    callbacks = options.pop("callbacks", [reward.callback()])
    peft_config = options.pop("peft_config", None)
    data = {
        "train_dataset": options.pop("train_dataset", rows(16)),
        "eval_dataset": options.pop("eval_dataset", None),
    }
    config = {
        "per_device_train_batch_size": BATCH,
        "num_generations": GROUP,
        "max_completion_length": 24,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "generation_kwargs": {"suppress_tokens": text_tokens_only(processor.tokenizer)},
    }
    return GRPOTrainer(
        model=model,
        reward_funcs=[reward] if funcs is None else funcs,
        args=GRPOConfig(output_dir=str(out), **{**config, **options}),
        processing_class=processor,
        callbacks=callbacks,
        peft_config=peft_config,
        **data,
    )
