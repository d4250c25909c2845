"""Checks that PEFT opens an adapter that we trained and saved, and gives our log-probabilities; and
that transformers opens the merged model and gives them too.

    python check_peft.py        (from anywhere inside the checkout; builds the example)

Versions: torch 2.11.0, transformers 5.23.0, peft 0.21.2 (CPU). Prints the largest differences and
fails above 1e-5.
"""

import json
import pathlib
import subprocess
import tempfile

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent


def difference(model, report):
    worst = 0.0
    for ids, prompt, expected in zip(report["rows"], report["prompt_lens"], report["logps"]):
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        for t, logp in zip(range(prompt, len(ids)), expected, strict=True):
            worst = max(worst, abs(float(logps[t - 1, ids[t]]) - logp))
    return worst


base = HERE / "peft" / "base"
with tempfile.TemporaryDirectory() as out:
    command = ["cargo", "run", "--quiet", "-p", "g2rpo-libtorch", "--example", "train_adapter", "--", base, out]
    report = json.loads(subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE).stdout)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    unchanged = difference(model, report)
    adapted = difference(PeftModel.from_pretrained(model, f"{out}/adapter").eval(), report)
    merged = difference(AutoModelForCausalLM.from_pretrained(f"{out}/merged", dtype=torch.float32), report)
print(f"base model {unchanged:.3f} (must differ), PEFT {adapted:.2e}, merged {merged:.2e}")
assert unchanged > 0.1 and adapted < 1e-5 and merged < 1e-5
