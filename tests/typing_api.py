"""The public interface as a user's type checker sees it; mypy reads this file, nothing runs it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import rankreward as rr
from rankreward.adapters.trl import RankReward

recipe: rr.Recipe = rr.Recipe.load("dr_seg").resized(84)
names: tuple[str, ...] = rr.recipes()
question: str = rr.prompt(recipe, "all red cups")

scorer = rr.Scorer(recipe)
batch: rr.RewardBatch = scorer.score(["<think></think>"], ["[]"], record=False)
total: NDArray[np.float64] = batch.total
iou: NDArray[np.float64] = batch.raw["iou"]
failure: rr.Failure | None = batch.failures[0]
stats: rr.FlushStats = scorer.flush(1)

service = rr.QuantileService(metrics=("iou",), window=16, warm_start=0, ties="mid")
ranks: NDArray[np.float64] = service.rank([[0.5]])
response: rr.Response = rr.parse("x", schema="grounding_list")
scores: NDArray[np.float64] = service.standardize([[0.5]])
spread: rr.MetricSummary = service.summary()["iou"]
advantages: NDArray[np.float64] = rr.shaping.grpo([1.0, 2.0], 2)
overlap: NDArray[np.float64] = rr.metrics.box_iou([[0, 0, 1, 1]], [[0, 0, 1, 1]])

reward = RankReward("dr_seg", reference="solution")
rewards: list[float] = reward(completions=["x"], solution=["[]"])
