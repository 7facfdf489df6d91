"""
Merging shards
==============

Machines that each see a part fit a scaler of their own, and the parts become the whole by `merge`,
in any order. Each fit's error is measured in exact arithmetic, with fractions.
"""

from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
offsets = [0, 3, 6, 9, 12]


def exact_variance(column):
    """Return the variance of stored values, without any rounding."""
    values = [Fraction(float(value)) for value in column]
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def digits(computed, exact):
    """Return how many decimal digits are right, 16 at most."""
    error = abs(Fraction(float(computed)) - exact) / exact
    return 16.0 if error == 0 else min(16.0, -np.log10(float(error)))


def pairwise_formula(shards):
    """Return the variance by sums of values and squares, as one would add them up by hand."""
    n = sum(len(each) for each in shards)
    total = sum(each.sum() for each in shards)
    squares = sum((each**2).sum() for each in shards)
    return squares / n - (total / n) ** 2


# %%
# Twenty shards of unequal sizes, merged in a random order, at offsets from 1 to 10^12.

ours, sums = [], []
for offset in offsets:
    x = 10.0**offset + rng.normal(size=2000)
    cuts = np.sort(rng.choice(np.arange(1, 2000), 19, replace=False))
    shards = [each[:, None] for each in np.split(x, cuts)]
    scalers = [nc.StandardScaler().fit(each) for each in shards]
    whole = nc.StandardScaler()
    for place in rng.permutation(20):
        whole.merge(scalers[place])
    exact = exact_variance(x)
    ours.append(digits(whole.var_[0], exact))
    sums.append(max(0.0, digits(pairwise_formula(shards), exact)))

figure, ax = plt.subplots()
ax.plot(offsets, ours, "o-", label="StandardScaler.merge")
ax.plot(offsets, sums, "s-", label="sums of x and x²")
ax.set_xticks(offsets, [f"$10^{{{each}}}$" for each in offsets])
ax.set(
    title="Right digits of the variance of 20 merged shards",
    xlabel="offset of the data, whose deviation is 1",
    ylabel="decimal digits",
    ylim=(-0.5, 17),
)
ax.legend(loc="lower left")
plt.show()
