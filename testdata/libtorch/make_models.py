"""Tiny random checkpoints of every family with transformers' logits and greedy tokens.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python make_models.py [NAME ...]

With names, only these are made anew.

Written by torch 2.11.0, transformers 5.23.0, safetensors 0.8.0. Every folder holds config.json and
model.safetensors as transformers saves them, or, where the name says so, as another version or
layout of the files has them, and expected.json:

    ids       two rows of ids
    lengths   how much of each row counts; what follows is padding
    logits    of the last position that counts of each row, f32
    logps     log-probability of every id given those before it, per row, f32
    greedy    ids that `generate` continues each row with, do_sample=False: 16, in the newer
              families 32
    loads     of models with experts: per layer that has them, how often each is read at all positions
              but the last of both rows

and, in the newer families, gradient.safetensors: per tensor of the checkpoint the gradient of the sum of
all log-probabilities of both rows, by autograd in f64, stored in f32.
"""
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Ministral3Config,
    Ministral3ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
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
    experts_implementation="eager",
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
# With 32 greedy ids and gradients, as small as they can be.
SMALL = dict(COMMON, vocab_size=48, hidden_size=24, intermediate_size=28)
NEWER = {
    # Five layers: rotations left out in the fourth.
    "smollm3_tied": (SmolLM3Config, SmolLM3ForCausalLM, dict(num_hidden_layers=5, num_key_value_heads=2)),
    # Rotations left out and a window in layers that the file names.
    "smollm3_window": (
        SmolLM3Config,
        SmolLM3ForCausalLM,
        dict(
            num_hidden_layers=3,
            num_key_value_heads=4,
            tie_word_embeddings=False,
            attention_bias=True,
            mlp_bias=True,
            no_rope_layers=[1, 0, 0],
            use_sliding_window=True,
            sliding_window=9,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    "granite_tied": (
        GraniteConfig,
        GraniteForCausalLM,
        dict(
            num_key_value_heads=2,
            tie_word_embeddings=True,
            embedding_multiplier=3.5,
            attention_multiplier=0.3,
            residual_multiplier=0.4,
            logits_scaling=1.7,
        ),
    ),
    "granite_bias": (
        GraniteConfig,
        GraniteForCausalLM,
        dict(
            num_key_value_heads=1,
            tie_word_embeddings=False,
            attention_bias=True,
            mlp_bias=True,
            embedding_multiplier=0.7,
            attention_multiplier=0.1,
            residual_multiplier=1.3,
            logits_scaling=0.6,
        ),
    ),
    "gemma3_tied": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        dict(
            num_hidden_layers=3,
            hidden_size=20,
            num_key_value_heads=1,
            head_dim=6,
            query_pre_attn_scalar=10,
            sliding_window=7,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    # The window's pattern by default (a full layer only at the sixth), another base, heads as wide
    # as Gemma's are.
    "gemma3_scaled_rope": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        dict(
            num_hidden_layers=6,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=16,
            rope_parameters={
                "full_attention": dict(rope_type="linear", factor=8.0, rope_theta=50000.0),
                "sliding_attention": dict(rope_type="default", rope_theta=1000.0),
            },
        ),
    ),
}
# Smaller still.
TINY = dict(COMMON, vocab_size=32, hidden_size=12, intermediate_size=14, num_attention_heads=2)
NEWEST = {
    "qwen3_moe_tied": (
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
        dict(
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            tie_word_embeddings=True,
            mlp_only_layers=[1],
            num_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=6,
            norm_topk_prob=True,
        ),
    ),
    # Experts in the third layer; weights not normalised, yarn.
    "qwen3_moe_sparse": (
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
        dict(
            num_hidden_layers=3,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=9,
            tie_word_embeddings=False,
            attention_bias=True,
            num_experts=6,
            num_experts_per_tok=3,
            moe_intermediate_size=3,
            decoder_sparse_step=3,
            rope_parameters=dict(
                rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=3.0
            ),
        ),
    ),
    "granite4_tied": (
        GraniteMoeHybridConfig,
        GraniteMoeHybridForCausalLM,
        dict(
            num_key_value_heads=2,
            tie_word_embeddings=True,
            attention_bias=True,
            shared_intermediate_size=10,
            position_embedding_type="rope",
            embedding_multiplier=3.5,
            attention_multiplier=0.3,
            residual_multiplier=0.4,
            logits_scaling=1.7,
            layer_types=["full_attention"] * 2,
            num_local_experts=0,
            mamba_n_heads=1,
        ),
    ),
    # No rotations in any layer.
    "granite4_nope": (
        GraniteMoeHybridConfig,
        GraniteMoeHybridForCausalLM,
        dict(
            num_key_value_heads=1,
            tie_word_embeddings=False,
            shared_intermediate_size=13,
            embedding_multiplier=0.7,
            attention_multiplier=0.5,
            residual_multiplier=1.3,
            logits_scaling=0.6,
            layer_types=["full_attention"] * 2,
            num_local_experts=0,
            mamba_n_heads=1,
        ),
    ),
    "phi3_tied": (
        Phi3Config,
        Phi3ForCausalLM,
        dict(
            num_key_value_heads=1,
            tie_word_embeddings=True,
            original_max_position_embeddings=128,
            rope_parameters=dict(
                rope_type="longrope",
                rope_theta=1000.0,
                partial_rotary_factor=0.75,
                short_factor=[1.0, 1.3],
                long_factor=[2.0, 3.0],
            ),
        ),
    ),
    "phi3_window": (
        Phi3Config,
        Phi3ForCausalLM,
        dict(
            num_key_value_heads=2,
            tie_word_embeddings=False,
            sliding_window=11,
            rope_parameters=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.4),
        ),
    ),
    "ministral3_tied": (
        Ministral3Config,
        Ministral3ForCausalLM,
        dict(
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=True,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=100.0,
                factor=4.0,
                original_max_position_embeddings=16,
                beta_fast=4.0,
                beta_slow=0.25,
                mscale=1.0,
                mscale_all_dim=0.5,
                llama_4_scaling_beta=0.4,
            ),
        ),
    ),
    "ministral3_window": (
        Ministral3Config,
        Ministral3ForCausalLM,
        dict(
            num_key_value_heads=2,
            head_dim=6,
            tie_word_embeddings=False,
            sliding_window=9,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=500.0,
                factor=8.0,
                original_max_position_embeddings=24,
                beta_slow=0.5,
                truncate=False,
                llama_4_scaling_beta=0.1,
            ),
        ),
    ),
}
NEWEST |= {
    # Three delta nets and one attention; rows longer than a chunk of the scan.
    "qwen3_5_tied": (
        Qwen3_5TextConfig,
        Qwen3_5ForCausalLM,
        dict(
            num_hidden_layers=4,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=8,
            tie_word_embeddings=True,
            initializer_range=0.2,
            linear_num_key_heads=1,
            linear_num_value_heads=3,
            linear_key_head_dim=5,
            linear_value_head_dim=3,
        ),
    ),
    # Attention first, a delta net last.
    "qwen3_5_order": (
        Qwen3_5TextConfig,
        Qwen3_5ForCausalLM,
        dict(
            num_hidden_layers=3,
            num_key_value_heads=2,
            head_dim=6,
            tie_word_embeddings=False,
            attention_bias=True,
            initializer_range=0.2,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=4,
            linear_value_head_dim=6,
            linear_conv_kernel_dim=3,
            layer_types=["full_attention", "linear_attention", "linear_attention"],
            rope_parameters=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.7),
        ),
    ),
}
NEWEST["mistral_window"] = (
    MistralConfig,
    MistralForCausalLM,
    dict(num_key_value_heads=1, head_dim=6, tie_word_embeddings=False, sliding_window=10),
)
LENGTHS = {"qwen3_5_tied": (70, 23)}
SHARDS = {"qwen3_5_order": "5KB", "llama2": "20KB", "granite_bias": "8KB", "granite4_nope": "3KB", "qwen3_moe_sparse": "6KB"}


