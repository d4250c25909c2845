"""Opens checkpoints that we wrote with transformers, and adapters with PEFT, and compares ids and logits.

    cargo run -p g2rpo-libtorch --example save_tiny FOLDER testdata/libtorch/models
    HF_HUB_OFFLINE=1 python check_saved.py FOLDER

Checked with transformers 5.23.0 and PEFT 0.21.2.
"""
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
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


def distance(model, ids, logits):
    with torch.no_grad():
        got = model.eval()(torch.tensor([ids])).logits[0, -1]
    return (got - torch.tensor(logits)).abs().max().item()


for folder in sorted(Path(sys.argv[1]).iterdir()):
    expected = json.loads((folder / "expected.json").read_text())
    ids = expected["ids"]
    if "text" in expected:
        check_tokenizer(folder, expected)
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager", output_loading_info=True)
    assert not any(report.values()), report
    off = distance(model, ids, expected["logits"])
    stored = json.loads((folder / "config.json").read_text())["dtype"]
    line = f"{folder.name}: {type(model).__name__} stored in {stored}, logits off by {off:.1e}"
    assert off < TOLERANCE, line
    if "adapted" in expected:
        assert distance(model, ids, expected["adapted"]) > 0.01, "the adapter says nothing"
        with warnings.catch_warnings():
            # Of matrices that are missing or too many PEFT warns only.
            warnings.filterwarnings("error", message=".*(missing|unexpected).*")
            adapted = PeftModel.from_pretrained(model, folder / "adapter")
        off = distance(adapted, ids, expected["adapted"])
        line += f", with its adapter by {off:.1e}"
        assert off < TOLERANCE, line
    print(line)
