"""Writes statistics.json: what scipy and counting by hand say about graded samples.

Made with Python 3.11, scipy (version in the file). Run: python make_statistics.py
"""

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy
from scipy import stats


def pass_at_k(n, c, k):
    return float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))


def maj_at_k(right, abstained, wrong, k):
    """Mean over every subset of size k; ties are shared."""
    votes = ["right"] * right + [None] * abstained
    for i, n in enumerate(wrong):
        votes += [i] * n
    total, subsets = Fraction(0), 0
    for subset in itertools.combinations(votes, k):
        counts = {}
        for vote in subset:
            if vote is not None:
                counts[vote] = counts.get(vote, 0) + 1
        most = max(counts.values(), default=0)
        best = [v for v, n in counts.items() if n == most]
        if "right" in best:
            total += Fraction(1, len(best))
        subsets += 1
    return float(total / subsets)


wilson = []
for successes, n in [(0, 1), (1, 1), (3, 10), (0, 20), (20, 20), (137, 500), (660, 1319)]:
    ci = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    wilson.append([successes, n, ci.low, ci.high])

sign = []
for wins, losses in [(5, 0), (3, 3), (9, 2), (2, 9), (40, 61), (700, 600), (1300, 1019)]:
    sign.append([wins, losses, stats.binomtest(wins, wins + losses, 0.5).pvalue])

values = [0.0, 0.25, 0.25, 0.5, 1.0, 0.75, 0.0, 0.0, 1.0, 0.5, 0.125, 0.875]
ci = stats.bootstrap(
    (values,), np.mean, confidence_level=0.95, n_resamples=200_000, method="percentile", random_state=0
).confidence_interval

result = {
    "made_with": f"scipy {scipy.__version__}",
    "pass_at_k": [
        [n, c, k, pass_at_k(n, c, k)]
        for n, c, k in [(1, 1, 1), (1, 0, 1), (10, 3, 1), (10, 3, 5), (10, 9, 2), (200, 1, 100), (200, 50, 10), (4000, 7, 64)]
    ],
    "maj_at_k": [
        {"right": r, "abstained": a, "wrong": w, "k": k, "expected": maj_at_k(r, a, w, k)}
        for r, a, w, k in [
            (3, 0, [2], 5), (2, 0, [2], 4), (2, 1, [2, 2], 7), (3, 2, [2, 1, 1], 4), (4, 0, [3, 2, 2, 1], 6),
            (0, 3, [2], 3), (1, 6, [1], 3), (5, 1, [4, 3], 5), (2, 2, [3, 3, 1, 1, 1], 8), (1, 0, [1, 1, 1, 1], 2),
        ]
    ],
    "wilson": wilson,
    "sign_test": sign,
    "bootstrap_values": values,
    "bootstrap": {"low": float(ci.low), "high": float(ci.high)},
}
Path(__file__).with_name("statistics.json").write_text(json.dumps(result) + "\n")
