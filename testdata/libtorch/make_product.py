"""Checkpoints of every family in every combination: per seed sharded and not, tied and untied, shapes drawn.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python make_product.py FOLDER SEED ...

Made as in make_models.py, with the same files beside each, and an adapter by PEFT 0.21.2 beside every linear
layer but experts, with its gradient; nothing of it is kept in the repository.
`cargo test -p g2rpo-libtorch --test transformers` reads them where FOLDER is `$G2RPO_MODELS/tiny`.

Heads, widths, vocabulary, windows, rotations, biases and factors are drawn; few of the sizes divide one
another. A checkpoint of which transformers' own f32 is further than 5e-6 from its f64, or whose greedy choices
hang on less than 1e-4 of a logit, can say nothing to 1e-5: it is drawn again, and the script says so.
"""
import copy
import json
import random
import sys
from pathlib import Path

import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers.utils import logging

from make_models import COMMON, double, gradient, make

WIDTHS = [14, 17, 19, 23]
WINDOWS = [5, 7, 10, 11, 13]


def attention(r, groups=((3, 1), (5, 1), (6, 2), (3, 3), (6, 3))):
    heads, kv_heads = r.choice(groups)
    return dict(num_attention_heads=heads, num_key_value_heads=kv_heads)


def wide_heads(r):
    """Heads of a width of their own."""
    return dict(attention(r), hidden_size=r.choice(WIDTHS), head_dim=r.choice([6, 10, 14]))


def wide_heads_of_a_multiple(r):
    """The same for configurations that insist on a width that the number of heads divides."""
    shape = wide_heads(r)
    return dict(shape, hidden_size=shape["num_attention_heads"] * r.choice([5, 7]))


def split_heads(r):
    """Heads that share the model's width."""
    shape = attention(r)
    return dict(shape, hidden_size=shape["num_attention_heads"] * r.choice([4, 6]))


def rope(r, *kinds):
    """A kind of rotations and its numbers."""
    kind = r.choice(kinds)
    theta = r.choice([100.0, 1000.0, 10000.0])
    original = r.choice([16, 24, 30])
    more = {
        "default": {},
        "linear": dict(factor=r.choice([2.0, 3.5])),
        "llama3": dict(factor=r.choice([4.0, 8.0]), low_freq_factor=1.0, high_freq_factor=r.choice([3.0, 4.0]),
                       original_max_position_embeddings=original),
        "yarn": dict(factor=r.choice([2.5, 4.0]), original_max_position_embeddings=original,
                     beta_fast=r.choice([3.0, 32.0]), truncate=r.random() < 0.5),
    }
    return dict(rope_type=kind, rope_theta=theta, **more[kind])


def part(r, width):
    """A share of a head's coordinates that comes to an even number of them."""
    return (r.choice(range(2, width + 1, 2)) + 0.5) / (width + 0.5)


def flag(r):
    return r.random() < 0.5


def types(r, n, some, other):
    """Kinds of `n` layers, both there."""
    kinds = [some, other] + [r.choice([some, other]) for _ in range(n - 2)]
    r.shuffle(kinds)
    return kinds


def multipliers(r):
    return dict(
        embedding_multiplier=r.choice([0.7, 3.5]),
        attention_multiplier=r.choice([0.1, 0.3]),
        residual_multiplier=r.choice([0.4, 1.3]),
        logits_scaling=r.choice([0.6, 1.7]),
    )


ALL_ROPES = ("default", "linear", "llama3", "yarn")


def llama(r):
    return dict(wide_heads_of_a_multiple(r), attention_bias=flag(r), mlp_bias=flag(r), rope_parameters=rope(r, *ALL_ROPES))


def qwen2(r):
    return dict(split_heads(r), rope_parameters=rope(r, *ALL_ROPES))


def qwen3(r):
    return dict(wide_heads(r), attention_bias=flag(r), rope_parameters=rope(r, *ALL_ROPES))


