"""Writes token_advantages.json: RLSD (arXiv 2604.03128) and RLCSD (arXiv 2606.11709) by their formulas.

Python 3.11, torch 2.11.0 (CPU): python make_token_advantages.py
Log-probabilities are drawn; everything is f64. The loss is the papers' clipped surrogate, its gradient
autograd's. RLCSD's two means are over the whole batch.
"""

import json
from pathlib import Path

import torch

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def rows(lengths, low, high):
    return [low + (high - low) * torch.rand(n) for n in lengths]


def near(streams, spread):
    return [s + spread * (2 * torch.rand(len(s)) - 1) for s in streams]


def surrogate(logp, old, advantage, epsilon=0.2):
    ratio = (logp - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


def rlsd(case, lam, epsilon_w):
    sign = case["advantages"].sign()
    out = []
    for a, s, lp, hinted in zip(case["advantages"], sign, case["logp"], case["right"]):
        w = (s * (hinted - lp)).exp().clamp(1 - epsilon_w, 1 + epsilon_w)
        out.append(a * ((1 - lam) + lam * w))
    return out


def rlcsd(case, beta, lam, tau, clip, delta):
    advantages, selected = [], []
    for i, a in enumerate(case["advantages"]):
        wrong = torch.stack([w[i] for w in case["wrong"]])
        e = case["right"][i] - (wrong.exp().mean(0)).log()
        r = (beta * lam * torch.tanh(e / tau)).clamp(-clip, clip)
        chosen = r.abs() > delta
        moved = a + torch.where(chosen, r, torch.zeros_like(r))
        moved = moved.clamp(min=0) if a > 0 else moved.clamp(max=0) if a < 0 else torch.zeros_like(moved)
        advantages.append(moved)
        selected.append(chosen)
    return advantages, selected


def gradient(case, loss_of):
    leaves = [lp.clone().requires_grad_() for lp in case["logp"]]
    loss = loss_of(leaves)
    return loss.item(), [g.tolist() for g in torch.autograd.grad(loss, leaves)]


cases = []
for index, (lengths, tau, eta, delta, lam, k) in enumerate(
    [
        ([5, 3, 7, 1], 0.02, 1.0, 0.02, 0.5, 4),
        ([4, 6], 0.5, 0.3, 0.2, 0.5, 1),
        ([9, 2, 2, 8, 3], 1.0, 2.0, 0.1, 0.8, 3),
        ([3, 3], 0.02, 1.0, 0.6, 0.5, 2),
    ]
):
    logp = rows(lengths, -3, -0.05)
    case = dict(logp=logp, old=near(logp, 0.3), right=near(logp, 0.4), wrong=[near(logp, 0.4) for _ in range(k)])
    case["advantages"] = torch.tensor([1.2, -0.7, 0.3, 0.0, -1.5][: len(lengths)])
    spread = rlsd(case, lam, 0.2)
    moved, selected = rlcsd(case, 1.0, lam, tau, 2.0, delta)
    flat = lambda xs: torch.cat(list(xs))

    def rlsd_loss(leaves):
        return flat(surrogate(lp, old, a) for lp, old, a in zip(leaves, case["old"], spread)).mean()

    def rlcsd_loss(leaves):
        tokens = flat(surrogate(lp, old, a) for lp, old, a in zip(leaves, case["old"], moved))
        chosen = flat(selected)
        mean = lambda x: x.sum() / max(len(x), 1)
        return mean(tokens[~chosen]) + eta * mean(tokens[chosen])

    lists = lambda xs: [x.tolist() for x in xs]
    rlsd_value, rlsd_grad = gradient(case, rlsd_loss)
    rlcsd_value, rlcsd_grad = gradient(case, rlcsd_loss)
    cases.append(
        dict(
            logp=lists(logp), old=lists(case["old"]), right=lists(case["right"]), wrong=[lists(w) for w in case["wrong"]],
            row_advantages=case["advantages"].tolist(), tau=tau, eta=eta, delta=delta, lam=lam,
            rlsd=dict(advantages=lists(spread), loss=rlsd_value, grad=rlsd_grad),
            rlcsd=dict(
                advantages=lists(moved), n_selected=int(flat(selected).sum()), loss=rlcsd_value, grad=rlcsd_grad
            ),
        )
    )
path = Path(__file__).parent / "token_advantages.json"
lines = ",\n".join(json.dumps(case) for case in cases)
path.write_text(f"[\n{lines}\n]\n")
