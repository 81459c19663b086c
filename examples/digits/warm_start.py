"""Make the start of the demo: a policy that answers in the format, and not yet well.

Trains the tokenizer on the format and the tiny Qwen2.5-VL on scenes with their answers, by plain
supervised learning, and saves both to `start/`. The demo's reinforcement learning begins there.

The boxes that it learns from are too narrow, as of an annotator who marks only the thick of a
stroke: each side lies up to `CUT` of the box's length too far in. So the start knows the format and
roughly the place, and the reward, which measures against the true boxes, has something to teach.

    python examples/digits/warm_start.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from policy import RECIPE, START, answer, chat, generate, make_model, make_processor, make_tokenizer
from rankreward.datasets.digits import Scene, scenes
from rankreward.evaluation import GrabCut, evaluate

IGNORE = -100  # the label that transformers' loss leaves out
CUT = 0.25


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer(list(scenes(2000, seed=args.seed + 1)))
    processor = make_processor(tokenizer)
    model = make_model(tokenizer)
    composed = scenes(args.scenes, seed=args.seed + 2)
    data = list(tqdm(composed, "compose scenes", total=args.scenes))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.98)
    )
    # A short warm-up, then a cosine down to a tenth.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, k / 100) * (0.55 + 0.45 * np.cos(np.pi * k / args.steps))
    )
    model.train()
    bar = tqdm(batches(data, processor, args), "warm start", total=args.steps)
    for batch in bar:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    report(model, processor)
    # Half precision halves the file; the policy is loaded back in float32.
    model.half().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--out", type=Path, default=START)
    return parser.parse_args()


def batches(
    data: Sequence[Scene], processor: Any, args: argparse.Namespace
) -> Iterator[dict[str, torch.Tensor]]:
    """Random batches of scenes with the tokens of their answers as labels."""
    rng = np.random.default_rng(args.seed)
    for _ in range(args.steps):
        part = [data[i] for i in rng.integers(0, len(data), args.batch_size)]
        yield collate(part, [answer(scene, narrow(scene, rng)) for scene in part], processor)


def narrow(scene: Scene, rng: np.random.Generator) -> str:
    """The reference with each side of each box moved inwards by up to CUT of the box."""
    entries = []
    for target in scene.targets:
        width, height = target.box[2:] - target.box[:2]
        inwards = rng.uniform(0, CUT, 4) * np.array([width, height, -width, -height])
        box = (target.box + inwards).round().astype(int)
        entries.append({"bbox_2d": box.tolist(), "point_2d": target.point.tolist()})
    return json.dumps(entries)


def collate(part: Sequence[Scene], said: Sequence[str], processor: Any) -> dict[str, torch.Tensor]:
    """One batch: prompt and answer, the loss on the answer alone."""
    prompts = [chat(processor, scene.query) for scene in part]
    answers = [text + processor.tokenizer.eos_token for text in said]
    inputs = processor(
        text=[asked + said for asked, said in zip(prompts, answers, strict=True)],
        images=[Image.fromarray(scene.image) for scene in part],
        padding=True,
        return_tensors="pt",
    )
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORE)
    width = labels.shape[1]  # padding stands on the left, answers end on the right
    for row, tokens in zip(labels, processor.tokenizer(answers)["input_ids"], strict=True):
        row[: width - len(tokens)] = IGNORE
        if row[width - len(tokens) :].tolist() != tokens:
            raise RuntimeError("prompt and answer share a token: the loss would miss its half")
    return {**inputs, "labels": labels}


def report(model: Any, processor: Any) -> None:
    """How good the start is, on held-out digits."""
    held_out = list(scenes(400, seed=0, split="eval"))
    for sample in (False, True):
        torch.manual_seed(0)
        mode = "sampled" if sample else "greedy"
        result = evaluate(
            generate(model, processor, held_out, sample=sample, title=mode),
            [scene.reference for scene in held_out],
            [scene.image for scene in held_out],
            [scene.mask for scene in held_out],
            recipe=RECIPE,
            segmenter=GrabCut(),
        )
        shown = ", ".join(f"{name} {value:.3f}" for name, value in result.summary().items())
        print(f"{mode}: {shown}")


if __name__ == "__main__":
    main()
