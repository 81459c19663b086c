"""
Failures
========

An answer that cannot be read is data: it has a code, it is paid the recipe's failure value, and it
is counted.
"""

from collections import Counter

import digit_log
import matplotlib.pyplot as plt
import numpy as np

run = digit_log.score()
counts = Counter(code for code in run.codes if code is not None)
codes = [code for code, _ in counts.most_common()]
print(f"{len(run.codes)} rollouts, {sum(counts.values())} of them not readable:")
print(dict(counts.most_common()))

# %%
# By what is wrong, in parts of ten steps; and what such answers are paid beside those that can be
# read.

wrong = np.array([[code == each for each in codes] for code in run.codes])
parts = run.step.max() // 10
by_part = wrong.reshape(parts, -1, len(codes)).mean(axis=1)

figure, (share, paid) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
under = np.zeros(parts)
for place, code in enumerate(codes):
    share.bar(np.arange(parts) * 10 + 5, 100 * by_part[:, place], width=9, bottom=under, label=code)
    under += 100 * by_part[:, place]
share.set_xlabel("step")
share.set_ylabel("per cent of the rollouts")
share.legend(fontsize="small")
broken = wrong.any(axis=1)
bins = np.linspace(0, 5, 51)
paid.hist(run.total[~broken], bins=bins, density=True, color="C0", alpha=0.8, label="readable")
paid.hist(run.total[broken], bins=bins, density=True, color="C1", alpha=0.8, label="not readable")
paid.set_xlabel("reward")
paid.set_yticks([])
paid.legend(fontsize="small")
plt.show()
print("mean reward:", run.total[~broken].mean().round(2), "and", run.total[broken].mean().round(2))
