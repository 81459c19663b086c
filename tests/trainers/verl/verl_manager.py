"""A reward manager in this process, made and called by verl's own functions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils import hf_tokenizer


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
    columns = {"data_source": "scenes", "reward_model": {"ground_truth": reference}, **columns}
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
