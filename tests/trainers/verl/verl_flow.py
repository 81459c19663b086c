"""verl's own V1 data flow on CPU; only the language model is a stand-in.

TransferQueue, agent loops, reward workers, replay buffer and configuration are verl's.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import ray
import transfer_queue as tq
import verl.trainer.config
from builders import entry, wrap
from transformers import AutoTokenizer
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, PPOTrainer
from verl.utils import tensordict_utils as tu
from verl.workers.rollout.replica import TokenOutput

PATH = "pkg://rankreward.adapters.verl"
MANAGER = [
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.name=RankRewardManager",
    f"reward.reward_manager.module.path={PATH}",
]
BUFFER = [
    f"trainer.v1.sampler.custom_sampler.path={PATH}",
    "trainer.v1.sampler.custom_sampler.name=RankRewardReplayBuffer",
]
CALLBACK = ["trainer.checkpoint_callback_class=rankreward.adapters.verl.RankRewardCheckpoint"]
SESSIONS = 4
HERE = Path(__file__).parent


def compose(*overrides: str, tokenizer: str, output: Path) -> Any:
    """The configuration, as verl's `main_ppo` composes it."""
    base = [
        f"actor_rollout_ref.model.path={tokenizer}",
        "actor_rollout_ref.rollout.name=vllm",
        f"actor_rollout_ref.rollout.n={SESSIONS}",
        "actor_rollout_ref.rollout.val_kwargs.n=1",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "actor_rollout_ref.rollout.prompt_length=64",
        "actor_rollout_ref.rollout.response_length=512",
        "data.train_batch_size=4",
        "reward.num_workers=2",
        f"trainer.default_local_dir={output}",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    ]
    folder = str(Path(verl.trainer.config.__file__).parent)
    with hydra.initialize_config_dir(config_dir=folder, version_base=None):
        config = hydra.compose(config_name="ppo_trainer", overrides=[*base, *overrides])
    config.transfer_queue.enable = True
    return config


def start_ray() -> None:
    """A cluster whose workers can import the helpers of these tests."""
    paths = f"{HERE}:{HERE.parent.parent}"
    variables = {"PYTHONPATH": paths, "TRANSFER_QUEUE_ENABLE": "1", "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": variables},
    )


@ray.remote(num_cpus=0)
class Script:
    """What the stand-in for the language model answers, and how old its weights are."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.version = 0

    def write(self, answers: dict[str, list[str]], version: int) -> None:
        self.answers, self.version = answers, version

    def take(self, prompt: str) -> tuple[str, int]:
        return self.answers[prompt].pop(), self.version


class FakeModel:
    """Answers as verl's client of an inference server does."""

    def __init__(self, script: Any, tokenizer: str) -> None:
        self.script, self.folder, self.tokenizer = script, tokenizer, None

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: Any, **options: Any
    ) -> Any:

        if self.tokenizer is None:
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        prompt = re.search(r"q-\d+", self.tokenizer.decode(prompt_ids))
        text, version = await self.script.take.remote(prompt.group())
        steps = dict.fromkeys(("global_steps", "min_global_steps", "max_global_steps"), version)
        ids = [*self.tokenizer.encode(text), self.tokenizer.eos_token_id]
        return TokenOutput(token_ids=ids, stop_reason="completed", extra_fields=steps)


def new_script() -> Any:
    return Script.remote()


@dataclass
class Row:
    """One rollout as the trainer finds it."""

    text: str
    reference: Any
    score: float
    info: dict[str, Any]


