"""Tiny random checkpoints of every family with transformers' logits and greedy tokens.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python make_models.py

Written by torch 2.11.0, transformers 5.23.0, safetensors 0.8.0. Every folder holds config.json and
model.safetensors as transformers saves them, or, where the name says so, as another version or
layout of the files has them, and expected.json:

    ids       two rows of ids
    lengths   how much of each row counts; what follows is padding
    logits    of the last position that counts of each row, f32
    logps     log-probability of every id given those before it, per row, f32
    greedy    16 ids that `generate` continues each row with, do_sample=False
"""
import json
import shutil
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).parent / "models"
COMMON = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    # Wide enough that logits differ by more than rounding.
    initializer_range=0.3,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
    attn_implementation="eager",
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
MODELS = {
    "qwen3_tied": (Qwen3Config, Qwen3ForCausalLM, dict(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)),
    "qwen3_untied_bias": (
        Qwen3Config,
        Qwen3ForCausalLM,
        dict(num_key_value_heads=1, head_dim=8, tie_word_embeddings=False, attention_bias=True),
    ),
    "qwen2_tied": (Qwen2Config, Qwen2ForCausalLM, dict(num_key_value_heads=2, tie_word_embeddings=True)),
    "qwen2_untied": (Qwen2Config, Qwen2ForCausalLM, dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "llama2": (LlamaConfig, LlamaForCausalLM, dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "llama3_rope": (
        LlamaConfig,
        LlamaForCausalLM,
        dict(num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=LLAMA3),
    ),
    "llama3_rope_v4_config": (
        LlamaConfig,
        LlamaForCausalLM,
        dict(num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=LLAMA3),
    ),
    "llama_linear_rope_bias": (
        LlamaConfig,
        LlamaForCausalLM,
        dict(
            num_key_value_heads=2,
            head_dim=12,
            tie_word_embeddings=True,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0),
        ),
    ),
}


def as_version_4(config):
    """The fields in which transformers 4 differs."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.57.0"
    return config


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for seed, (name, (config_class, model_class, fields)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = model_class(config_class(**COMMON, **fields)).eval()
        with torch.no_grad():
            # Norms and biases start as ones and zeros, which would hide a misplaced one.
            for key, p in model.named_parameters():
                if key.endswith("norm.weight"):
                    p.uniform_(0.5, 1.5)
                elif key.endswith(".bias"):
                    p.normal_(0, 0.3)
        folder = HERE / name
        model.save_pretrained(folder, max_shard_size="20KB" if name == "llama2" else "1GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        if name.endswith("v4_config"):
            path = folder / "config.json"
            path.write_text(json.dumps(as_version_4(json.loads(path.read_text())), indent=2))
        lengths = [40, 23]
        ids = torch.randint(0, 96, (2, 40))
        expected = dict(ids=ids.tolist(), lengths=lengths, logits=[], logps=[], greedy=[])
        for row, n in enumerate(lengths):
            prompt = ids[row : row + 1, :n]
            with torch.no_grad():
                out = model(prompt)
                logps = torch.log_softmax(out.logits[0, :-1], -1)
                expected["logps"].append(logps.gather(1, prompt[0, 1:, None])[:, 0].tolist())
                expected["logits"].append(out.logits[0, -1].tolist())
                more = model.generate(prompt, max_new_tokens=16, do_sample=False)
            expected["greedy"].append(more[0, n:].tolist())
        (folder / "expected.json").write_text(json.dumps(expected))


main()
