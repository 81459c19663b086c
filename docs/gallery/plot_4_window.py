"""
The size of the window
======================

A small window is noisy, a large one is stale. Both can be seen in the log.
"""

import digit_log
import matplotlib.pyplot as plt
import numpy as np

sizes = (128, 512, 2048, 8192)
probe = np.array([[0.5, 1.0, 0.5]])  # an answer with an IoU of a half

# %%
# The same answer, ranked after every step in windows of four sizes. Middle ranks and no zeros, so
# that nothing but the window shows.

probed, stale = {}, {}
for size in sizes:
    path = []
    change = {"window": size, "warm_start": 0, "ties": "mid"}
    recipe = digit_log.RECIPE.override({f"accuracy.normalizer.{k}": v for k, v in change.items()})
    run = digit_log.score(
        recipe, look=lambda _, s, path=path: path.append(s.quantiles.rank(probe)[0, 0])
    )
    probed[size] = np.array(path)
    stale[size] = np.nanmean(run.ranks["iou"].reshape(len(path), -1), axis=1)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for place, size in enumerate(sizes):
    left.plot(
        range(1, len(path) + 1), probed[size], color=f"C{place}", label=f"{size} rows", lw=1.2
    )
    right.plot(range(1, len(path) + 1), digit_log.smooth(stale[size]), color=f"C{place}", lw=1.2)
    jumps = np.abs(np.diff(probed[size][70:])).mean()
    print(f"{size:5} rows: moves by {jumps:.4f} a step; mean rank {stale[size][20:].mean():.3f}")
left.set_title("rank of an IoU of 0.5")
right.set_title("mean rank of the policy's own answers")
right.axhline(0.5, lw=0.8, ls=":", color="grey")
for axis in (left, right):
    axis.set_xlabel("step")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %%
# Left, noise: what an answer earns should depend on the answer. Right, staleness: a policy that
# gets better beats its own past, and the longer that past the more. Above a half is how much.
#
# What staleness does when a policy changes fast
# ----------------------------------------------
#
# **A simulation**, not a run: a metric whose mean jumps from 0.3 to 0.6 at step 40. The mean rank
# says how long the window takes to learn of it: its size over the rows of a step, 16 steps for 2048
# and 128.

rng = np.random.default_rng(0)
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
draws = [rng.beta(*((3, 7) if step < 40 else (6, 4)), 128) for step in range(120)]
for place, size in enumerate(sizes):
    past = np.empty(0)
    means = []
    for values in draws:
        ranks = (
            np.searchsorted(np.sort(past), values) / len(past) if len(past) else values * 0 + 0.5
        )
        means.append(ranks.mean())
        past = np.concatenate([past, values])[-size:]
    axis.plot(range(1, 121), means, color=f"C{place}", label=f"{size} rows", lw=1.2)
axis.axhline(0.5, lw=0.8, ls=":", color="grey")
axis.set_xlabel("step (simulation)")
axis.set_ylabel("mean rank")
axis.legend(fontsize="small")
plt.show()