def smollm3(r):
    n = r.choice([2, 3])
    return dict(
        split_heads(r),
        num_hidden_layers=n,
        attention_bias=flag(r),
        mlp_bias=flag(r),
        no_rope_layers=types(r, n, 1, 0),
        use_sliding_window=True,
        sliding_window=r.choice(WINDOWS),
        layer_types=types(r, n, "sliding_attention", "full_attention"),
        rope_parameters=rope(r, "default", "yarn"),
    )


def granite(r):
    return dict(split_heads(r), attention_bias=flag(r), mlp_bias=flag(r), rope_parameters=rope(r, "default", "linear"),
                **multipliers(r))


def granite4(r):
    n = r.choice([2, 3])
    return dict(
        split_heads(r),
        num_hidden_layers=n,
        attention_bias=flag(r),
        shared_intermediate_size=r.choice([11, 13, 17]),
        position_embedding_type=r.choice(["rope", None]),
        rope_parameters=rope(r, "default"),
        layer_types=["full_attention"] * n,
        num_local_experts=0,
        mamba_n_heads=1,
        **multipliers(r),
    )


def gemma3(r):
    n = r.choice([3, 4])
    return dict(
        wide_heads_of_a_multiple(r),
        num_hidden_layers=n,
        query_pre_attn_scalar=r.choice([7, 10, 13]),
        sliding_window=r.choice(WINDOWS),
        layer_types=types(r, n, "sliding_attention", "full_attention"),
        rope_parameters=dict(full_attention=rope(r, "default", "linear"), sliding_attention=rope(r, "default")),
    )


def qwen3_5(r):
    n = r.choice([3, 4])
    keys = r.choice([1, 2, 3])
    shape = wide_heads(r)
    return dict(
        shape,
        num_hidden_layers=n,
        attention_bias=flag(r),
        layer_types=types(r, n, "linear_attention", "full_attention"),
        linear_num_key_heads=keys,
        linear_num_value_heads=keys * r.choice([1, 2]),
        linear_key_head_dim=r.choice([3, 5, 6]),
        linear_value_head_dim=r.choice([3, 5, 7]),
        linear_conv_kernel_dim=r.choice([2, 3, 4]),
        rope_parameters=dict(rope(r, "default"), partial_rotary_factor=part(r, shape["head_dim"])),
    )


def qwen3_moe(r):
    n = r.choice([2, 3])
    experts = r.choice([5, 7])
    return dict(
        wide_heads(r),
        num_hidden_layers=n,
        attention_bias=flag(r),
        mlp_only_layers=r.choice([[], [r.randrange(n)]]),
        num_experts=experts,
        num_experts_per_tok=r.choice([1, 2, 3]),
        moe_intermediate_size=r.choice([3, 5]),
        norm_topk_prob=flag(r),
        rope_parameters=rope(r, "default", "yarn"),
    )


def phi3(r):
    shape = attention(r)
    width = r.choice([6, 8])
    share = part(r, width)
    turned = int(width * share) // 2
    long = dict(
        rope_type="longrope",
        rope_theta=1000.0,
        short_factor=[r.uniform(1.0, 1.5) for _ in range(turned)],
        long_factor=[r.uniform(2.0, 4.0) for _ in range(turned)],
    )
    return dict(
        shape,
        hidden_size=shape["num_attention_heads"] * width,
        sliding_window=r.choice([None, *WINDOWS]),
        original_max_position_embeddings=128,
        rope_parameters=dict(r.choice([long, rope(r, "default")]), partial_rotary_factor=share),
    )


def ministral3(r):
    yarn = dict(rope(r, "yarn"), llama_4_scaling_beta=r.choice([0.1, 0.4]))
    if flag(r):
        yarn.update(mscale=1.0, mscale_all_dim=0.5)
    return dict(wide_heads(r), sliding_window=r.choice([None, *WINDOWS]), rope_parameters=yarn)


def mistral(r):
    return dict(wide_heads(r), sliding_window=r.choice([None, *WINDOWS]), rope_parameters=rope(r, *ALL_ROPES))


