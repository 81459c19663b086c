"""A reward manager in this process, made and called by verl's own functions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch
import verl_flow as vf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils import hf_tokenizer

import rankreward as rr
from rankreward.adapters.verl_window import window_name
from rankreward.quantiles.ray import NAMESPACE, RayQuantileService

CALLBACK = "rankreward.adapters.verl.RankRewardCheckpoint"


def make(config: Any, tokenizer: str) -> Any:
    """What a reward worker makes of the configuration."""
    manager = load_reward_manager(config, hf_tokenizer(tokenizer))
    manager.loop.close()  # made by verl's base class; ours uses the one that runs
    return manager


def data(tokenizer: Any, text: str, reference: Any, **columns: Any) -> Any:
    """A rollout as verl's agent loop hands it to a reward worker."""
    prompt = torch.tensor(tokenizer.encode("find it"))
    response = torch.tensor([*tokenizer.encode(text), tokenizer.eos_token_id])
    whole = torch.cat([prompt, response])
    tensors = {"prompts": prompt, "responses": response, "input_ids": whole}
    tensors["attention_mask"] = torch.ones_like(whole)
    row = {"reward_model": {"ground_truth": reference}, "extra_info": {"split": "train"}}
    columns = {"data_source": "scenes", **row, **columns}
    arrays = {}
    for name, value in columns.items():
        arrays[name] = np.empty(1, dtype=object)
        arrays[name][0] = value
    arrays["response_len"] = np.array([len(response)])
    batch = TensorDict({name: value[None] for name, value in tensors.items()}, batch_size=1)
    return DataProto(batch=batch, non_tensor_batch=arrays)


def score(
    manager: Any, rows: Sequence[tuple[str, Any]], *, step: int = 1, **columns: Any
) -> list[dict[str, Any]]:
    """Score rollouts that come at once."""
    return score_data(
        manager,
        [
            data(
                manager.tokenizer,
                text,
                reference,
                global_steps=step,
                uid=f"u{place // 4}",
                session_id=place % 4,
                **columns,
            )
            for place, (text, reference) in enumerate(rows)
        ],
    )


def score_data(manager: Any, batch: Sequence[Any]) -> list[dict[str, Any]]:
    async def together() -> list[Any]:
        return await asyncio.gather(*(manager.run_single(each) for each in batch))

    return asyncio.run(together())


def end_window() -> None:
    """As the end of a job does."""

    def gone() -> bool:
        try:
            ray.kill(ray.get_actor(window_name(), namespace=NAMESPACE), no_restart=True)
        except ValueError:
            return True
        return False

    vf.wait_for(gone)


def rows_of(seed: int, prompts: int = 4) -> list[tuple[str, str]]:
    batch = vf.batch_of(np.random.default_rng(seed), prompts)
    return [(text, reference) for reference, texts in batch.values() for text in texts]


def totals(paid: list[dict[str, Any]]) -> list[float]:
    return [each["reward_score"] for each in paid]


def expected(scorer: rr.Scorer, rows: list[tuple[str, str]], **options: Any) -> list[float]:
    return scorer.score([t for t, _ in rows], [r for _, r in rows], **options).total.tolist()


def window_of(manager: Any) -> RayQuantileService:
    return manager._rewards.scorer.quantiles
