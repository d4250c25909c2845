"""Writes peft/: a tiny random Qwen3, an adapter made by PEFT, and the log-probabilities of both.

    python make_peft.py

Versions: torch 2.11.0, transformers 5.23.0, peft 0.21.2 (CPU).
"""

import json
import pathlib
import shutil
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

OUT = pathlib.Path(__file__).parent / "peft"
TEMPERATURE = 0.8
ROWS = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3, 2, 3]]
PROMPTS = [3, 1, 2]


def logps(model):
    rows = []
    for ids, prompt in zip(ROWS, PROMPTS):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].float() / TEMPERATURE
        all_logps = logits.log_softmax(-1)
        rows.append([float(all_logps[t - 1, ids[t]]) for t in range(prompt, len(ids))])
    return rows


torch.manual_seed(0)
config = Qwen3Config(vocab_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                     num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
                     initializer_range=0.3)
model = Qwen3ForCausalLM(config).eval()
expected = {"temperature": TEMPERATURE, "rows": ROWS, "prompt_lens": PROMPTS, "base": logps(model)}
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "base").mkdir(parents=True)
    for name in ["config.json", "model.safetensors"]:
        shutil.copy(f"{folder}/{name}", OUT / "base" / name)
for rank_stabilised in [False, True]:
    torch.manual_seed(1)
    base = Qwen3ForCausalLM.from_pretrained(OUT / "base", dtype=torch.float32)
    lora = LoraConfig(r=3, lora_alpha=5, use_rslora=rank_stabilised, task_type="CAUSAL_LM", lora_dropout=0.05,
                      target_modules=["q_proj", "self_attn.o_proj", "down_proj"])
    peft = get_peft_model(base, lora).eval()
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    name = "rslora" if rank_stabilised else "lora"
    expected[name] = logps(peft)
    peft.peft_config["default"].base_model_name_or_path = "base"
    with tempfile.TemporaryDirectory() as folder:
        peft.save_pretrained(folder)
        (OUT / name).mkdir()
        for file in ["adapter_config.json", "adapter_model.safetensors"]:
            shutil.copy(f"{folder}/{file}", OUT / name / file)
(OUT / "expected.json").write_text(json.dumps(expected) + "\n")
