"""Whole steps, their geometry, their parsing, and the import."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import published
import pytest
from workload import WORDS

import rankreward as rr
from rankreward.parsing import Objects
from rankreward.rewards.accuracy import object_metrics

ROLLOUTS, GROUP = 128, 8


def objects(rng, count):
    """Boxes (count, 4) and points (count, 2) in whole pixels of 840 x 840."""
    corner, size = rng.integers(0, 600, (count, 2)), rng.integers(20, 240, (count, 2))
    return np.hstack([corner, corner + size]), corner + size // 2


def text(boxes, points):
    pairs = zip(boxes.tolist(), points.tolist(), strict=True)
    return json.dumps([{"bbox_2d": box, "point_2d": point} for box, point in pairs])


def scenes(rng):
    """Rollouts as (boxes, points) with their references: 16 groups of 8, 1 to 8 objects each."""
    for _ in range(ROLLOUTS // GROUP):
        boxes, points = objects(rng, rng.integers(1, 9))
        for _ in range(GROUP):
            kept = rng.permutation(len(boxes))[: rng.integers(1, len(boxes) + 1)]
            extra_boxes, extra_points = objects(rng, rng.integers(0, 9 - len(kept)))
            moved = np.clip(boxes[kept] + rng.integers(-30, 31, (len(kept), 4)), 0, 840)
            low, high = (
                np.minimum(moved[:, :2], moved[:, 2:]),
                np.maximum(moved[:, :2], moved[:, 2:]),
            )
            near = np.clip(points[kept] + rng.integers(-60, 61, (len(kept), 2)), 0, 840)
            found = (
                np.vstack([np.hstack([low, high]), extra_boxes]),
                np.vstack([near, extra_points]),
            )
            yield found, (boxes, points)


def completion(rng, found):
    """Six sentences of reasoning, one look, and the answer; one in sixteen is broken."""
    sentences = [" ".join(rng.choice(WORDS, 12).tolist()) + "." for _ in range(6)]
    sentences.insert(3, f"<look>{' '.join(rng.choice(WORDS, 5).tolist())}</look>")
    answer = text(*found)
    if rng.random() < 1 / 16:
        answer = answer[:-1]
    return f"<think>{' '.join(sentences)}</think>\n<answer>{answer}</answer>"


def test_step(versus):
    """Score 128 rollouts never seen before, and flush.

    The published reward is called rollout by rollout, and asks its service twice for each, in
    this process or over TCP.
    """
    scorer, queue, step = rr.Scorer("dr_seg"), published.PublishedQueue(), itertools.count(1)

    def fresh(number):
        rng = np.random.default_rng(number)
        pairs = list(scenes(rng))
        return (
            [completion(rng, found) for found, _ in pairs],
            [text(*target) for _, target in pairs],
        )

    def ours(batch):
        scorer.score(*batch)
        scorer.flush(next(step))

    def theirs(batch, service):
        for one, reference in zip(*batch, strict=True):
            published.reward(one, reference, service)
        service.flush()

    with published.running() as remote:
        for number in range(1000, 1000 + 2048 // ROLLOUTS):  # other rollouts than the timed ones
            batch = fresh(number)
            ours(batch)
            theirs(batch, queue)
            theirs(batch, remote)
        versus(
            "whole step of 128 rollouts",
            ours,
            {
                "published, in process": lambda batch: theirs(batch, queue),
                "published, over TCP": lambda batch: theirs(batch, remote),
            },
            {"published, in process": 15, "published, over TCP": 30},
            fresh=fresh,
            rounds=31,
        )


def test_geometry(versus):
    """Raw metrics of 128 rollouts from arrays: IoU, matching, distances."""
    recipe = rr.Recipe.load("dr_seg")

    def fresh(number):
        return [
            [(boxes.astype(float), points.astype(float)[:, None]) for boxes, points in side]
            for side in zip(*scenes(np.random.default_rng(number)), strict=True)
        ]

    def ours(batch):
        return object_metrics(*([Objects(*each) for each in side] for side in batch), recipe)

    def theirs(batch):
        sides = [[(boxes, points[:, 0]) for boxes, points in side] for side in batch]
        return [published.geometry(*pair) for pair in zip(*sides, strict=True)]

    versus(
        "geometry of 128 rollouts",
        ours,
        {"published": theirs},
        {"published": 150},
        fresh=fresh,
    )


def shape(kind, size):
    """A hostile text of about `size` characters."""
    units = {
        "unclosed think": ("", "<think>", ""),
        "answer and blanks": ("<answer>", " ", ""),
        "closed, blanks between": ("<think>a</think>", " \n", "<answer>[]</answer>"),
        "nested brackets": ("<think>a</think><answer>", "[", "</answer>"),
        "bracket pairs": ("<think>a</think><answer>[", "[],", "[]]</answer>"),
        "quotes": ("<think>a</think><answer>[", '"', "]</answer>"),
        "backslashes": ('<think>a</think><answer>["', "\\", '"]</answer>'),
        "digits": ("<think>a</think><answer>[", "1", "]</answer>"),
        "unclosed looks": ("<think>", "<look>", "</think><answer>[]</answer>"),
        "alternate tags": ("", "<think><answer></think>", ""),
    }
    before, unit, after = units[kind]
    return before + unit * (size // len(unit)) + after


SHAPES = [
    "unclosed think", "answer and blanks", "closed, blanks between", "nested brackets",
    "bracket pairs", "quotes", "backslashes", "digits", "unclosed looks", "alternate tags",
]  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_hostile(versus, kind):
    """100 kB of a hostile text."""
    data = shape(kind, 100_000)
    versus(f"parse 100 kB: {kind}", lambda: rr.parse(data), limit=0.025, rounds=21)


@pytest.mark.parametrize("kind", SHAPES)
def test_hostile_is_linear(versus, kind):
    """Ten times the text within twelve times the time: the ratio is that of the short text."""
    short, long = shape(kind, 100_000), shape(kind, 1_000_000)
    versus(
        f"parse 1 MB: {kind}",
        lambda: rr.parse(long),
        {"100 kB of it": lambda: rr.parse(short)},
        {"100 kB of it": 1 / 12},
        rounds=21,
    )


def test_import(versus, benchmark):
    """`import rankreward` in a new process, its own clock around the import alone."""
    code = (
        "import sys, time; begin = time.perf_counter(); import rankreward; "
        "print(time.perf_counter() - begin); "
        "assert not {'numba', 'scipy', 'torch'} & sys.modules.keys()"
    )
    spent = []

    def run():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        spent.append(float(done.stdout))

    versus("import rankreward", run, limit=0.3, rounds=10, min_time=0.0)
    benchmark.extra_info["ours"] = spent[-10:]
