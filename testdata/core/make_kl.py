"""Writes kl.json: value and derivative of one token's KL term, in 60 digits.

Python 3.11, mpmath 1.3.0: python make_kl.py
The value is `clamp(k(clamp(d)))`, times the importance ratio under bias correction; its derivative
is taken numerically, by mpmath, where no clamp acts. Where one does, the term sends no gradient.
The gradient "k2" is the derivative of d²/2 whatever the value, times the ratio under bias
correction; "score_function" is the derivative of the value plus the value.
"""

import json
from pathlib import Path

from mpmath import diff, exp, mp, mpf

mp.dps = 60
SIZES = [1e-9, 1e-6, 1e-3, 0.1, 0.3, 0.4, 1.0, 2.0, 3.0, 9.5, 10.5, 19.9, 20.0, 20.1, 40.0, 60.0, 100.0]
ESTIMATORS = {
    "k1": lambda d: -d,
    "k2": lambda d: d * d / 2,
    "k3": lambda d: exp(d) - d - 1,
    "abs": abs,
}


def clamp(x, limit):
    return x if limit is None else max(min(x, mpf(limit)), -mpf(limit))


def case(estimator, gradient, bias, log_ratio, log_clamp, value_clamp, d):
    """With logp = x, reference d and old −log_ratio, at x = 0."""
    k = ESTIMATORS[estimator]
    d, log_ratio = mpf(d), mpf(log_ratio)
    ratio = exp(log_ratio) if bias else mpf(1)
    value = clamp(k(clamp(d, log_clamp)), value_clamp)
    acts = (log_clamp is not None and abs(d) > log_clamp) or (value_clamp is not None and abs(k(clamp(d, log_clamp))) > value_clamp)
    if gradient == "k2":
        slope = ratio * diff(lambda x: (x - d) ** 2 / 2, 0)
    elif acts:
        slope = mpf(0)
    elif gradient == "score_function":
        slope = diff(lambda x: k(d - x), 0) + value
    elif bias:
        slope = diff(lambda x: exp(x + log_ratio) * k(d - x), 0)
    else:
        slope = diff(lambda x: k(d - x), 0)
    return [float(d), float(value * ratio), float(slope)]


cases = []
for estimator in ESTIMATORS:
    for gradient, bias, log_ratio in [
        ("value", False, 0.0),
        ("value", True, 0.0),
        ("value", True, -0.7),
        ("k2", False, 0.0),
        ("k2", True, -0.7),
        ("score_function", False, 0.0),
    ]:
        for log_clamp, value_clamp in [(None, None), (20.0, None), (None, 10.0), (20.0, 10.0)]:
            cases.append(
                dict(
                    kl_estimator=estimator,
                    kl_gradient=gradient,
                    use_bias_correction_kl=bias,
                    log_ratio=log_ratio,
                    kl_log_ratio_clamp=log_clamp,
                    kl_clamp=value_clamp,
                    tokens=[
                        case(estimator, gradient, bias, log_ratio, log_clamp, value_clamp, sign * size)
                        for size in SIZES
                        for sign in (1, -1)
                    ],
                )
            )
path = Path(__file__).parent / "kl.json"
lines = ",\n".join(json.dumps(case) for case in cases)
path.write_text(f"[\n{lines}\n]\n")