def as_version_4(config):
    """The fields in which transformers 4 differs."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.57.0"
    return config


@contextmanager
def double(model):
    """The model in f64, with what asks for f32 whatever the model's format is: norms, softmax, the delta rule."""
    single, to_float = torch.float32, torch.Tensor.float
    torch.float32 = torch.float64
    torch.Tensor.float = lambda x: x if x.dtype == torch.float64 else to_float(x)
    try:
        yield model.double()
    finally:
        torch.float32, torch.Tensor.float = single, to_float


def gradient(model, ids, lengths):
    """Of the sum of all log-probabilities, by the parameters' names; and these, by row."""
    rows = []
    with double(model):
        for row, n in enumerate(lengths):
            prompt = ids[row : row + 1, :n]
            logps = torch.log_softmax(model(prompt).logits[0, :-1], -1)
            rows.append(logps.gather(1, prompt[0, 1:, None])[:, 0])
        torch.cat(rows).sum().backward()
    gradients = {}
    for key, p in model.named_parameters():
        if p.grad is None:
            continue
        # Experts are one tensor in memory, and one each in the file.
        for name, grad in in_file(key, p.grad):
            gradients[name] = grad.float().contiguous()
    return gradients, [row.tolist() for row in rows]


def nine_digits(x):
    """What tells f32 numbers apart."""
    return [float(f"{y:.9g}") for y in x.tolist()]


