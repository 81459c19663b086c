"""One rank of a real GRPO training, as `test_trl_ranks.py` starts it with torchrun.

trl_ranks.py SCENARIO FOLDER: what this rank scored, and its window after each step, goes to
FOLDER/rank<N>.json; checkpoints go to FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from tiny import rows, trainer
from transformers import TrainerCallback

import rankreward as rr
from policy import RECIPE
from rankreward.adapters.trl import RankReward

scenario, folder = sys.argv[1], Path(sys.argv[2])
rank = int(os.environ["RANK"])
calls: list[dict[str, Any]] = []
steps: list[dict[str, Any]] = []


class Watch(TrainerCallback):
    """Notes the window after each step; one rank may die in the middle of one."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if scenario == "killed" and rank == 1 and state.global_step == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        window = reward.scorer.quantiles
        assert window.pending == 0
        digest = hashlib.sha256(window.rows.tobytes()).hexdigest()
        steps.append({"step": state.global_step, "size": window.size, "hash": digest})


recipe = RECIPE
if scenario == "groups":
    recipe = RECIPE.override({"accuracy.normalizer": {"kind": "group", "eps": 1e-4}})
reward = RankReward(recipe)
score = reward.scorer.score


def spy(texts: list[str], references: list[Any], **keywords: Any) -> rr.RewardBatch:
    """Notes what is scored."""
    batch = score(texts, references, **keywords)
    call = {"texts": texts, "references": list(references), "total": batch.total.tolist()}
    calls.append({**call, "record": keywords["record"], "step": len(steps)})
    return batch


reward.scorer.score = spy  # type: ignore[method-assign]
run = trainer(
    folder,
    reward,
    callbacks=[reward.callback(), Watch()],
    train_dataset=rows(16),
    eval_dataset=rows(4, split="eval"),
    eval_strategy="steps",
    eval_steps=1,
    per_device_train_batch_size=4,
    per_device_eval_batch_size=2,
    gradient_accumulation_steps=2,
    steps_per_generation=1,
    num_generations=8,  # a group is split over the ranks
    num_generations_eval=2,
    max_completion_length=16,
    max_steps=4 if scenario == "resume" else 2,
    save_strategy="steps",
    save_steps=1,
)
run.train(resume_from_checkpoint=str(folder / "checkpoint-2") if scenario == "resume" else None)
entry = next(entry for entry in reversed(run.state.log_history) if "reward" in entry)
record = {
    "calls": calls,
    "steps": steps,
    "log": entry,
    "window": type(reward.scorer.quantiles).__name__,
}
(folder / f"rank{rank}.json").write_text(json.dumps(record))
torch.distributed.destroy_process_group()