@dataclass
class Flow:
    """The parts of verl's trainer that a reward meets."""

    config: Any
    tokenizer: str
    buffer: Any = None
    rewards: Any = None
    agents: Any = None
    script: Any = field(default_factory=new_script)

    def start(self) -> Flow:
        self.buffer = build_buffer(self.config)
        self.rewards = RewardLoopManager(self.config)
        self.agents = AgentLoopManagerTQ.create(
            config=self.config,
            llm_client=FakeModel(self.script, self.tokenizer),
            teacher_client=None,
            reward_loop_worker_handles=self.rewards.reward_loop_worker_handles,
        )
        return self

    def stop(self) -> None:
        """End the workers, so that their names are free."""
        for worker in (*self.rewards.reward_loop_workers, *self.agents.agent_loop_workers):
            ray.kill(worker)

    def submit(
        self, step: int, batch: dict[str, tuple[Any, list[str]]], split: str = "train"
    ) -> None:
        """Hand prompts to the agent loops: prompt to its reference and the answers to come."""
        count, part = len(batch), "train" if split == "train" else "val"
        version = step - (part == "train")  # weights get the number of the step that made them
        ray.get(self.script.write.remote({p: list(a) for p, (_, a) in batch.items()}, version))
        names = list(batch)
        columns = {
            "raw_prompt": [[{"role": "user", "content": name}] for name in names],
            "data_source": ["scenes"] * count,
            "reward_model": [{"style": "rule", "ground_truth": batch[n][0]} for n in names],
            "extra_info": [{"split": split, "index": n} for n in range(count)],
            "uid": [str(uuid.uuid4()) for _ in names],
        }
        arrays = {}
        for name, values in columns.items():
            arrays[name] = np.empty(count, dtype=object)
            arrays[name][:] = values
        data = tu.get_tensordict({**arrays, "index": np.arange(count)})
        tu.assign_non_tensor_data(data, "global_steps", step)
        if part == "val":
            tu.assign_non_tensor_data(data, "validate", True)
        tag = {"is_prompt": True, "status": "pending", "global_steps": step}
        tq.kv_batch_put(keys=list(data["uid"]), partition_id=part, tags=[tag] * count)
        self.agents.generate_sequences(data)

    def collect(
        self, step: int, count: int, split: str = "train", buffer: Any = None
    ) -> tuple[list[Row], dict[str, Any]]:
        """Sample the batch as the trainer does; the rows and what is logged."""
        part = "train" if split == "train" else "val"
        batch, log = (buffer or self.buffer).sample(
            global_steps=step, partition_id=part, batch_size=count
        )
        fields = ["rm_scores", "extra_fields", "responses", "reward_model"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=part, select_fields=fields)
        tokenizer = AutoTokenizer.from_pretrained(self.tokenizer)
        rows = [
            Row(
                text=tokenizer.decode(ids, skip_special_tokens=True),
                reference=model["ground_truth"],
                score=float(scores.sum()),
                info=extra["reward_extra_info"],
            )
            for ids, model, scores, extra in zip(
                data["responses"].unbind(),
                data["reward_model"],
                data["rm_scores"].unbind(),
                data["extra_fields"],
                strict=True,
            )
        ]
        tq.kv_clear(keys=batch.keys, partition_id=part)
        return rows, log

    def run(
        self,
        step: int,
        batch: dict[str, tuple[Any, list[str]]],
        split: str = "train",
        buffer: Any = None,
    ) -> tuple[list[Row], dict[str, Any]]:
        self.submit(step, batch, split)
        return self.collect(step, len(batch), split, buffer)


def build_buffer(config: Any) -> Any:
    """The replay buffer that verl's trainer makes of this configuration."""
    trainer = SimpleNamespace(
        config=config, trainer_mode=config.trainer.v1.trainer_mode, _add_prompts_to_generate=None
    )
    trainer._resolve_filter_groups_metric = lambda: None
    buffer = PPOTrainer._build_replay_buffer(trainer)
    buffer.poll_interval = 0.02  # seconds; verl's own 2 would be most of a test
    return buffer


def answers(rng: np.random.Generator, count: int = SESSIONS) -> tuple[str, list[str]]:
    """A reference, and answers near it; one in eight cannot be read."""
    x, y, w, h = rng.integers(50, 300, 4).tolist()
    reference = [entry([x, y, x + w, y + h], [x + w // 2, y + h // 2])]
    texts = []
    for _ in range(count):
        dx, dy, dw = rng.integers(-40, 40, 3).tolist()
        box = [x + dx, y + dy, x + w + dw, y + h]
        text = wrap([entry(box, [x + w // 2 + dx, y + h // 2])])
        texts.append(text if rng.random() > 0.125 else f"no idea {rng.integers(99)}")
    return json.dumps(reference), texts


def batch_of(rng: np.random.Generator, prompts: int = 4, count: int = SESSIONS) -> dict[str, Any]:
    return {f"q-{n}": answers(rng, count) for n in range(prompts)}


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
