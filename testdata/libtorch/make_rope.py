"""Where transformers finds the base of the rotary embedding, whatever spelling config.json has: rope.json.

    python make_rope.py

Written by transformers 5.23.0. Every case is a config.json and the `rope_parameters` of the class
that transformers makes of it; for yarn and longrope also the cosines and sines of some positions.
"""
import json
from pathlib import Path

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BASE = dict(
    vocab_size=48,
    hidden_size=24,
    intermediate_size=28,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=512,
)
LLAMA3 = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0)
PLAIN = ["llama", "qwen2", "qwen3", "smollm3", "granite"]
BOTH = dict(
    rope_theta=5e5,
    rope_parameters=dict(
        full_attention=dict(rope_type="default", rope_theta=7e4),
        sliding_attention=dict(rope_type="default", rope_theta=8e3),
    ),
)
CASES = (
    [(family, {}) for family in PLAIN + ["gemma3_text"]]
    + [(family, dict(rope_theta=5e5)) for family in PLAIN + ["gemma3_text"]]
    + [(family, dict(rope_theta=5e5, rope_scaling=None)) for family in PLAIN]
    + [("llama", dict(rope_theta=5e5, rope_parameters=dict(rope_type="default")))]
    + [("llama", dict(rope_parameters=dict(rope_type="default", rope_theta=7e4)))]
    + [("qwen3", dict(rope_theta=5e5, rope_parameters=dict(rope_type="default", rope_theta=7e4)))]
    + [("llama", dict(rope_scaling=dict(rope_type="linear", factor=2.0, rope_theta=3e4)))]
    + [("llama", dict(rope_theta=5e5, rope_scaling=dict(type="linear", factor=2.0)))]
    + [("qwen2", dict(rope_theta=5e5, rope_scaling=dict(rope_type="linear", factor=2.0, rope_theta=3e4)))]
    + [("llama", dict(rope_theta=5e5, rope_scaling=dict(rope_type="llama3", original_max_position_embeddings=32, **LLAMA3)))]
    + [("llama", dict(rope_scaling=dict(rope_type="llama3", rope_theta=3e4, **LLAMA3)))]
    + [("smollm3", dict(rope_parameters=dict(rope_type="linear", factor=3.0)))]
    + [
        (
            "llama",
            dict(
                rope_theta=5e5,
                rope_parameters=dict(rope_type="default", rope_theta=7e4),
                rope_scaling=dict(rope_type="linear", factor=2.0),
            ),
        )
    ]
    + [("gemma3_text", dict(rope_theta=5e5, rope_local_base_freq=2e3))]
    + [("gemma3_text", dict(rope_theta=5e5, rope_local_base_freq=2e3, rope_scaling=dict(rope_type="linear", factor=8.0)))]
    + [
        (
            "gemma3_text",
            dict(
                rope_parameters=dict(
                    full_attention=dict(rope_type="default", rope_theta=7e4),
                    sliding_attention=dict(rope_type="default", rope_theta=8e3),
                )
            ),
        )
    ]
    + [("gemma3_text", dict(rope_parameters=dict(full_attention=dict(rope_type="linear", factor=2.0), sliding_attention=None)))]
    + [("gemma3_text", dict(BOTH, rope_scaling=dict(rope_type="linear", factor=8.0)))]
    + [("gemma3_text", dict(BOTH, rope_scaling=dict(rope_type="linear", factor=8.0, rope_theta=3e4)))]
    + [("gemma3_text", dict(rope_scaling=dict(type="linear", factor=8.0)))]
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)
WIDE = dict(head_dim=32, rope_theta=1e4)
LONG = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 2.0], long_factor=[4.0, 5.0, 6.0, 7.0])
STRETCHED = [
    ("qwen3", dict(WIDE, rope_scaling=YARN)),
    ("qwen2", dict(hidden_size=128, rope_theta=1e6, rope_scaling=dict(type="yarn", factor=4.0))),
    ("llama", dict(WIDE, rope_parameters=dict(YARN, rope_theta=1e4, beta_fast=8.0, beta_slow=2.0, truncate=False))),
    ("qwen3", dict(WIDE, rope_parameters=dict(YARN, rope_theta=1e4, mscale=1.0, mscale_all_dim=0.7))),
    ("qwen3", dict(WIDE, rope_parameters=dict(YARN, rope_theta=1e4, mscale=1.0, attention_factor=1.25))),
    ("ministral3", dict(head_dim=32, rope_parameters=dict(YARN, rope_theta=1e4, llama_4_scaling_beta=0.1))),
    (
        "phi3",
        dict(
            hidden_size=64,
            head_dim=16,
            original_max_position_embeddings=128,
            partial_rotary_factor=0.5,
            rope_theta=1e4,
            rope_scaling=LONG,
        ),
    ),
]
POSITIONS = [1, 7, 100]


def stretched(config):
    inv_freq, factor = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, "cpu")
    angles = torch.tensor(POSITIONS)[:, None].float() * inv_freq
    angles = torch.cat((angles, angles), -1)
    return [[[float(f"{x:.8g}") for x in row] for row in (f(angles) * factor).tolist()] for f in (torch.cos, torch.sin)]


def main():
    cases = []
    for family, fields in CASES + STRETCHED:
        config = dict(BASE, model_type=family, **fields)
        made = CONFIG_MAPPING[family](**json.loads(json.dumps(config)))
        case = dict(config=config, rope_parameters=made.rope_parameters)
        if (family, fields) in STRETCHED:
            case |= dict(positions=POSITIONS, cos_sin=stretched(made))
        cases.append(case)
    path = Path(__file__).parent / "rope.json"
    lines = ",\n".join(map(json.dumps, cases))
    path.write_text(f'{{"transformers": "{transformers.__version__}", "cases": [\n{lines}\n]}}\n')


main()
