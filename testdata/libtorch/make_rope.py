"""Where transformers finds the base of the rotary embedding, whatever spelling config.json has: rope.json.

    python make_rope.py

Written by transformers 5.23.0. Every case is a config.json and the `rope_parameters` of the class
that transformers makes of it.
"""
import json
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING

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
)


def main():
    cases = []
    for family, fields in CASES:
        config = dict(BASE, model_type=family, **fields)
        made = CONFIG_MAPPING[family](**json.loads(json.dumps(config)))
        cases.append(dict(config=config, rope_parameters=made.rope_parameters))
    path = Path(__file__).parent / "rope.json"
    path.write_text(json.dumps(dict(transformers=transformers.__version__, cases=cases), indent=1) + "\n")


main()
