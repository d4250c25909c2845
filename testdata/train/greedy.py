"""What transformers answers greedily with a checkpoint, in f32.

    python greedy.py MODEL QUESTION TOKENS

Run by crates/g2rpo/tests/recipes with the python that G2RPO_PYTHON names; torch 2.11, transformers 5.23.
"""
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, question, tokens = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)["input_ids"]
out = model.generate(ids, do_sample=False, max_new_tokens=int(tokens))
print(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
