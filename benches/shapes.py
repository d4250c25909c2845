"""Shapes and families of the random models that the benches compare on."""
from transformers import Gemma3TextConfig, GraniteConfig, Qwen3_5TextConfig, Qwen3Config, Qwen3MoeConfig, SmolLM3Config

SHAPES = {
    "41.6M": dict(vocab_size=32000, hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
                  num_attention_heads=8, num_key_value_heads=4, head_dim=64),
    # A policy of the size that `gsm8k_tiny` trains.
    "tiny": dict(vocab_size=512, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=2, head_dim=32),
    # Proves that the scripts run.
    "smoke": dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=16),
    "0.6B": dict(vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
                 num_attention_heads=16, num_key_value_heads=8, head_dim=128),
    "1.7B": dict(vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28,
                 num_attention_heads=16, num_key_value_heads=8, head_dim=128),
}
FAMILIES = {
    "qwen3": (Qwen3Config, {}),
    "smollm3": (SmolLM3Config, {}),
    "granite": (GraniteConfig, dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
                                    attention_multiplier=0.015625)),
    # As many weights per token as the dense shape has.
    "qwen3_moe": (Qwen3MoeConfig, dict(num_experts=8, num_experts_per_tok=2)),
    # Three layers with a state to one with attention.
    "qwen3_5": (Qwen3_5TextConfig, dict(linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=32,
                                        linear_value_head_dim=32)),
    # Shorter than prompt and completion together, so that windows cut something off.
    "gemma3": (Gemma3TextConfig, dict(sliding_window=96)),
}


def config(family, shape):
    kind, settings = FAMILIES[family]
    if "num_experts_per_tok" in settings:
        settings = dict(settings, moe_intermediate_size=SHAPES[shape]["intermediate_size"] // settings["num_experts_per_tok"])
    return kind(**SHAPES[shape], **settings, tie_word_embeddings=True, max_position_embeddings=40960,
                bos_token_id=None, eos_token_id=None, pad_token_id=None)
