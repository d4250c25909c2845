"""Writes trl.json: losses, gradients, metrics and advantages as TRL itself computes them.

    python testdata/core/make_trl.py

in an environment with the versions of `VERSIONS` (CPU). Nothing is re-derived here: losses come from
`GRPOTrainer._compute_loss` and `GMPOTrainer._compute_loss` on a stub `self` whose
`_get_per_token_logps_and_entropies` returns prepared leaves, in float64, gradients from autograd;
advantages and importance weights come from executing TRL's own statements, cut out of
`_generate_and_score_completions` by their syntax tree.
"""

import ast
import inspect
import json
import math
import pathlib
import random
import textwrap
from collections import defaultdict
from types import SimpleNamespace

import torch
import transformers
import trl
from trl.experimental.gmpo.gmpo_trainer import GMPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer

VERSIONS = {"trl": "1.16.0", "torch": "2.11.0"}
assert trl.__version__ == VERSIONS["trl"], trl.__version__
assert torch.__version__.split("+")[0] == VERSIONS["torch"], torch.__version__

torch.set_default_dtype(torch.float64)
GENERATE_SOURCE = ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions)))


class Accelerator:
    num_processes = 1
    process_index = 0
    sync_gradients = True

    def gather(self, x):
        return x

    def pad_across_processes(self, x, dim, pad_index):
        return x

    def reduce(self, x, reduction):
        return x


DEFAULTS = dict(
    loss_type="dapo",
    importance_sampling_level="token",
    epsilon=0.2,
    epsilon_high=0.2,
    delta=None,
    beta=0.0,
    use_bias_correction_kl=True,
    off_policy_mask_threshold=None,
    top_entropy_quantile=1.0,
    entropy_coef=0.0,
    max_completion_length=16,
    correction=None,
    on_policy=False,
)


def stub(case, logp, entropy, metrics):
    self = SimpleNamespace()
    self.accelerator = Accelerator()
    self.model = SimpleNamespace(training=True)
    self.args = SimpleNamespace(
        use_bias_correction_kl=case["use_bias_correction_kl"],
        delta=case["delta"],
        sapo_temperature_pos=1.0,
        sapo_temperature_neg=1.05,
        vespo_k_pos=2.0,
        vespo_lambda_pos=3.0,
        vespo_k_neg=3.0,
        vespo_lambda_neg=2.0,
        steps_per_generation=1,
    )
    self.loss_type = case["loss_type"]
    self.importance_sampling_level = case["importance_sampling_level"]
    self.epsilon_low = case["epsilon"]
    self.epsilon_high = case["epsilon_high"]
    self.beta = case["beta"]
    self.off_policy_mask_threshold = case["off_policy_mask_threshold"]
    self.top_entropy_quantile = case["top_entropy_quantile"]
    self.entropy_coef = case["entropy_coef"]
    self._entropy_bonus_enabled = case["entropy_coef"] != 0.0
    self.use_adaptive_entropy = False
    self.use_vllm = case["correction"] is not None
    self.vllm_importance_sampling_correction = True
    self.current_gradient_accumulation_steps = 1
    self.max_completion_length = case["max_completion_length"]
    self.aux_loss_enabled = False
    self._metrics = {"train": metrics}
    self.get_off_policy_mask = GRPOTrainer.get_off_policy_mask
    self.get_gamma_weights = GRPOTrainer.get_gamma_weights
    high_entropy_mask = inspect.unwrap(GRPOTrainer.get_high_entropy_mask)
    self.get_high_entropy_mask = lambda *args: high_entropy_mask(self, *args)
    self._get_per_token_logps_and_entropies = lambda *args, **kwargs: (logp, entropy, None)
    return self


def statement(is_wanted):
    found = [node for node in ast.walk(GENERATE_SOURCE) if is_wanted(node)]
    assert found
    return found


def run(nodes, names):
    module = ast.Module(body=nodes, type_ignores=[])
    space = dict(vars(grpo_trainer)) | names
    exec(compile(ast.fix_missing_locations(module), "trl", "exec"), space)
    return space


