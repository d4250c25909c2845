"""What transformers' logits processors keep of random logits.

    HF_HUB_OFFLINE=1 python make_filters.py

Written by torch 2.11.0, transformers 5.23.0. `filters.json` holds logits, the ids of a sequence so
far, and per setting the probabilities of the ids that are kept, in the order of ids.
"""
import json
from pathlib import Path

import torch
from transformers.generation import logits_process as lp

torch.manual_seed(0)
LOGITS = (torch.randn(200) * 2.5).tolist()
SEEN = [3, 17, 17, 42, 199]
SETTINGS = [
    dict(),
    dict(temperature=0.7),
    dict(top_k=5),
    dict(top_k=1),
    dict(top_p=0.9),
    dict(top_p=0.05),
    dict(min_p=0.1),
    dict(repetition_penalty=1.3),
    dict(temperature=1.5, top_k=20, top_p=0.8, min_p=0.05, repetition_penalty=1.2),
    dict(top_k=50, top_p=0.95, temperature=0.6),
]


def main():
    cases = []
    for setting in SETTINGS:
        scores = torch.tensor([LOGITS], dtype=torch.float64)
        ids = torch.tensor([SEEN])
        if (penalty := setting.get("repetition_penalty", 1.0)) != 1.0:
            scores = lp.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
        if (t := setting.get("temperature", 1.0)) != 1.0:
            scores = lp.TemperatureLogitsWarper(t)(ids, scores)
        if k := setting.get("top_k"):
            scores = lp.TopKLogitsWarper(k)(ids, scores)
        if p := setting.get("top_p"):
            scores = lp.TopPLogitsWarper(p)(ids, scores)
        if p := setting.get("min_p"):
            scores = lp.MinPLogitsWarper(p)(ids, scores)
        probabilities = scores.softmax(-1)[0]
        kept = scores[0].isfinite().nonzero()[:, 0].tolist()
        cases.append(dict(setting=setting, ids=kept, probabilities=[probabilities[i].item() for i in kept]))
    out = dict(logits=LOGITS, seen=SEEN, cases=cases)
    Path(__file__).with_name("filters.json").write_text(json.dumps(out))


main()
