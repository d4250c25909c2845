"""Math-Verify and g2rpo-verify on the same pairs, in turn, three rounds: verdicts per second of processor time.

    python -m pip install math-verify==0.9.0
    python benches/verify_maths.py [every-nth-pair]
"""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

from math_verify import parse, verify

logging.disable(logging.CRITICAL)
ROOT = Path(__file__).parent.parent
STEP = int(sys.argv[1]) if len(sys.argv) > 1 else 10


def pairs():
    for line in (ROOT / "testdata/verify/pairs.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = row["answer"]
        yield row["reference"], answer if row["form"] == "extraction" else f"\\boxed{{{answer}}}"


def judge(sample):
    for reference, response in sample:
        verify(parse(f"\\boxed{{{reference}}}"), parse(response))


def main():
    command = ["cargo", "bench", "--quiet", "--offline", "-p", "g2rpo-verify", "--bench", "verify_maths"]
    subprocess.run([*command, "--no-run"], cwd=ROOT, check=True)
    everything = list(pairs())
    judge(everything[::97])  # Parser tables and imports are loaded before the clock runs.
    ratios = []
    for round_ in range(3):
        sample = everything[round_::STEP]
        start = time.process_time()
        judge(sample)
        theirs = len(sample) / (time.process_time() - start)
        out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        ours = json.loads(out)
        ratios.append(ours["maths_per_s"] / theirs)
        print(f"round {round_}: Math-Verify {theirs:.0f}/s, g2rpo-verify {ours['maths_per_s']}/s, "
              f"ratio {ratios[-1]:.0f}; GSM8K {ours['gsm8k_per_s']}/s", flush=True)
    print(f"ratio: least {min(ratios):.0f}, greatest {max(ratios):.0f}")


if __name__ == "__main__":
    main()
