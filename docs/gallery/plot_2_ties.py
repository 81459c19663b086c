"""
Ties
====

Real metrics pile up: nearly nine in ten answers of this run have the right count. What equal values
rank is a rule, `ties` in the recipe, and it decides how far a right count stands above a wrong one.
"""

import digit_log
import matplotlib.pyplot as plt
import numpy as np

from rankreward.quantiles import ecdf

rules = {
    "weak": "share of the window at most the value",
    "mid": "half of the ties count",
    "strict": "share of the window below the value",
}

# %%
# The window of the last step, and what each value would rank in it.

last = {}
digit_log.score(look=lambda _, scorer: last.update(window=scorer.quantiles.rows))
window = last["window"]

names = ("iou", "count", "point")
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
for axis, name, column in zip(axes, names, window.T, strict=True):
    history = np.sort(column[~np.isnan(column)])
    for place, rule in enumerate(rules):
        if name == "count":  # has three values in this run
            ranks = ecdf(history, np.array([0.0, 0.5, 1.0]), ties=rule)
            axis.bar(np.arange(3) + 0.27 * (place - 1), ranks, width=0.25, label=rule)
        else:
            grid = np.unique(np.concatenate([history, np.linspace(0, 1, 201)]))
            axis.plot(grid, ecdf(history, grid, ties=rule), lw=5 - 2 * place)
    axis.set_xlabel(name)
axes[1].set_xticks(range(3), ["0", "0.5", "1"])
axes[0].set_ylabel("rank")
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %%
# What follows for the reward: how much of the ranks' variance each metric has, and how the
# advantage of GRPO agrees with each metric, by the rule. A metric with few values steps where it
# ties: weakly, a right count ranks 1 and a wrong one hardly more than 0; by the middle of the ties
# the step is half as high.

for rule, meaning in rules.items():
    run = digit_log.score(digit_log.RECIPE.override({"accuracy.normalizer.ties": rule}))
    late = run.step > 20
    variances = {name: np.nanvar(column[late]) for name, column in run.ranks.items()}
    total = sum(variances.values())
    print(f"{rule}: {meaning}")
    print(
        "   share of variance", {name: round(float(v / total), 2) for name, v in variances.items()}
    )
    print(
        "   mean rank        ",
        {n: round(float(np.nanmean(r[late])), 2) for n, r in run.ranks.items()},
    )
    print("   agreement        ", {n: round(r, 2) for n, r in digit_log.agreement(run).items()})
