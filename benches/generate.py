"""Generation side by side with transformers, in one run on one machine.

    cargo build --release -p g2rpo-benches --bin generate
    OMP_NUM_THREADS=2 python benches/generate.py target/release/generate

Needs torch 2.11.0 and transformers 5.23.0, and no network: the checkpoint is random. Cases
alternate between the two sides; the table shows the median of the repetitions. With --cpu-time
and --threads 1 it shows processor seconds instead, for machines that are busy with other work.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

SHAPES = {
    "41.6M": dict(vocab_size=32000, hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
                  num_attention_heads=8, num_key_value_heads=4, head_dim=64),
    # A policy of the size that `gsm8k_tiny` trains.
    "tiny": dict(vocab_size=512, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=2, head_dim=32),
    "smoke": dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=16),
    "0.6B": dict(vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
                 num_attention_heads=16, num_key_value_heads=8, head_dim=128),
    "1.7B": dict(vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28,
                 num_attention_heads=16, num_key_value_heads=8, head_dim=128),
}
# (batch, prompt, new tokens, rollouts per prompt)
CASES = {
    "41.6M": [(1, 64, 64, 1), (16, 64, 64, 1), (64, 64, 64, 1), (16, 512, 64, 8)],
    "tiny": [(256, 48, 100, 8)],
    "0.6B": [(1, 64, 256, 1), (64, 64, 256, 1), (256, 64, 256, 1), (256, 512, 256, 8)],
    "1.7B": [(1, 64, 256, 1), (64, 64, 256, 1), (256, 64, 256, 1), (256, 512, 256, 8)],
    # Proves that the script runs.
    "smoke": [(1, 8, 6, 1), (8, 8, 6, 4)],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--shape", default="41.6M", choices=SHAPES)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--options", nargs="*", default=[], help="for our side: no-graphs, no-flash")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPES[args.shape], tie_word_embeddings=True, max_position_embeddings=4096,
                         bos_token_id=None, eos_token_id=None, pad_token_id=None, dtype=args.dtype)
    model = Qwen3ForCausalLM(config).eval().to(getattr(torch, args.dtype))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model.to(args.device)
        ours = subprocess.Popen([args.program, folder, str(args.threads), args.device, args.dtype,
                                 *args.options],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert ours.stdout.readline() == "ready\n"

        def cpu_seconds():
            fields = Path(f"/proc/{ours.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        def ask(kind, case):
            before = cpu_seconds()
            print(kind, *case, file=ours.stdin, flush=True)
            seconds = float(ours.stdout.readline())
            return cpu_seconds() - before if args.cpu_time else seconds

        clock = time.process_time if args.cpu_time else time.perf_counter

        def transformers(case):
            batch, prompt, new, group = case
            ids = torch.randint(0, config.vocab_size, (batch // group, prompt)).repeat_interleave(group, 0)
            ids = ids.to(args.device)
            if args.device != "cpu":
                torch.cuda.synchronize()
            start = clock()
            with torch.inference_mode():
                out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new,
                                     do_sample=True, top_k=0, top_p=1.0, temperature=1.0)
            if args.device != "cpu":
                torch.cuda.synchronize()
            seconds = clock() - start
            assert out.shape == (batch, prompt + new)
            return seconds

        print(f"{args.shape}, {args.dtype}, {args.device}, {args.threads} threads,"
              f" {'processor' if args.cpu_time else 'wall-clock'} seconds,"
              f" medians of {args.repetitions} (load {os.getloadavg()[0]:.1f}) {' '.join(args.options)}\n")
        print("| batch | prompt | new | per prompt | transformers s | ours s | ratio | ours tok/s | matrix products s | bandwidth s |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for case in CASES[args.shape]:
            # The first of each is a warm-up.
            times = [(transformers(case), ask("sample", case), ask("floor", case),
                      ask("bandwidth", case))
                     for _ in range(args.repetitions + 1)][1:]
            theirs, mine, floor, bandwidth = (statistics.median(column) for column in zip(*times))
            batch, prompt, new, group = case
            print(f"| {batch} | {prompt} | {new} | {group} | {theirs:.3f} | {mine:.3f} |"
                  f" {theirs / mine:.2f} | {batch * new / mine:.0f} | {floor:.3f} | {bandwidth:.3f} |", flush=True)
        ours.stdin.close()
        ours.wait()


main()
