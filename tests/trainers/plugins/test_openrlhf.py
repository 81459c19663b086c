"""OpenRLHF 0.11: the example in the executor that its vLLM engines run, without vLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from builders import G1, entry, wrap
from openrlhf.utils import agent
from openrlhf.utils.agent import SingleTurnAgentExecutor

import rankreward as rr

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugins" / "openrlhf_reward.py"
PROMPT = "<|im_start|>user\nFind the cup.<|im_end|>\n<|im_start|>assistant\n"
ROWS = 8
Make = Callable[[], SingleTurnAgentExecutor]


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def __call__(self, text: str, **options: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([list(text.encode())])}

    def decode(self, tokens: list[int], **options: Any) -> str:
        return bytes(tokens).decode()


class Engine:
    """Gives the answer it was made with, as a vLLM engine gives a generation."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def generate(self, *arguments: Any, **options: Any) -> Any:
        tokens = list(f"{self.text}<|im_end|>".encode())
        output = SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


@pytest.fixture
def make(tmp_path: Path, window_name: str) -> Make:
    """Makes the executor of an engine, which loads the file as a user would have edited it."""
    text = EXAMPLE.read_text(encoding="utf-8")
    edited = text.replace("ROWS_A_STEP = 1024", f"ROWS_A_STEP = {ROWS}")
    edited = edited.replace('"my-run"', f'"{window_name}"')
    assert edited.count(window_name) == 1
    assert f"ROWS_A_STEP = {ROWS} " in edited
    path = tmp_path / "reward.py"
    path.write_text(edited, encoding="utf-8")
    return lambda: SingleTurnAgentExecutor([str(path)])


def label(split: str = "train", solution: Any = G1) -> str:
    return json.dumps({"split": split, "solution": solution})


def execute(engines: list[SingleTurnAgentExecutor], answers: list[str], given: str) -> list[Any]:
    """All rollouts at once, dealt to the engines in turn."""
    params = SimpleNamespace(max_tokens=2000, logprobs=None)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(
                engines[place % len(engines)].execute(
                    PROMPT, given, params, 4000, Bytes(), Engine(text)
                )
                for place, text in enumerate(answers)
            )
        )

    return asyncio.run(all_of_them())


def answers(step: int) -> list[str]:
    """Boxes from right to wrong, and one answer that cannot be read."""
    boxes = [wrap([entry([100, 100, 300 - 9 * i - step, 300], [200, 200])]) for i in range(ROWS)]
    return [*boxes[:-1], "no answer"]


def test_two_engines_pay_what_one_plain_scorer_pays(make: Make) -> None:
    """Step by step, evaluations between: the same rewards, logs and window."""
    engines, plain = [make(), make()], rr.Scorer("dr_seg")
    window = engines[0].reward_func.__globals__["scorer"].quantiles
    for step in (1, 2, 3):
        texts = answers(step)
        for split in ("train", "test"):
            outputs = execute(engines, texts, label(split))
            batch = plain.score(texts, [G1] * ROWS, record=split == "train")
            assert [output["reward"] for output in outputs] == batch.total.tolist()
            assert [output["scores"] for output in outputs] == batch.total.tolist()
            for row, output in enumerate(outputs):
                assert output["extra_logs"] == {
                    **{f"rankreward/term/{k}": v[row] for k, v in batch.terms.items()},
                    **{f"rankreward/raw/{k}": v[row] for k, v in batch.raw.items()},
                    "rankreward/failures": float(row == ROWS - 1),
                }
            if split == "train":
                plain.flush(step)
            assert (window.step, window.pending) == (step, 0)
            assert np.array_equal(window.rows, plain.quantiles.rows)


def test_the_completion_is_found_behind_expanded_image_tokens(make: Make) -> None:
    """However long the images have made the prompt, and whatever the policy writes after it."""
    answer = make().reward_func.__globals__["answer"]
    expanded = PROMPT.replace("Find", "<|image_pad|>" * 300 + "Find")
    twice = "garbage<|im_start|>assistant\nand more"
    assert answer(f"{expanded}{twice}<|im_end|>", PROMPT) == twice
    with pytest.raises(rr.InputError, match="expected a prompt and query"):
        answer("User: find. Assistant: none", "User: find. Assistant: ")


def test_a_broken_reference_raises_and_openrlhf_takes_it_for_no_reward(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function raises; OpenRLHF logs that and hands on None, on which its trainer stops."""
    engine = make()
    with pytest.raises(rr.BadReferenceError):
        engine.reward_func([f"{PROMPT}hm"], [PROMPT], [label(solution="[{]")])
    said: list[str] = []
    monkeypatch.setattr(agent.logger, "info", said.append)
    (output,) = execute([engine], answers(1)[:1], label(solution="[{]"))
    assert output["reward"] is None
    assert "Failed to fetch reward" in said[-1]
    assert engine.reward_func.__globals__["scorer"].quantiles.pending == 0
