"""A GRPO step of our learner beside TRL's loss, on one model, in one run.

    cargo build -p g2rpo-benches --bin learner_step
    python benches/learner.py --binary target/debug/learner_step [--rounds 2] [--rows 16]

(The work is libtorch's on both sides, so our side's build profile does not matter.)

Both sides take turns, each in a process of its own: a step forward and backward through a random
model, a Qwen3 of 41.6 M parameters unless `--family` and `--shape` name another, gradient clipping and AdamW, f32, 2 threads.
TRL's side is `GRPOTrainer._compute_loss` of
TRL 1.16.0 with its fused LM head, `loss.backward()`, `clip_grad_norm_` and `torch.optim.AdamW`, with and
without activation checkpointing (on is its default). Both compute entropies.

Memory is the largest resident set during the steps, less what the process held before the model was
built (the libraries). With --device cuda it is the GPU's memory as nvidia-smi gives it, less what was taken
before the process began. Versions: torch 2.11.0, transformers 5.23.0, trl 1.16.0, peft 0.21.2.

An adapter of rank r beside every linear layer: `--ours "lora=8 checkpointing=1" --theirs "lora=8 checkpointing=1"`;
TRL's is PEFT's.

With --cpu-time and --threads 1 processor seconds are shown instead of wall-clock seconds, for machines that are
busy with other work.

With --dtype bfloat16 our parameters are bf16 with f32 master weights; TRL's are f32 and its matrix
products bf16 (autocast), which is what `GRPOConfig(bf16=True)` does by default.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from shapes import FAMILIES, SHAPES, config


def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith(field + ":"))


def trl_side(args):
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(args.threads)
    words = {"a": 0, "<eos>": 1, "<pad>": 2}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="a")),
                                        eos_token="<eos>", pad_token="<pad>")
    held = status("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(args.device)
    on_gpu = args.device != "cpu"
    bf16 = args.dtype == "bfloat16"
    parameters = sum(p.numel() for p in model.parameters())
    micro = args.micro_batch or args.rows
    accumulation = args.rows // micro
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(output_dir=folder, per_device_train_batch_size=micro,
                            gradient_accumulation_steps=accumulation, num_generations=args.rows,
                            max_completion_length=args.completion, bf16=bf16, use_cpu=not on_gpu, report_to=[])
        adapter = None
        if args.lora:
            from peft import LoraConfig
            adapter = LoraConfig(r=args.lora, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = GRPOTrainer(model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions),
                              args=config, train_dataset=Dataset.from_dict({"prompt": ["a"] * args.rows}),
                              processing_class=tokenizer, peft_config=adapter)
    model = trainer.model
    if args.checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    trainer.current_gradient_accumulation_steps = accumulation
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0)
    ids = torch.randint(0, SHAPES[args.shape]["vocab_size"], (args.rows, args.prompt + args.completion))
    ids = ids.to(args.device)
    advantages = torch.tensor([1.0, -1.0] * (args.rows // 2), device=args.device)
    for step in range(args.steps):
        start, processor = time.perf_counter(), time.process_time()
        for rows in torch.arange(args.rows).split(micro):
            prompt, completion = ids[rows].split([args.prompt, args.completion], dim=1)
            inputs = {"prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt),
                      "completion_ids": completion, "completion_mask": torch.ones_like(completion),
                      "advantages": advantages[rows],
                      "num_items_in_batch": torch.tensor(args.rows * args.completion, device=args.device)}
            with trainer.compute_loss_context_manager():
                loss = trainer._compute_loss(model, inputs)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        print(json.dumps({"step": step, "seconds": seconds, "processor_seconds": time.process_time() - processor,
                          "peak_mib": status("VmHWM"), "held_mib": held,
                          "parameters": parameters,
                          "tokens_per_second": args.rows * (args.prompt + args.completion) / seconds}), flush=True)


def gpu_mib():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(query, stdout=subprocess.PIPE, check=True, text=True).stdout)


def run(command, env, on_gpu):
    """The steps that a side reports; on a GPU with the memory that was taken there meanwhile."""
    before = gpu_mib() if on_gpu else 0
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    peak = [before]

    def watch():
        while process.poll() is None:
            peak.append(gpu_mib())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    if on_gpu:
        watcher.start()
    out, _ = process.communicate()
    if on_gpu:
        watcher.join()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    steps = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if on_gpu:
        for step in steps:
            step.update(peak_mib=max(peak), held_mib=before)
    return steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary")
    parser.add_argument("--trl", action="store_true", help="be TRL's side (used by the script itself)")
    parser.add_argument("--model", help="folder of the model (used by the script itself)")
    parser.add_argument("--family", default="qwen3", choices=FAMILIES)
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for machines that are busy")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="the first of them is not counted")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--completion", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpointing", type=int, default=1)
    parser.add_argument("--lora", type=int, default=0, help="rank of TRL's adapter, PEFT's (used by the script itself)")
    parser.add_argument("--shape", default="41.6M", choices=SHAPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--ours", nargs="*", default=["tokens=4096 checkpointing=1", "tokens=1024 checkpointing=0"])
    parser.add_argument("--theirs", nargs="*", default=["checkpointing=1", "checkpointing=0"])
    args = parser.parse_args()
    if args.trl:
        return trl_side(args)
    import torch
    from transformers import AutoModelForCausalLM

    env = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    sizes = {"rows": args.rows, "prompt": args.prompt, "completion": args.completion, "steps": args.steps,
             "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config(args.family, args.shape)).save_pretrained(folder)
        compare(args, env, sizes, folder)


def compare(args, env, sizes, folder):
    where = [f"model={folder}", f"device={args.device}", f"bf16={int(args.dtype == 'bfloat16')}"]
    sides = {}
    for settings in args.ours:
        command = [args.binary, *[f"{k}={v}" for k, v in sizes.items()], *where, "entropy=1", *settings.split()]
        sides[f"g2rpo {settings}"] = command
    for settings in args.theirs:
        command = [sys.executable, __file__, "--trl", "--model", folder, "--shape", args.shape, "--device", args.device,
                   "--dtype", args.dtype]
        for key, value in {**sizes, **dict(pair.split("=") for pair in settings.split())}.items():
            command += [f"--{key.replace('_', '-')}", str(value)]
        sides[f"TRL {settings}"] = command
    clock = "processor_seconds" if args.cpu_time else "seconds"
    results = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, command in sides.items():
            results[name].append(run(command, env, args.device != "cpu"))
            last = results[name][-1][-1]
            print(f"{name}: {last[clock]:.2f} s, {last['peak_mib'] - last['held_mib']} MiB", file=sys.stderr)
    print(f"{args.rows} sequences of {args.prompt} + {args.completion} tokens, {args.family}, {args.shape}, {args.dtype} on {args.device}, "
          f"{args.threads} threads, "
          f"best of {args.rounds * (args.steps - 1)} steps, {clock.replace('_', ' ')}")
    for name, runs in results.items():
        best = min(step[clock] for steps in runs for step in steps[1:])
        peak = max(steps[-1]["peak_mib"] for steps in runs)
        held = runs[0][-1]["held_mib"]
        tokens = args.rows * (args.prompt + args.completion) / best
        print(f"{name:40} {best:8.2f} s {tokens:9.0f} tokens/s {peak - held:7} MiB (process {peak} MiB)")


if __name__ == "__main__":
    main()
