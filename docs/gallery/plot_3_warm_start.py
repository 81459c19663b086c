"""
The warm start
==============

A window begins with rows of zeros, as the paper has it. Against zeros every answer ranks 1, unless
ties count strictly; and the zeros stay among the rows until newer ones push them out, here for 16
steps.
"""

import digit_log
import matplotlib.pyplot as plt
import numpy as np

STEPS = 30
zeros = {
    "128 zeros, weak (the paper)": {},
    "128 zeros, mid": {"accuracy.normalizer.ties": "mid"},
    "128 zeros, strict": {"accuracy.normalizer.ties": "strict"},
    "no zeros, weak": {"accuracy.normalizer.warm_start": 0},
    "no zeros, mid": {"accuracy.normalizer.warm_start": 0, "accuracy.normalizer.ties": "mid"},
}

# %%
# The mean rank of the boxes' IoU, step by step. It would be a half if the window held the rollouts
# of now, and nothing else. The first step, without anything to compare with, says nothing in any of
# them.

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
for place, (title, change) in enumerate(zeros.items()):
    run = digit_log.score(digit_log.RECIPE.override(change), last=STEPS)
    means = np.nanmean(run.ranks["iou"].reshape(STEPS, -1), axis=1)
    axis.plot(range(1, STEPS + 1), means, label=title, color=f"C{place}", marker=".")
    print(f"{title:28} steps 1 to 4: {means[:4].round(2).tolist()}")
axis.axhline(0.5, lw=0.8, ls=":", color="grey")
axis.set_xlabel("step")
axis.set_ylabel("mean rank of IoU")
axis.legend(fontsize="small")
plt.show()

# %%
# Within a group the zeros shift all ranks alike, and the advantage forgets them: from the second
# step on the warm start costs contrast, not direction.