def in_file(key, x):
    if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
        yield key, x
        return
    prefix, kind = key.rsplit(".", 1)
    for i, expert in enumerate(x):
        if kind == "down_proj":
            yield f"{prefix}.{i}.down_proj.weight", expert
        else:
            for part, half in zip(["gate_proj", "up_proj"], expert.chunk(2)):
                yield f"{prefix}.{i}.{part}.weight", half


def make(folder, seed, model_class, config, shard="1GB", lengths=(40, 23), newer=True, doubt=None):
    """A checkpoint with what is expected of it. Of newer families also gradients and twice the greedy ids.

    Returns the model, by then in f64; nothing if there is `doubt`, and then the checkpoint is not complete.
    """
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        # Norms and biases start as ones and zeros, which would hide a misplaced one.
        for key, p in model.named_parameters():
            if key.endswith("norm.weight"):
                around_0 = config.model_type.startswith(("gemma3", "qwen3_5")) and "linear_attn" not in key
                p.uniform_(-0.5, 0.5) if around_0 else p.uniform_(0.5, 1.5)
            elif key.endswith(("dt_bias", "A_log")):
                # Memories that last. What is read from a short one may be next to nothing, which the norm
                # behind it blows up with its rounding.
                p.uniform_(-3, 0)
            elif key.endswith(".bias"):
                p.normal_(0, 0.3)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(0, model.config.vocab_size, (2, lengths[0]))
    expected = dict(ids=ids.tolist(), lengths=list(lengths), logits=[], logps=[], greedy=[])
    for row, n in enumerate(lengths):
        prompt = ids[row : row + 1, :n]
        with torch.no_grad():
            out = model(prompt)
            logps = torch.log_softmax(out.logits[0, :-1], -1)
            expected["logps"].append(nine_digits(logps.gather(1, prompt[0, 1:, None])[:, 0]))
            expected["logits"].append(nine_digits(out.logits[0, -1]))
            more = model.generate(prompt, max_new_tokens=32 if newer else 16, do_sample=False)
        expected["greedy"].append(more[0, n:].tolist())
    if doubt and doubt(model, ids, lengths, expected):
        return None
    if getattr(model.config, "num_experts", 0):
        loads = 0
        for row, n in enumerate(lengths):
            with torch.no_grad():
                logits = model(ids[row : row + 1, : n - 1], output_router_logits=True).router_logits
            best = [x.topk(model.config.num_experts_per_tok).indices.flatten() for x in logits]
            loads = loads + torch.stack([x.bincount(minlength=model.config.num_experts) for x in best])
        expected["loads"] = loads.tolist()
    if newer:
        save_file(gradient(model, ids, lengths)[0], folder / "gradient.safetensors")
    (folder / "expected.json").write_text(json.dumps(expected))
    return model


def main():
    wanted = sys.argv[1:]
    if not wanted:
        shutil.rmtree(HERE, ignore_errors=True)
    every = [(COMMON, False, item) for item in MODELS.items()] + [(SMALL, True, item) for item in NEWER.items()]
    every += [(TINY, True, item) for item in NEWEST.items()]
    for seed, (common, newer, (name, (config_class, model_class, fields))) in enumerate(every):
        if wanted and name not in wanted:
            continue
        config = config_class(**{**common, **fields})
        make(HERE / name, seed, model_class, config, SHARDS.get(name, "1GB"), LENGTHS.get(name, (40, 23)), newer)
        if name.endswith("v4_config"):
            path = HERE / name / "config.json"
            path.write_text(json.dumps(as_version_4(json.loads(path.read_text())), indent=2))


if __name__ == "__main__":
    main()