def importance_sampling_ratio(correction, batch):
    """TRL's own block between the comments "Compute the importance sampling ratio…" and the reference pass."""

    def is_block(node):
        return (
            isinstance(node, ast.If)
            and ast.unparse(node.test) == "self.use_vllm and self.vllm_importance_sampling_correction"
            and "vllm_importance_sampling_ratio = torch.exp" in ast.unparse(node)
        )

    (block,) = statement(is_block)
    self = SimpleNamespace(
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode=correction["mode"],
        vllm_importance_sampling_clip_min=correction["clip_min"],
        vllm_importance_sampling_clip_max=correction["clip_max"],
    )
    space = run(
        [block],
        dict(
            self=self,
            completion_mask=batch["completion_mask"],
            tool_mask=batch["tool_mask"],
            old_per_token_logps=batch["old"],
            sampling_per_token_logps=batch["sampling"],
        ),
    )
    return space["vllm_importance_sampling_ratio"]


def loss_case(batches, case):
    case = DEFAULTS | case
    batch = batches[case["batch"]]
    logp = batch["logp"].clone().requires_grad_()
    entropy = batch["entropy"].clone().requires_grad_()
    metrics = defaultdict(list)
    mask = batch["completion_mask"] * batch["tool_mask"]
    inputs = dict(
        prompt_ids=torch.zeros(len(logp), 1, dtype=torch.long),
        prompt_mask=torch.ones(len(logp), 1, dtype=torch.long),
        completion_ids=torch.zeros(logp.shape, dtype=torch.long),
        completion_mask=batch["completion_mask"],
        tool_mask=batch["tool_mask"],
        advantages=batch["advantages"],
        num_items_in_batch=mask.sum(),
        ref_per_token_logps=batch["ref"],
    )
    if not case["on_policy"]:
        inputs["old_per_token_logps"] = batch["old"]
    if case["correction"] is not None:
        inputs["importance_sampling_ratio"] = importance_sampling_ratio(case["correction"], batch)
        inputs["sampling_per_token_logps"] = batch["sampling"]
    self = stub(case, logp, entropy, metrics)
    trainer = GMPOTrainer if case["loss_type"] == "gmpo" else GRPOTrainer
    loss = trainer._compute_loss(self, None, inputs)
    loss.backward()
    lengths = batch["lengths"]
    rows = lambda grad: [grad[i, :n].tolist() for i, n in enumerate(lengths)]
    zeros = torch.zeros_like(logp)
    return {key: value for key, value in case.items() if value != DEFAULTS.get(key, ...)} | dict(
        loss=loss.item(),
        grad_logp=rows(logp.grad if logp.grad is not None else zeros),
        grad_entropy=rows(entropy.grad) if case["entropy_coef"] != 0.0 else None,
        metrics={name: values[0] for name, values in metrics.items() if not math.isnan(values[0])},
    )


def make_batch(seed, lengths, spread, holes=(), truncated=(), unreported=(), advantages=None, exact_ties=False):
    rng = random.Random(seed)
    n_rows, width = len(lengths), max(lengths)
    draw = lambda low, high: torch.tensor([[rng.uniform(low, high) for _ in range(width)] for _ in range(n_rows)])
    logp = draw(-3.0, -0.05)
    old = logp + draw(-spread, spread)
    if exact_ties:  # every other ratio is exactly 1, where clipping with epsilon = 0 ties
        old[:, ::2] = logp[:, ::2]
    completion_mask = torch.tensor([[int(t < n) for t in range(width)] for n in lengths])
    for row in truncated:
        completion_mask[row] = 0
    tool_mask = torch.ones_like(completion_mask)
    for row, token in holes:
        tool_mask[row, token] = 0
    sampling = old + draw(-0.3, 0.3)
    for row, token in unreported:
        sampling[row, token] = float("nan")
    levels = list(range(1, n_rows * width + 1))
    rng.shuffle(levels)  # distinct multiples of 1/64: TRL takes the quantile in float32
    return dict(
        lengths=list(lengths),
        logp=logp,
        old=old,
        ref=logp + draw(-0.8, 0.8),
        sampling=sampling,
        entropy=torch.tensor(levels, dtype=torch.float64).view(n_rows, width) / 64,
        completion_mask=completion_mask,
        tool_mask=tool_mask,
        advantages=torch.tensor(advantages or [rng.gauss(0, 1) for _ in range(n_rows)]),
        truncated=[row in truncated for row in range(n_rows)],
    )


