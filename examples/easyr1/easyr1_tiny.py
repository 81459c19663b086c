"""EasyR1's reward without EasyR1's GPUs: three steps of a tiny policy's answers.

Goes in: EasyR1's configuration, filled in. Comes out: a line of figures a call, for training and
for validation. With EasyR1 installed its own AutoRewardManager calls the reward, else this file,
with the same arguments.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import torch
import which_verl
from sampler import TinySampler
from tqdm import tqdm

STEPS, PROMPTS = 3, 4
CHUNK = 32  # answers sampled at a time
Inputs = list[dict[str, Any]]
Scores = list[dict[str, float]]


def rehearse(config: Any) -> None:
    """Three steps of training, with validation before and after."""
    sampler = TinySampler()
    size = PROMPTS * config.worker.rollout.n
    train = _rows(config.data.train_files)[: STEPS * PROMPTS]
    batch = answers([row for row in train for _ in range(config.worker.rollout.n)], sampler)
    held_out = answers(_rows(config.data.val_files), sampler)
    call = caller(config.worker.reward, sampler.tokenizer)
    show("validation", call(held_out))
    for step in range(STEPS):
        show(f"step {step + 1}", call(batch[step * size : (step + 1) * size]))
    show("validation", call(held_out))


def _rows(file: str) -> list[dict[str, Any]]:
    return list(datasets.load_dataset("parquet", data_files=file, split="train"))


def answers(asked: Sequence[dict[str, Any]], sampler: TinySampler) -> Inputs:
    """The tiny policy's answers to rows of EasyR1's layout, as EasyR1 hands them to a reward."""
    batch: Inputs = []
    for begin in tqdm(range(0, len(asked), CHUNK), "sample answers"):
        part = asked[begin : begin + CHUNK]
        prompts = [sampler.prompt(row["problem"].removeprefix("<image>")) for row in part]
        written = sampler.generate(prompts, [row["images"][0] for row in part])
        for row, ids, text in zip(part, written, sampler.texts(written), strict=True):
            said = {"response": text, "response_length": len(ids), "ground_truth": row["answer"]}
            batch.append({**said, "ids": ids})
    return batch


def caller(reward: Any, tokenizer: Any) -> Callable[[Inputs], Scores]:
    """The reward as EasyR1 calls it; through EasyR1's own class if that is installed."""
    path, _, name = reward.reward_function.rpartition(":")
    kwargs = {key: reward.reward_function_kwargs[key] for key in reward.reward_function_kwargs}
    if which_verl.find().name == "EasyR1":
        return _manager(path, name, kwargs, tokenizer)
    print("EasyR1 is not here: its reward manager's call is made without it")
    spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    keys = ("response", "response_length", "ground_truth")
    return lambda inputs: getattr(module, name)(
        [{key: each[key] for key in keys} for each in inputs], **kwargs
    )


def _manager(
    path: str, name: str, kwargs: dict[str, Any], tokenizer: Any
) -> Callable[[Inputs], Scores]:
    from tensordict import TensorDict  # noqa: PLC0415 - EasyR1's own
    from verl.protocol import DataProto  # noqa: PLC0415
    from verl.workers.reward import AutoRewardManager  # noqa: PLC0415

    settings = SimpleNamespace(
        reward_function=path,
        reward_function_name=name,
        reward_function_kwargs=kwargs,
        skip_special_tokens=True,
    )
    manager = AutoRewardManager(settings, tokenizer)

    def call(inputs: Inputs) -> Scores:
        ids = [torch.tensor(each["ids"]) for each in inputs]
        responses = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.zeros_like(responses)
        for row, tokens in zip(mask, ids, strict=True):
            row[: len(tokens)] = 1
        truths = np.empty(len(inputs), dtype=object)
        truths[:] = [each["ground_truth"] for each in inputs]
        tensors = TensorDict({"responses": responses, "response_mask": mask}, len(inputs))
        data = DataProto(batch=tensors, non_tensor_batch={"ground_truth": truths})
        paid, metrics = manager.compute_reward(data)
        assert torch.allclose(paid.sum(1), torch.tensor(metrics["overall"], dtype=torch.float32))
        return [dict(zip(metrics, row, strict=True)) for row in zip(*metrics.values(), strict=True)]

    return call


def show(title: str, scores: Scores) -> None:
    """One line: how many were scored, and the means of what EasyR1 would log."""
    names = ["overall", *(f"rankreward/raw/{each}" for each in ("iou", "count", "point"))]
    names.append("rankreward/window/size")
    means = {name: float(np.mean([score[name] for score in scores])) for name in names}
    shown = ", ".join(f"{name.rpartition('/')[2]} {mean:.3f}" for name, mean in means.items())
    print(f"{title}: {len(scores)} rollouts, {shown}")
