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
from transformers import AutoModelForCausalLM

from shapes import FAMILIES, SHAPES, config as config_of

# (batch, prompt, new tokens, rollouts per prompt)
CASES = {
    "41.6M": [(1, 64, 64, 1), (16, 64, 64, 1), (64, 64, 64, 1), (16, 512, 64, 8)],
    "tiny": [(16, 48, 100, 1), (256, 48, 100, 8)],
    "0.6B": [(1, 64, 256, 1), (64, 64, 256, 1), (256, 64, 256, 1), (256, 512, 256, 8)],
    "1.7B": [(1, 64, 256, 1), (64, 64, 256, 1), (256, 64, 256, 1), (256, 512, 256, 8)],
    # Proves that the script runs.
    "smoke": [(1, 8, 6, 1), (8, 8, 6, 4)],
}
# What `generate` calls sampling in other ways.
FILTERS = ["sample", "top-k", "top-p", "min-p", "penalty", "all-filters"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--shape", default="41.6M", choices=SHAPES)
    parser.add_argument("--family", default="qwen3", choices=FAMILIES)
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="only the cases of these batches")
    parser.add_argument("--others", nargs="*", default=[], help="further programs, such as an older build")
    parser.add_argument("--filters", action="store_true", help="time top-k, top-p and others beside plain sampling instead")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--options", nargs="*", default=[], help="for our side: no-graphs, no-flash")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = config_of(args.family, args.shape)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model.to(args.device)
        programs = [Program([program, folder, str(args.threads), args.device, args.dtype, *args.options], args.cpu_time)
                    for program in [args.program, *args.others]]
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

        print(f"{args.family}, {args.shape}, {args.dtype}, {args.device}, {args.threads} threads,"
              f" {'processor' if args.cpu_time else 'wall-clock'} seconds,"
              f" medians of {args.repetitions} (load {os.getloadavg()[0]:.1f}) {' '.join(args.options)}\n")
        cases = [case for case in CASES.get(args.shape, []) if not args.batch or case[0] in args.batch]
        ours = programs[0].ask
        if args.filters:
            print("| batch | prompt | new | per prompt |", " | ".join(FILTERS), "| (to sample)")
            for case in cases:
                times = medians(args.repetitions, *[lambda kind=kind: ours(kind, case) for kind in FILTERS])
                shown = [f"{seconds:.3f} ({seconds / times[0]:.2f})" for seconds in times]
                print("|", " | ".join([*map(str, case), *shown]), "|", flush=True)
            return
        others = "".join(f" {program} s |" for program in args.others)
        print("| batch | prompt | new | per prompt | transformers s | ours s | ratio | ours tok/s |"
              f" matrix products s | bandwidth s |{others}")
        print("|---" * (10 + len(args.others)) + "|")
        for case in cases:
            theirs, mine, floor, bandwidth, *rest = medians(
                args.repetitions, lambda: transformers(case), lambda: ours("sample", case), lambda: ours("floor", case),
                lambda: ours("bandwidth", case),
                *[lambda program=program: program.ask("sample", case) for program in programs[1:]])
            batch, prompt, new, group = case
            print(f"| {batch} | {prompt} | {new} | {group} | {theirs:.3f} | {mine:.3f} |"
                  f" {theirs / mine:.2f} | {batch * new / mine:.0f} | {floor:.3f} | {bandwidth:.3f} |",
                  "".join(f" {seconds:.3f} |" for seconds in rest), flush=True)


def medians(repetitions, *sides):
    """Median of what each side took, all sides in turns. The first round is a warm-up."""
    rounds = [[side() for side in sides] for _ in range(repetitions + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:])]


class Program:
    """A process of ours that answers cases; it ends when its input does, with this script."""

    def __init__(self, command, cpu_time):
        self.cpu_time = cpu_time
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, kind, case):
        before = self.cpu_seconds()
        print(kind, *case, file=self.process.stdin, flush=True)
        seconds = float(self.process.stdout.readline())
        return self.cpu_seconds() - before if self.cpu_time else seconds


main()
