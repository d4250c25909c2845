"""Writes adamw.json and schedules.json: torch.optim.AdamW and the schedules of transformers.

    python make_optim.py

Versions: torch 2.11.0, transformers 5.23.0, numpy 2 (CPU).
"""

import json
import pathlib

import torch
from transformers import optimization as opt

HERE = pathlib.Path(__file__).parent
DECAYED = [("model.embed_tokens.weight", [5, 4]), ("model.layers.0.mlp.up_proj.weight", [6, 4])]
SPARED = [("model.layers.0.input_layernorm.weight", [4]), ("model.layers.0.self_attn.q_proj.bias", [3])]
SHAPES = [DECAYED[0], SPARED[0], SPARED[1], DECAYED[1]]


def adamw(name, config, max_grad_norm, grad_scale):
    torch.manual_seed(len(name))
    params = [torch.nn.Parameter(torch.randn(shape)) for _, shape in SHAPES]
    spared = {n for n, _ in SPARED}
    beta1, beta2, eps, decay = config
    groups = [
        {"params": [p for p, (n, _) in zip(params, SHAPES) if n not in spared], "weight_decay": decay},
        {"params": [p for p, (n, _) in zip(params, SHAPES) if n in spared], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(beta1, beta2), eps=eps)
    flat = lambda ts: [t.detach().double().flatten().tolist() for t in ts]
    case = {"name": name, "shapes": SHAPES, "config": config, "max_grad_norm": max_grad_norm,
            "lrs": [1e-2 * (1 + i % 3) for i in range(10)], "params": flat(params), "grads": [], "norms": []}
    for i, lr in enumerate(case["lrs"]):
        for p in params:
            p.grad = torch.randn_like(p) * grad_scale
        case["grads"].append(flat([p.grad for p in params]))
        limit = max_grad_norm if max_grad_norm > 0 else float("inf")
        case["norms"].append(float(torch.nn.utils.clip_grad_norm_(params, limit)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        if i == 0:
            case["after_one"] = flat(params)
    case["after_all"] = flat(params)
    return case


def schedules():
    base = 3e-4
    kinds = {
        "constant": ("constant", lambda o, w, n: opt.get_constant_schedule_with_warmup(o, w)),
        "linear": ("linear", opt.get_linear_schedule_with_warmup),
        "cosine": ("cosine", opt.get_cosine_schedule_with_warmup),
        "min": ({"cosine_with_min_lr": {"min_lr_rate": 0.1}},
                lambda o, w, n: opt.get_cosine_with_min_lr_schedule_with_warmup(o, w, n, min_lr_rate=0.1)),
    }
    for kind, make in kinds.values():
        for warmup, total in [(0, 10), (3, 10), (0.25, 10), (10, 10), (5, 3)]:
            steps = int(warmup) if warmup >= 1 else -int(-total * warmup // 1)
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
            scheduler = make(optimizer, steps, total)
            lrs = []
            for _ in range(total + 2):
                lrs.append(scheduler.get_last_lr()[0])
                optimizer.step()
                scheduler.step()
            yield {"schedule": {"learning_rate": base, "lr_scheduler_type": kind,
                                "warmup_steps": warmup, "num_training_steps": total}, "lrs": lrs}


cases = [
    adamw("defaults", [0.9, 0.999, 1e-8, 0.0], 1.0, 0.05),
    adamw("decay and clipping", [0.9, 0.95, 1e-6, 0.1], 1.0, 3.0),
    adamw("no clipping", [0.8, 0.99, 1e-8, 0.01], 0.0, 30.0),
]
(HERE / "adamw.json").write_text(json.dumps(cases) + "\n")
(HERE / "schedules.json").write_text(json.dumps(list(schedules())) + "\n")