def written(batch):
    rows = lambda x: [
        [None if math.isnan(v) else v for v in x[i, :n].tolist()] for i, n in enumerate(batch["lengths"])
    ]
    own = lambda i, n: [int(v) for v in batch["tool_mask"][i, :n]]
    return dict(
        own=[own(i, n) for i, n in enumerate(batch["lengths"])],
        truncated=batch["truncated"],
        advantages=batch["advantages"].tolist(),
        **{name: rows(batch[name]) for name in ("logp", "old", "ref", "sampling", "entropy")},
    )


LOSS_TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]
CLIPPED = LOSS_TYPES[:5]
MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


def loss_cases():
    cases = []
    for batch in (0, 1):
        for loss_type in LOSS_TYPES:
            for level in ("token", "sequence"):
                for delta in (None, 1.3) if loss_type in CLIPPED else (None,):
                    for kl in ({}, dict(beta=0.04, use_bias_correction_kl=False), dict(beta=0.04)):
                        for threshold in (None, 0.05):
                            cases.append(
                                dict(
                                    batch=batch,
                                    loss_type=loss_type,
                                    importance_sampling_level=level,
                                    delta=delta,
                                    off_policy_mask_threshold=threshold,
                                    epsilon_high=1.1 if loss_type == "cispo" else 0.28,
                                    **kl,
                                )
                            )
    for loss_type in LOSS_TYPES:
        for level in ("token", "sequence"):
            for mode in MODES:
                if loss_type == "vespo" and mode.startswith("sequence"):
                    continue  # TRL refuses it
                for low, high in ((None, 1.15), (0.9, 1.15)):
                    correction = dict(mode=mode, clip_min=low, clip_max=high)
                    cases.append(
                        dict(
                            batch=1,
                            loss_type=loss_type,
                            importance_sampling_level=level,
                            correction=correction,
                            off_policy_mask_threshold=0.05 if low else None,
                        )
                    )
            for quantile, coef in ((0.3, 0.0), (1.0, 0.01), (0.5, 0.02)):
                cases.append(
                    dict(
                        batch=1,
                        loss_type=loss_type,
                        importance_sampling_level=level,
                        top_entropy_quantile=quantile,
                        entropy_coef=coef,
                        beta=0.04,
                    )
                )
            cases.append(dict(batch=0, loss_type=loss_type, importance_sampling_level=level, on_policy=True, beta=0.1))
            cases.append(dict(batch=2, loss_type=loss_type, importance_sampling_level=level, epsilon=0.0, epsilon_high=0.0))
            cases.append(dict(batch=3, loss_type=loss_type, importance_sampling_level=level, beta=0.02, delta=4.0))
    for batch in (0, 2, 3):
        for epsilon in (0.0, 0.2, 0.4):
            for quantile in (1.0, 0.5):
                for beta in (0.0, 0.04):
                    cases.append(
                        dict(
                            batch=batch,
                            loss_type="gmpo",
                            epsilon=epsilon,
                            epsilon_high=epsilon + 0.1,
                            top_entropy_quantile=quantile,
                            beta=beta,
                            use_bias_correction_kl=False,
                        )
                    )
    return cases


