"""Opens checkpoints that we wrote with transformers, and compares ids and logits.

    cargo run -p g2rpo-libtorch --example save_tiny FOLDER
    HF_HUB_OFFLINE=1 python check_saved.py FOLDER

Checked with transformers 5.23.0.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-5

for folder in sorted(Path(sys.argv[1]).iterdir()):
    expected = json.loads((folder / "expected.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(expected["text"], add_special_tokens=False)["input_ids"]
    assert ids == expected["ids"], folder
    assert tokenizer.decode(ids) == expected["text"], folder
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>", folder
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.eos_token_id == tokenizer.eos_token_id, folder
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id, folder
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, -1]
    off = (logits - torch.tensor(expected["logits"])).abs().max().item()
    stored = json.loads((folder / "config.json").read_text())["dtype"]
    print(f"{folder.name}: {type(model).__name__} stored in {stored}, logits off by {off:.1e}")
    assert off < TOLERANCE
