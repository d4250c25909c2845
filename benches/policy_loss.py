"""The other side of policy_loss.rs: loss and gradient of the same streams, in NumPy.

Reads the name of a loss per line, answers with seconds, loss and the gradient's norm. Settings are those of
the bench: clip range 0.2/0.28, beta 0.04, k3 KL with bias correction, every token in the loss.
"""

import sys
import time
from math import log

import numpy as np

EPSILON, EPSILON_HIGH, BETA = 0.2, 0.28, 0.04


def load(name):
    return np.fromfile(f"{sys.argv[1]}/{name}", dtype="<f8")


A = load("advantages")[:, None]
LOGP, LOGP_OLD, LOGP_REF = (load(name).reshape(len(A), -1) for name in ("logp", "logp_old", "logp_ref"))
B, T = LOGP.shape


def clipped(r):
    first, second = r * A, np.clip(r, 1 - EPSILON, 1 + EPSILON_HIGH) * A
    inside = (r >= 1 - EPSILON) & (r <= 1 + EPSILON_HIGH)
    return -np.minimum(first, second), -np.where((first < second) | inside, first, 0.0)


def score(coefficient):
    slope = -coefficient * A
    return slope * LOGP, slope


def sapo(r):
    tau = np.where(A > 0, 1.0, 1.05)
    gate = 1 / (1 + np.exp(-tau * (r - 1)))
    return -4 / tau * gate * A, -4 * gate * (1 - gate) * r * A


def vespo(log_ratio):
    log_w = np.clip(np.clip(log_ratio, -20, 20).sum(1, keepdims=True), log(1e-8), 20)
    k, lam = np.where(A >= 0, 2.0, 3.0), np.where(A >= 0, 3.0, 2.0)
    return score(np.exp(lam + k * log_w - lam * np.exp(log_w)))


def gmpo(log_ratio):
    one_sided = np.where(A > 0, np.minimum(log_ratio, EPSILON_HIGH), np.maximum(log_ratio, -EPSILON))
    flows = np.where(A > 0, log_ratio <= EPSILON_HIGH, log_ratio >= -EPSILON)
    value = -np.exp(one_sided.mean(1, keepdims=True)) * A
    return np.broadcast_to(value, (B, T)), value * flows


def dppo(r):
    change = np.exp(LOGP) - np.exp(LOGP_OLD)
    return score(r * np.where(A > 0, change <= EPSILON_HIGH, change >= -EPSILON))


def run(loss):
    log_ratio = LOGP - LOGP_OLD
    r = np.exp(log_ratio)
    if loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo"):
        value, slope = clipped(r)
    elif loss == "cispo":
        value, slope = score(np.minimum(r, EPSILON_HIGH))
    elif loss == "sapo":
        value, slope = sapo(r)
    elif loss == "vespo":
        value, slope = vespo(log_ratio)
    elif loss == "gmpo":
        value, slope = gmpo(log_ratio)
    elif loss == "reinforce":
        value, slope = score(1.0)
    elif loss == "dppo":
        value, slope = dppo(r)
    d = LOGP_REF - LOGP
    e = np.exp(d)
    kl = (e - d - 1) * r
    value = value + BETA * kl
    slope = slope + BETA * ((1 - e) * r + kl)
    weight = 1 / B if loss == "luspo" else 1 / (B * T)
    return weight * value.sum(), weight * slope


for line in sys.stdin:
    start = time.perf_counter()
    value, grad = run(line.strip())
    seconds = time.perf_counter() - start
    print(seconds, float(value), float(np.sqrt((grad * grad).sum())), flush=True)
