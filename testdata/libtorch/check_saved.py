"""Opens checkpoints that we wrote with transformers, and compares ids and logits.

    cargo run -p g2rpo-libtorch --example save_tiny FOLDER testdata/libtorch/models
    HF_HUB_OFFLINE=1 python check_saved.py FOLDER

Checked with transformers 5.23.0.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-5


def check_tokenizer(folder, expected):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(expected["text"], add_special_tokens=False)["input_ids"]
    assert ids == expected["ids"], folder
    assert tokenizer.decode(ids) == expected["text"], folder
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>", folder
    for file in ["config.json", "generation_config.json"]:
        assert json.loads((folder / file).read_text())["eos_token_id"] == tokenizer.eos_token_id, folder


for folder in sorted(Path(sys.argv[1]).iterdir()):
    expected = json.loads((folder / "expected.json").read_text())
    ids = expected["ids"]
    if "text" in expected:
        check_tokenizer(folder, expected)
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager", output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, -1]
    off = (logits - torch.tensor(expected["logits"])).abs().max().item()
    stored = json.loads((folder / "config.json").read_text())["dtype"]
    print(f"{folder.name}: {type(model).__name__} stored in {stored}, logits off by {off:.1e}")
    assert off < TOLERANCE
