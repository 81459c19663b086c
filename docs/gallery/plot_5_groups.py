"""
Groups and advantages
=====================

GRPO teaches nothing where all answers to a question are paid the same. Rewards made of thresholds
tie far more often than ranks.
"""

import digit_log
import matplotlib.pyplot as plt
import numpy as np

import rankreward as rr
from rankreward import shaping

# %%
# The share of dead groups, step by step, had the same rollouts been paid by other recipes.

recipes = {
    "dr_seg, ranks": digit_log.RECIPE,
    "dr_seg, raw": digit_log.RECIPE.override({"accuracy.normalizer": {"kind": "none"}}),
    "vision_reasoner, thresholds": rr.Recipe.load("vision_reasoner").resized(84),
}
runs = {title: digit_log.score(recipe) for title, recipe in recipes.items()}

dead = {}
for title, run in runs.items():
    groups = run.total.reshape(-1, 16, 8)  # steps, questions, answers
    dead[title] = (np.ptp(groups, axis=2) < 1e-9).mean(axis=1)
    print(f"{title:28} dead groups: {dead[title].mean():.3f}")

# %%
# One group of the log, and what the usual shapings make of it.

paid = runs["dr_seg, ranks"]
one = next(g for g in range(800, 2000) if np.unique(paid.total[paid.group == g]).size == 8)
rewards = paid.total[paid.group == one]
parts = {name: ranks[paid.group == one] for name, ranks in paid.ranks.items()}
shaped = {
    "grpo": shaping.grpo(rewards, groups=8),
    "dr_grpo": shaping.dr_grpo(rewards, groups=8),
    "rloo": shaping.rloo(rewards, groups=8),
    "gdpo of the ranks": shaping.gdpo(parts, groups=8),
}

# %%
# Left the first, step by step; right the second.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for title, share in dead.items():
    left.plot(range(1, len(share) + 1), digit_log.smooth(share), label=title)
left.set_xlabel("step")
left.set_ylabel("share of groups without a signal")
left.set_ylim(0)
order = np.argsort(rewards)
for title, advantages in shaped.items():
    right.plot(rewards[order], advantages[order], marker="o", label=title)
right.axhline(0, lw=0.8, ls=":", color="grey")
right.set_xlabel("reward")
right.set_ylabel("advantage")
for axis in (left, right):
    axis.legend(fontsize="small")
plt.show()
