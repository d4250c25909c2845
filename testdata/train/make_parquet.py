"""problems.parquet, conversations.parquet and files named by their codec, as data sets on the hub have them.

    python make_parquet.py

Written by pyarrow (version in the files' metadata). `check` compares what a run leaves behind:

    python make_parquet.py check RUN/samples.jsonl RUN/samples.parquet
"""
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent


def check(lines, file):
    rows = [json.loads(line) for line in open(lines)]
    table = pq.read_table(file)
    assert table.to_pylist() == rows, "the rows differ"
    assert table.column_names == list(rows[0]), table.column_names
    print(len(rows), "rows are the same")


def make():
    # Columns of other names, a dictionary, missing values, lists, two row groups, Snappy.
    n = 7
    table = pa.table(
        {
            "task": [f"What is {i} + {i}?" for i in range(n)],
            "final": pa.array([2 * i for i in range(n)], pa.int64()),
            "worked": [None if i == 3 else f"It is {2 * i}." for i in range(n)],
            "subject": pa.array(["sums", "doubles"] * 3 + ["sums"]).dictionary_encode(),
            "hints": [["Add.", f"Double {i}."] if i % 2 else [] for i in range(n)],
            "hard": pa.array([i / 4 for i in range(n)], pa.float32()),
            "unused": pa.array([b"\x00\xff"] * n, pa.binary()),
        }
    )
    pq.write_table(table, HERE / "problems.parquet", compression="snappy", row_group_size=4)
    # Prompts as conversations, Zstandard.
    message = pa.struct([("content", pa.string()), ("role", pa.string())])
    table = pa.table(
        {
            "prompt": pa.array([[{"content": f"{i} times 2?", "role": "user"}] for i in range(3)], pa.list_(message)),
            "answer": [str(2 * i) for i in range(3)],
        }
    )
    pq.write_table(table, HERE / "conversations.parquet", compression="zstd")
    # The same under every other codec.
    for codec in ["gzip", "lz4", "brotli"]:
        pq.write_table(table, HERE / f"{codec}.parquet", compression=codec)


check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else make()
