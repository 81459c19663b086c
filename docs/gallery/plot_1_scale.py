"""
The scale problem
=================

Three metrics of the same rollouts: box IoU, the ratio of counts, and how near the point is, in
pixels. Added up raw, the pixels are the whole reward. Ranked, no metric drowns another.
"""

import digit_log
import matplotlib.pyplot as plt
import numpy as np

import rankreward as rr

# %%
# A distance in pixels is no metric of the library, for the reason that this plot shows; it takes a
# few lines to add. More has to be better, so it is the frame's diagonal less the distance, and 0
# from there on.


@rr.term("nearness")
def nearness(sample: rr.Sample) -> float:
    """How much nearer than the frame's diagonal matched points are, in pixels."""
    found, wanted = sample.response.answer, sample.target.objects
    if not len(wanted):
        return float("nan")  # it does not apply
    if not len(found):
        return 0.0
    far = rr.metrics.point_distance(found.points[:, 0], wanted.points[:, 0])
    return max(float(np.hypot(84, 84) - far[rr.metrics.match(far)].mean()), 0.0)


metrics = {
    "iou": {"kind": "box_iou"},
    "count": {"kind": "count_ratio"},
    "pixels": {"kind": "nearness"},
}
ranked = digit_log.RECIPE.override({"accuracy.metrics": metrics})
raw = ranked.override({"accuracy.normalizer": {"kind": "none"}})

# %%
# Both recipes pay the same rollouts. The first 20 steps, in which the window fills, are left out.

runs = {"added up raw": digit_log.score(raw), "added up as ranks": digit_log.score(ranked)}
names = list(metrics)


def shares(run: digit_log.Scored) -> np.ndarray:
    """The variance of what each metric counts for, as a share of the sum."""
    variances = np.array([np.nanvar(run.ranks[name][run.step > 20]) for name in names])
    return variances / variances.sum()


figure, (spread, share, agree) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
values = [column[~np.isnan(column)] for column in runs["added up raw"].raw.values()]
spread.boxplot(values, tick_labels=names, showfliers=False, medianprops={"color": "C1"})
for line in spread.lines:
    line.set_color(line.get_color() if line.get_color() == "C1" else "C0")
spread.set_title("as measured")
for place, (title, run) in enumerate(runs.items()):
    at = np.arange(3) + 0.4 * place - 0.2
    share.bar(at, shares(run), width=0.38, label=title, color=f"C{1 - place}")
    agree.bar(at, digit_log.agreement(run).values(), width=0.38, color=f"C{1 - place}")
    print(title, dict(zip(names, shares(run).round(3).tolist(), strict=True)))
    print(
        "  agreement", {name: round(value, 2) for name, value in digit_log.agreement(run).items()}
    )
for axis, title in ((share, "share of the variance"), (agree, "agreement with the advantage")):
    axis.set_xticks(range(3), names)
    axis.set_ylim(0, 1.05)
    axis.set_title(title)
figure.legend(*share.get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %%
# The agreement is the correlation of GRPO's advantage with the metric, within groups: whether what
# the policy is taught is to make this metric better.