def advantages_case(rewards, weights, num_generations, scale, aggregation):
    """TRL's statements from the call of the reward functions to the advantages."""
    (function,) = (node for node in GENERATE_SOURCE.body if isinstance(node, ast.FunctionDef))
    texts = [ast.unparse(node) for node in function.body]
    start = next(i for i, text in enumerate(texts) if text.startswith("rewards_per_func = self._calculate_rewards"))
    stop = next(i for i, text in enumerate(texts) if text.startswith("advantages = torch.nan_to_num"))
    table = torch.tensor([[math.nan if r is None else r for r in row] for row in rewards])
    self = SimpleNamespace(
        _calculate_rewards=lambda *args: table.clone(),
        reward_weights=torch.tensor(weights),
        reward_funcs=[None] * len(weights),
        num_generations=num_generations,
        num_generations_eval=num_generations,
        multi_objective_aggregation=aggregation,
        scale_rewards=scale,
    )
    space = run(
        function.body[start : stop + 1],
        dict(self=self, mode="train", device="cpu", inputs=None, prompts=None, completions=None, completion_ids_list=None),
    )
    return dict(
        rewards=rewards,
        weights=weights,
        num_generations=num_generations,
        scale_rewards=scale,
        aggregation=aggregation,
        advantages=space["advantages"].tolist(),
        frac_reward_zero_std=space["is_std_zero"].double().mean().item(),
    )


def advantages_cases():
    rng = random.Random(7)
    tables = [
        ([[1.0], [0.0], [0.0], [1.0], [0.5], [0.25], [0.125], [1.0]], [1.0], 4),
        ([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]], [1.0], 3),  # constant groups
        ([[1.0], [None], [0.0], [None], [None], [None], [0.5], [None]], [1.0], 4),  # unscored rows and a single one
        ([[rng.gauss(0, 1), rng.random(), None if i % 5 == 0 else rng.random()] for i in range(24)], [1.0, 0.1, -0.5], 8),
        ([[None, None] if i in (3, 4) else [rng.random(), None if i % 3 == 0 else 1.0] for i in range(12)], [1.0, 0.5], 6),
        ([[1.0], [1.00001], [2.0], [2.00001]], [1.0], 4),  # verl issue 6348
        ([[rng.gauss(1e3, 1)] for _ in range(16)], [1.0], 8),
        ([[0.25], [0.75]], [2.0], 2),
    ]
    cases = []
    for rewards, weights, num_generations in tables:
        for scale in ("group", "batch", "none"):
            cases.append(advantages_case(rewards, weights, num_generations, scale, "sum_then_normalize"))
        cases.append(advantages_case(rewards, weights, num_generations, "group", "normalize_then_sum"))
    return cases


def main():
    batches = [
        make_batch(1, [7, 3, 5, 6], 0.5, advantages=[1.3, -0.7, 0.0, -1.9]),
        make_batch(
            2,
            [6, 4, 7, 5, 2],
            0.5,
            holes=[(0, 2), (0, 3), (2, 0), (3, 4)],
            truncated=[4],
            unreported=[(0, 1), (2, 5)],
            advantages=[-1.1, 0.8, -0.4, 2.0, -3.0],
        ),
        make_batch(3, [4, 5, 3], 0.3, advantages=[0.9, -1.2, 0.0], exact_ties=True),
        make_batch(4, [5, 6, 4, 3], 2.5, advantages=[1.5, -0.5, 0.25, -2.0]),
    ]
    result = dict(
        versions=VERSIONS | dict(transformers=transformers.__version__),
        batches=[written(batch) for batch in batches],
        defaults=DEFAULTS,
        losses=[loss_case(batches, case) for case in loss_cases()],
        advantages=advantages_cases(),
    )
    path = pathlib.Path(__file__).with_name("trl.json")
    parts = [f'"{key}": ' + json.dumps(value) for key, value in result.items() if key not in ("losses", "advantages")]
    for key in ("losses", "advantages"):
        parts.append(f'"{key}": [\n' + ",\n".join(json.dumps(case) for case in result[key]) + "\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(len(result["losses"]), "losses,", len(result["advantages"]), "advantages,", path.stat().st_size, "bytes")


main()
