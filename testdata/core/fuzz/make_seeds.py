"""Writes seed-1, seed-2 and seed-3 of every target: 300 bytes each, the SHA-256 chain of its name.

Python 3.11, standard library only: python make_seeds.py
The harness reads choices from bytes, so any bytes are an input; these start the search at streams of
full length. Other files in the folders are what fuzzing found.
"""

import hashlib
from pathlib import Path

for target in ("core_policy_loss", "core_advantages", "core_other"):
    for number in (1, 2, 3):
        block, data = f"{target} {number}".encode(), b""
        while len(data) < 300:
            block = hashlib.sha256(block).digest()
            data += block
        (Path(__file__).parent / target / f"seed-{number}").write_bytes(data[:300])
