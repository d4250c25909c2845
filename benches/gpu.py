"""Everything that is to be known of a GPU, with one command: first whether it computes the right numbers,
then how fast.

    cargo build --release -p g2rpo-benches --bins
    python benches/gpu.py target/release

The programs may be built on another machine and carried; the GPU's machine then needs no Rust, but the torch
2.11.0 of the Python package index, whose libraries they load, nvidia-smi, and for the comparisons transformers
5.23.0 and trl 1.16.0: without the former nothing is timed, without the latter the learner alone. No
network: all models are random.

In order: `device_check` (against f32 on the CPU, CUDA graphs and flash attention on and off, learner, out of
memory); `generate.py` for the shapes of Qwen3-0.6B and 1.7B in bf16, with a run without graphs and one without
flash attention for the smaller; `learner.py` at 4096 tokens. Nothing is timed if a check fails, unless told
to. `--only` and `--shapes` cut it into pieces. With `--device cpu --shapes smoke` it proves itself on a machine
without a GPU.
"""
import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="*", default=["0.6B", "1.7B"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=["check", "generate", "learner"],
                        choices=["check", "generate", "learner"])
    parser.add_argument("--keep-going", action="store_true", help="time it even if a check fails")
    parser.add_argument("--out", type=Path, help="also write everything to this file")
    args = parser.parse_args()
    out = args.out.open("w") if args.out else None

    def say(text):
        for file in filter(None, [sys.stdout, out]):
            print(text, end="", file=file, flush=True)

    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if "OMP_NUM_THREADS" not in env:
        env["OMP_NUM_THREADS"] = str(args.threads)
    torch = importlib.util.find_spec("torch")
    if torch and args.device != "cpu":
        folder = Path(torch.submodule_search_locations[0])
        paths = [folder / "lib", folder.parent / "nvidia/cu13/lib", env.get("LD_LIBRARY_PATH", "")]
        env["LD_LIBRARY_PATH"] = ":".join(str(path) for path in paths if str(path) not in ("", "."))

    def run(*command):
        say(f"\n$ {' '.join(map(str, command))}\n")
        start = time.monotonic()
        process = subprocess.Popen(list(map(str, command)), env=env, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        for line in process.stdout:
            say(line)
        code = process.wait()
        say(f"[{time.monotonic() - start:.0f} s, exit status {code}]\n")
        return code == 0

    if args.device != "cpu":
        run("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv")
    good = True
    if "check" in args.only:
        good = run(args.programs / "device_check", args.device)
        if not good and not args.keep_going:
            sys.exit("the device computes something else: nothing was timed")
    has = {name: importlib.util.find_spec(name) is not None for name in ("transformers", "trl")}
    for name in (name for name, there in has.items() if not there):
        say(f"\nthere is no {name} to compare with\n")
    where = ["--device", args.device, "--dtype", "bfloat16", "--threads", args.threads]
    if "generate" in args.only and has["transformers"]:
        for i, shape in enumerate(args.shapes):
            for options in [[], ["no-graphs"], ["no-flash"]][:3 if i == 0 else 1]:
                good &= run(sys.executable, HERE / "generate.py", args.programs / "generate", "--shape", shape,
                            "--repetitions", args.repetitions, *where, "--options", *options)
    if "learner" in args.only and has["transformers"]:
        for shape in args.shapes:
            for rows, prompt, completion in [(8, 256, 256), (2, 512, 1536)]:
                if shape == "smoke":
                    rows, prompt, completion = 4, 6, 10
                good &= run(sys.executable, HERE / "learner.py", "--binary", args.programs / "learner_step",
                            "--shape", shape, "--rows", rows, "--prompt", prompt, "--completion", completion,
                            "--rounds", 1, *where, "--ours", "tokens=4096 checkpointing=1",
                            "tokens=4096 checkpointing=0", "--theirs",
                            *(["checkpointing=1", "checkpointing=0"] if has["trl"] else []))
    sys.exit(0 if good else "something failed: see above")


main()