FAMILIES = {
    "llama": (llama, hf.LlamaConfig, hf.LlamaForCausalLM),
    "qwen2": (qwen2, hf.Qwen2Config, hf.Qwen2ForCausalLM),
    "qwen3": (qwen3, hf.Qwen3Config, hf.Qwen3ForCausalLM),
    "smollm3": (smollm3, hf.SmolLM3Config, hf.SmolLM3ForCausalLM),
    "granite": (granite, hf.GraniteConfig, hf.GraniteForCausalLM),
    "granite4": (granite4, hf.GraniteMoeHybridConfig, hf.GraniteMoeHybridForCausalLM),
    "gemma3": (gemma3, hf.Gemma3TextConfig, hf.Gemma3ForCausalLM),
    "qwen3_5": (qwen3_5, hf.Qwen3_5TextConfig, hf.Qwen3_5ForCausalLM),
    "qwen3_moe": (qwen3_moe, hf.Qwen3MoeConfig, hf.Qwen3MoeForCausalLM),
    "phi3": (phi3, hf.Phi3Config, hf.Phi3ForCausalLM),
    "ministral3": (ministral3, hf.Ministral3Config, hf.Ministral3ForCausalLM),
    "mistral": (mistral, hf.MistralConfig, hf.MistralForCausalLM),
}


def doubt(model, ids, lengths, expected):
    """Whether transformers' own numbers cannot be the truth to 1e-5."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for row, n in enumerate(lengths):
            text = torch.cat([ids[row, :n], torch.tensor(expected["greedy"][row])])[None]
            single = model(text).logits[0]
            with double(twin):
                exact = twin(text).logits[0]
            off = (single - exact).abs().max().item()
            if off > 5e-6:
                print(f"f32 is {off:.1e} off f64; drawn again")
                return True
            best = exact[n - 1 : -1].topk(2).values
            margin = (best[:, 0] - best[:, 1]).min().item()
            if margin < 1e-4:
                print(f"a greedy choice hangs on {margin:.1e}; drawn again")
                return True
    return False


def add_adapter(folder, model):
    """`adapter/` as PEFT writes it, with `gradient.safetensors` as that of the checkpoint."""
    expected = json.loads((folder / "expected.json").read_text())
    ids, lengths = torch.tensor(expected["ids"]), expected["lengths"]
    # PEFT's "all-linear" takes experts and their routers in, as parameters.
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"] if getattr(model.config, "num_experts", 0) else "all-linear"
    lora = LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM")
    with_adapter = get_peft_model(model.float(), lora)
    with torch.no_grad():
        for key, p in with_adapter.named_parameters():
            if "lora_B" in key:
                p.normal_(0, 0.2)
    with_adapter.save_pretrained(folder / "adapter")
    gradients, logps = gradient(with_adapter, ids, lengths)
    trained = {key.replace(".default", ""): g for key, g in gradients.items() if "lora_" in key}
    save_file(trained, folder / "adapter" / "gradient.safetensors")
    (folder / "adapter" / "expected.json").write_text(json.dumps(dict(logps=logps)))


def main():
    folder, seeds = Path(sys.argv[1]), sys.argv[2:]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    made = drawn = 0
    for family, (draw, config_class, model_class) in FAMILIES.items():
        for seed in seeds:
            for sharded in [False, True]:
                for tied in [False, True]:
                    name = f"{family}_{seed}_{'shards' if sharded else 'whole'}_{'tied' if tied else 'untied'}"
                    model, attempt = None, 0
                    while model is None:
                        r = random.Random(f"{name} {attempt}")
                        common = dict(COMMON, initializer_range=0.2, vocab_size=r.choice([37, 45, 53]), intermediate_size=r.choice([13, 19, 22]))
                        config = config_class(**{**common, **draw(r)}, tie_word_embeddings=tied)
                        # Rows that are longer than one chunk of the delta rule's scan, and shorter ones.
                        lengths = (r.choice([67, 71]) if family == "qwen3_5" else r.choice([37, 41]), r.choice([19, 23]))
                        shard = "4KB" if sharded else "1GB"
                        model = make(folder / name, r.randrange(2**31), model_class, config, shard, lengths, doubt=doubt)
                        attempt += 1
                    add_adapter(folder / name, model)
                    made, drawn = made + 1, drawn + attempt
    print(f"{made} checkpoints, {drawn} drawn")


if __name__ == "__main__":
    main()
