"""Writes verl.json: what verl's own functions compute where TRL has no such feature.

    pip install --no-deps --target DIR verl==0.9.1 omegaconf==2.4.0 antlr4-python3-runtime==4.9.3 tensordict==0.15.3
    PYTHONPATH=DIR python testdata/core/make_verl.py

with torch 2.11.0 (CPU). Policy losses with autograd gradients, KL penalties and advantages come from
`verl.trainer.ppo.core_algos`, sampler corrections from `rollout_corr_helper`, all in float64. verl's
distributed dependencies are not needed for these functions: what cannot be imported is replaced by an
empty module.
"""

import importlib.machinery
import importlib.metadata
import json
import pathlib
import random
import sys
import types

import numpy as np
import torch

VERSIONS = {"verl": "0.9.1", "torch": "2.11.0"}
assert importlib.metadata.version("verl") == VERSIONS["verl"]
assert torch.__version__.split("+")[0] == VERSIONS["torch"], torch.__version__
torch.set_default_dtype(torch.float64)


class Anything:
    def __getattr__(self, name):
        return Anything()

    def __call__(self, *args, **kwargs):
        return args[0] if args and callable(args[0]) else Anything()


def empty_module(name):
    module = types.ModuleType(name)
    module.__path__ = []
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__version__ = "9.9"

    def attribute(wanted):
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return Anything()

    module.__getattr__ = attribute
    return module


def import_verl():
    while True:
        try:
            from verl.trainer.ppo import core_algos, rollout_corr_helper
            from verl.workers.config import ActorConfig

            return core_algos, rollout_corr_helper, ActorConfig
        except ModuleNotFoundError as missing:
            assert not missing.name.startswith("verl"), missing
            sys.modules[missing.name] = empty_module(missing.name)
            for name in [name for name in sys.modules if name.split(".")[0] == "verl"]:
                del sys.modules[name]


core_algos, rollout_corr_helper, ActorConfig = import_verl()


def make_batch(seed, lengths, spread, holes, advantages):
    rng = random.Random(seed)
    width = max(lengths)
    draw = lambda low, high: torch.tensor([[rng.uniform(low, high) for _ in range(width)] for _ in lengths])
    logp = draw(-2.0, -0.02)
    mask = torch.tensor([[float(t < n and (row, t) not in holes) for t in range(width)] for row, n in enumerate(lengths)])
    return dict(
        lengths=lengths,
        logp=logp,
        old=logp + draw(-spread, spread),
        ref=logp + draw(-0.8, 0.8),
        sampling=logp + draw(-0.6, 0.6),
        mask=mask,
        advantages=torch.tensor(advantages),
    )


def rows(tensor, batch):
    return [tensor[i, :n].tolist() for i, n in enumerate(batch["lengths"])]


def actor_config(case):
    settings = dict(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio=0.2,
        clip_ratio_low=case.get("low", 0.2),
        clip_ratio_high=case.get("high", 0.2),
        clip_ratio_c=case.get("c", 3.0),
        loss_agg_mode=case.get("agg", "token-mean"),
    )
    if case.get("agg") == "seq-mean-token-sum-norm":
        settings["loss_scale_factor"] = 16
    config = ActorConfig(**settings)
    if case.get("agg") == "seq-mean-token-sum-norm":
        config.global_batch_info["loss_scale_factor"] = 16
    return config


def loss_case(batches, case):
    batch = batches[case["batch"]]
    logp = batch["logp"].clone().requires_grad_()
    advantages = batch["advantages"].unsqueeze(1).expand_as(logp)
    weights = None
    if "rollout_is" in case:
        log_ratio = (batch["old"] - batch["sampling"]) * batch["mask"]
        weights, _ = rollout_corr_helper.compute_rollout_correction_weights(
            log_ratio, batch["mask"], case["rollout_is"], case["rollout_is_threshold"]
        )
    function = core_algos.get_policy_loss_fn(case["mode"])
    loss, metrics = function(
        old_log_prob=batch["old"],
        log_prob=logp,
        advantages=advantages,
        response_mask=batch["mask"],
        loss_agg_mode=case.get("agg", "token-mean"),
        config=actor_config(case),
        rollout_is_weights=weights,
    )
    loss.backward()
    kept = {name: metrics[name] for name in ("actor/ppo_kl", "actor/pg_clipfrac_lower") if name in metrics}
    return case | dict(loss=loss.item(), grad_logp=rows(logp.grad, batch), metrics=kept)


