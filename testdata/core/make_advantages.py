"""Writes advantages.json: advantages of decimal rewards with eps = 0, by exact rationals.

Python 3.11, mpmath 1.3.0: python make_advantages.py
Rewards and weights are decimals, which floats cannot hold; here they are fractions, so a group whose
weighted sums are equal is equal without rounding. Roots are taken last, in 60 digits. pass@k counts
every subset. `constant` says that the advantages are 0 by themselves, not by cancelling.
"""

import json
import random
from fractions import Fraction
from itertools import combinations
from pathlib import Path

from mpmath import mp, mpf, sqrt

mp.dps = 60


def real(x):
    return mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else mpf(x)


def mean(values):
    return sum(values) / len(values)


def variance(values, ddof):
    m = mean(values)
    return sum((v - m) ** 2 for v in values) / (len(values) - ddof) if len(values) > ddof else Fraction(0)


def pass_at_k(values, k):
    if k > len(values):
        return [mpf(0)] * len(values)
    members = range(len(values))
    best = {s: max(values[i] for i in s) for s in combinations(members, k)}
    center, spread = mean(list(best.values())), variance(list(best.values()), 0)
    if spread == 0:
        return [mpf(0)] * len(values)
    return [real(mean([b for s, b in best.items() if i in s]) - center) / sqrt(real(spread)) for i in members]


def group(values, baseline, scale, ddof, batch, reference):
    n = len(values)
    if baseline.startswith("pass_at_k"):
        return pass_at_k(values, int(baseline.split()[1]))
    if len(set(values)) == 1:
        return [mpf(0)] * n
    if baseline == "mean":
        differences = [v - mean(reference) for v in values]
    elif baseline == "leave_one_out":
        differences = [(v - mean(values)) * n / (n - 1) for v in values]
    else:
        order = sorted(values, reverse=True)
        differences = [Fraction(0)] * n
        differences[values.index(order[0])] = order[0] - order[1]
    out = []
    for i, d in enumerate(differences):
        if scale in ("none", "whiten"):
            out.append(real(d))
            continue
        if scale == "group_mean":
            divisor = real(mean(reference) or mean(values))
        elif scale == "leave_one_out_std":
            others = variance(values[:i] + values[i + 1 :], ddof)
            divisor = sqrt(real(others)) if len(set(values[:i] + values[i + 1 :])) > 1 else mpf(1)
        else:
            # Unguided members without spread have no scale; the whole group has one.
            of_group = variance(reference, ddof) or variance(values, ddof)
            divisor = sqrt(real(variance(batch, ddof) if scale == "batch_std" else of_group))
        out.append(real(d) / divisor if divisor != 0 else mpf(0))
    return out


def whiten(values, ddof):
    spread = max(values) - min(values)
    if abs(spread) < mpf(10) ** -40:
        return [mpf(0)] * len(values)
    m = sum(values) / len(values)
    s = sqrt(sum((v - m) ** 2 for v in values) / (len(values) - ddof)) if len(values) > ddof else mpf(0)
    return [(v - m) / s if s != 0 else mpf(0) for v in values]


def advantages(totals, groups, guided, case):
    out = [mpf(0)] * len(totals)
    for g in set(groups):
        rows = [i for i, x in enumerate(groups) if x == g]
        unguided = [totals[i] for i in rows if not guided[i]]
        reference = unguided if case["strata"] == "unguided_mean" and unguided else [totals[i] for i in rows]
        values = group([totals[i] for i in rows], case["baseline"], case["scale"], case["ddof"], totals, reference)
        for i, v in zip(rows, values):
            out[i] = v
    return whiten(out, case["ddof"]) if case["scale"] == "whiten" else out


def expected(case):
    weights = [Fraction(w) for w in case["weights"]]
    rewards = [[Fraction(r) for r in f] for f in case["rewards"]]
    n = len(rewards[0])
    groups, guided = case["groups"], case["guided"]
    if case["aggregation"] == "sum_then_normalize":
        totals = [sum(w * f[i] for w, f in zip(weights, rewards)) for i in range(n)]
        return advantages(totals, groups, guided, case)
    parts = [advantages(f, groups, guided, case) for f in rewards]
    return whiten([sum(real(w) * p[i] for w, p in zip(weights, parts)) for i in range(n)], case["ddof"])


draw = random.Random(25)
VALUES = ["0", "0.1", "0.2", "0.3", "0.5", "0.7", "0.9", "1", "-0.3", "-0.1"]
WEIGHTS = ["0.1", "0.2", "0.3", "0.5", "0.7", "1", "3"]


