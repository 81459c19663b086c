"""ms-swift 4.6: the example in `swift rlhf --rlhf_type grpo`, with a tiny policy on the CPU."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, entry, wrap
from swift.pipelines.train.rlhf import rlhf_main
from swift.utils import import_external_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import rankreward as rr

PLUGIN = Path(__file__).parents[3] / "examples" / "plugins" / "ms_swift.py"
REFERENCE = json.dumps(G1)
OPTIONS = {
    "rlhf_type": "grpo", "model_type": "qwen2", "template": "qwen", "tuner_type": "full",
    "reward_funcs": "rankreward", "external_plugins": str(PLUGIN), "callbacks": "rankreward",
    "num_generations": 4, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4,
    "gradient_accumulation_steps": 2, "max_completion_length": 8, "max_length": 256,
    "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "logging_steps": 1, "report_to": "none",
    "use_hf": "true", "use_cpu": "true", "torch_dtype": "float32", "add_version": "false",
    "check_model": "false", "dataloader_num_workers": 0,
}  # fmt: skip


@dataclass
class Call:
    """One call of the reward function, and what it gave."""

    step: int  # the trainer's, before it counts the one that it is in
    texts: list[str]
    rewards: list[float]
    training: bool


@dataclass
class Spied:
    """The example, with answers that say something in place of a random policy's bytes."""

    calls: list[Call] = field(default_factory=list)
    windows: list[np.ndarray] = field(default_factory=list)  # of each call

    def watch(self, orm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        score = orm.__call__

        def call(reward: Any, completions: list[str], **columns: Any) -> list[float]:
            assert all(isinstance(text, str) for text in completions)
            first = sum(len(each.texts) for each in self.calls)
            texts = [answer(first + place) for place in range(len(completions))]
            rewards = score(reward, texts, **columns)
            step = columns["trainer_state"].global_step
            self.calls.append(Call(step, texts, rewards, reward.in_step))
            self.windows.append(reward.scorer.quantiles.rows)
            self.scorer = reward.scorer
            return rewards

        monkeypatch.setattr(orm, "__call__", call)


def answer(place: int) -> str:
    """Boxes from right to wrong, and now and then nothing that can be read."""
    return "nothing" if place % 5 == 4 else wrap([entry([100, 100, 300 - place, 300], [200, 200])])


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Qwen2 of a few thousand parameters whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("policy")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": "<|im_start|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(fast), **sizes, **heads))
    # An answer that ends before it begins is one that ms-swift cannot evaluate.
    model.generation_config.suppress_tokens = list(range(len(letters), len(fast)))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spied:
    """The plugin, loaded by ms-swift's own loader, which loads a file once."""
    found = Spied()
    monkeypatch.setattr(sys, "path", list(sys.path))
    found.watch(import_external_file(str(PLUGIN)).RankReward, monkeypatch)
    return found


def train(policy: Path, folder: Path, **options: Any) -> None:
    """`swift rlhf`, in this process."""
    rows = folder / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "Find it."}], "solution": REFERENCE}
    rows.write_text("\n".join([json.dumps(row)] * 8), encoding="utf-8")
    places = {"model": policy, "dataset": rows, "val_dataset": rows, "output_dir": folder / "out"}
    given = {**OPTIONS, **places, **options}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    environment = dict(os.environ)
    try:
        rlhf_main(words)
    finally:
        os.environ.clear()
        os.environ.update(environment)


def test_training_is_a_plain_scorers_and_a_resumed_run_goes_on(
    policy: Path, spied: Spied, tmp_path: Path
) -> None:
    """Rewards, step ends, evaluation and checkpoint: all as if a `Scorer` were called by hand."""
    train(policy, tmp_path, max_steps=2)
    checkpoint = tmp_path / "out" / "checkpoint-2"
    train(policy, tmp_path, max_steps=4, resume_from_checkpoint=checkpoint)

    plain, step = rr.Scorer("dr_seg"), 0
    for call, window in zip(spied.calls, spied.windows, strict=True):
        if call.step > step:  # the step that the calls before belonged to has ended
            plain.flush(call.step)
            step = call.step
        assert np.array_equal(window, plain.quantiles.rows)
        batch = plain.score(call.texts, [REFERENCE] * len(call.texts), record=call.training)
        assert call.rewards == batch.total.tolist()
    plain.flush(4)
    assert np.array_equal(spied.scorer.quantiles.rows, plain.quantiles.rows)
    # A step trains on 2 batches of 4 and has one call; an evaluation has 8 rows times 4.
    assert [len(call.texts) for call in spied.calls if call.training] == [8] * 4
    assert sum(len(call.texts) for call in spied.calls if not call.training) == 2 * 32
    assert [call.step for call in spied.calls if call.training] == [0, 1, 2, 3]
    assert {call.step for call in spied.calls if not call.training} == {2, 4}


def test_a_run_without_the_callback_is_refused(policy: Path, spied: Spied, tmp_path: Path) -> None:
    """No step would ever end."""
    with pytest.raises(rr.StateError, match="expected --callbacks rankreward"):
        train(policy, tmp_path, max_steps=1, callbacks="early_stop")
    assert spied.calls == []