def kl_case(batch, estimator):
    logp = batch["logp"].clone().requires_grad_()
    kl = core_algos.kl_penalty(logp, batch["ref"], estimator)
    (kl * batch["mask"]).sum().backward()
    return dict(estimator=estimator, value=rows((kl * batch["mask"]).detach(), batch), grad=rows(logp.grad, batch))


class AlgorithmConfig(dict):
    norm_adv_by_std_in_grpo = True


def advantage_cases():
    rng = random.Random(3)
    scores = [1.0, 0.0, 0.5, 0.25, 0.0, 1.0, 0.0, 2.5, 2.5] + [rng.gauss(0, 1) for _ in range(6)]
    groups = ["b", "a", "b", "b", "a", "a", "b", "c", "c", "d", "a", "d", "d", "d", "b"]
    single = [0.75]
    cases = []
    for scores_, groups_ in ((scores, groups), (scores + single, groups + ["alone"])):
        n = len(scores_)
        lengths = [1 + (7 * i) % 5 for i in range(n)]
        mask = torch.tensor([[float(t < k) for t in range(5)] for k in lengths])
        rewards = torch.zeros(n, 5)
        rewards[:, 0] = torch.tensor(scores_)
        call = dict(token_level_rewards=rewards, response_mask=mask, index=np.array(groups_))
        arms = {
            "grpo": lambda: core_algos.compute_grpo_outcome_advantage(**call),
            "grpo_no_std": lambda: core_algos.compute_grpo_outcome_advantage(**call, norm_adv_by_std_in_grpo=False),
            "rloo": lambda: core_algos.compute_rloo_outcome_advantage(**call),
            "opo": lambda: core_algos.compute_opo_outcome_advantage(**call),
            "grpo_passk": lambda: core_algos.compute_grpo_passk_outcome_advantage(**call, config=AlgorithmConfig()),
        }
        for name, arm in arms.items():
            if name == "grpo_passk" and "alone" in groups_:
                continue  # verl refuses groups of one
            cases.append(
                dict(
                    estimator=name,
                    rewards=scores_,
                    groups=[sorted(set(groups_)).index(g) for g in groups_],
                    lengths=lengths,
                    advantages=arm()[0][:, 0].tolist(),
                )
            )
    return cases


def main():
    batches = [
        make_batch(11, [6, 3, 5, 4], 0.5, {(0, 2), (2, 0)}, [1.2, -0.8, -1.6, 0.4]),
        make_batch(12, [5, 4, 6], 2.2, set(), [0.7, -1.1, -2.0]),
    ]
    cases = []
    for batch in (0, 1):
        for agg in ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"):
            for mode in ("vanilla", "gpg", "cispo", "dppo_tv", "dppo_kl"):
                cases.append(dict(batch=batch, mode=mode, agg=agg, high=0.28, c=2.0 if batch else 3.0))
        for mode in ("gspo", "sapo"):
            cases.append(dict(batch=batch, mode=mode, agg="seq-mean-token-mean", low=0.05, high=0.1))
        cases.append(dict(batch=batch, mode="geo_mean", low=0.4, high=0.4))
        for level, threshold in (("token", "1.2"), ("token", "0.8_1.2"), ("sequence", "1.5"), ("sequence", "0.5_1.5")):
            for mode in ("vanilla", "cispo", "sapo"):
                agg = "seq-mean-token-mean" if mode == "sapo" else "token-mean"
                cases.append(dict(batch=batch, mode=mode, agg=agg, rollout_is=level, rollout_is_threshold=threshold))
    estimators = ("k1", "abs", "k2", "k3", "k1+", "abs+", "k3+")
    result = dict(
        versions=VERSIONS,
        batches=[
            dict(advantages=batch["advantages"].tolist())
            | {name: rows(batch[name], batch) for name in ("mask", "logp", "old", "ref", "sampling")}
            for batch in batches
        ],
        losses=[loss_case(batches, case) for case in cases],
        kl=[kl_case(batches[0], estimator) for estimator in estimators],
        advantages=advantage_cases(),
    )
    path = pathlib.Path(__file__).with_name("verl.json")
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(case) for case in value) + "\n]" for key, value in result.items() if key != "versions"]
    path.write_text("{\n" + ",\n".join([f'"versions": {json.dumps(VERSIONS)}'] + parts) + "\n}\n")
    print(len(cases), "losses,", len(result["advantages"]), "advantages,", path.stat().st_size, "bytes")


main()