def decimal(x):
    """A fraction whose decimals end."""
    for places in range(12):
        scaled = x * 10**places
        if scaled.denominator == 1:
            sign, digits = ("-" if scaled < 0 else ""), str(abs(scaled.numerator)).rjust(places + 1, "0")
            return sign + (digits if places == 0 else digits[:-places] + "." + digits[-places:])
    raise ValueError(x)


def rewards_with_sums(n_functions, weights, sums):
    """Random rewards whose weighted sums are the given ones; the last weight is 1."""
    columns = []
    for total in sums:
        values = [draw.choice(VALUES) for _ in range(n_functions - 1)]
        rest = total - sum(Fraction(w) * Fraction(v) for w, v in zip(weights, values))
        columns.append(values + [decimal(rest)])
    return [list(f) for f in zip(*columns)]


cases = []
for baseline, scale in [
    ("mean", "none"), ("mean", "group_std"), ("mean", "batch_std"), ("mean", "leave_one_out_std"), ("mean", "whiten"),
    ("mean", "group_mean"), ("leave_one_out", "none"), ("leave_one_out", "group_std"),
    ("leave_one_out", "leave_one_out_std"), ("leave_one_out", "whiten"), ("second_best", "none"),
    ("second_best", "group_std"), ("pass_at_k 1", "none"), ("pass_at_k 2", "none"), ("pass_at_k 3", "none"),
    ("pass_at_k 4", "none"), ("pass_at_k 5", "none"),
]:
    for ddof in (0, 1):
        for kind in ("constant", "constant", "one_group_constant", "one_differs", "all_but_k_best", "any", "any"):
            for strata in ("joint", "unguided_mean"):
                if strata == "unguided_mean" and (baseline != "mean" or scale == "leave_one_out_std"):
                    continue
                n_functions = draw.randint(2, 4)
                weights = [draw.choice(WEIGHTS) for _ in range(n_functions - 1)] + ["1"]
                low, high = sorted(draw.sample([Fraction(i, 10) for i in range(0, 30)], 2))
                sums = {
                    "constant": [high] * 10,
                    "one_group_constant": [high] * 5 + [low, high, low, high, high],
                    "one_differs": [low] * 4 + [high] + [high] * 5,
                    "all_but_k_best": [high] * 3 + [low] * 2 + [high] * 4 + [low],
                    "any": [Fraction(draw.randint(0, 30), 10) for _ in range(10)],
                }[kind]
                guided = [draw.random() < 0.5 for _ in range(10)]
                cases.append(
                    dict(
                        baseline=baseline, scale=scale, ddof=ddof, strata=strata, aggregation="sum_then_normalize",
                        weights=weights, rewards=rewards_with_sums(n_functions, weights, sums),
                        groups=[0] * 5 + [1] * 5, guided=guided,
                    )
                )
# Normalised rewards that cancel: a reward and its mirror image, weighted to a sum of 0.
for ddof in (0, 1):
    for _ in range(12):
        values = [draw.choice(VALUES) for _ in range(5)]
        while len(set(values)) == 1:
            values = [draw.choice(VALUES) for _ in range(5)]
        mirror = [decimal(Fraction(draw.choice([1, 2, 3])) - Fraction(v)) for v in values]
        base = Fraction(draw.choice([1, 2, 3]))
        mirror = [decimal(base - Fraction(v)) for v in values]
        cases.append(
            dict(
                baseline="mean", scale="group_std", ddof=ddof, strata="joint", aggregation="normalize_then_sum",
                weights=["0.1", "0.2", "0.3"], rewards=[values, values, mirror], groups=[0] * 5, guided=[False] * 5,
            )
        )
        cases.append(dict(cases[-1], weights=["0.1", "0.2", "0.7"]))
# pass@k of binary rewards as they are.
for n_best in range(6):
    for k in range(1, 6):
        cases.append(
            dict(
                baseline=f"pass_at_k {k}", scale="none", ddof=1, strata="joint", aggregation="sum_then_normalize",
                weights=["1"], rewards=[["1"] * n_best + ["0"] * (5 - n_best)], groups=[0] * 5, guided=[False] * 5,
            )
        )
n_constant = 0
for case in cases:
    values = expected(case)
    case["advantages"] = [float(v) for v in values]
    case["constant"] = all(abs(v) < mpf(10) ** -40 for v in values)
    n_constant += case["constant"]
path = Path(__file__).parent / "advantages.json"
lines = ",\n".join(json.dumps(case) for case in cases)
path.write_text(f"[\n{lines}\n]\n")
print(len(cases), n_constant)
