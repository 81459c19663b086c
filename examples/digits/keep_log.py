"""Keep a demo's rollouts as one small file, for `rankreward score`, `replay` and the documentation.

    python examples/digits/demo.py --out runs/demo
    python examples/digits/keep_log.py runs/demo examples/logs/digits.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
from transformers import AutoTokenizer

from policy import START


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the demo's folder")
    parser.add_argument("log", type=Path, help="the file to write")
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, separators=(",", ":")) for row in rollouts(args.run)]
    text = "".join(line + "\n" for line in lines).encode()
    args.log.write_bytes(gzip.compress(text, 9, mtime=0))  # the same run gives the same bytes
    print(f"{len(lines)} rollouts, {args.log.stat().st_size / 1e6:.2f} MB: {args.log}")


def rollouts(run: Path) -> Iterator[dict[str, Any]]:
    """What the trainer's completions tables hold, without the prompts, and the lengths."""
    tokenizer = AutoTokenizer.from_pretrained(START)
    for table in sorted((run / "trainer" / "completions").glob("*.parquet")):
        for row in pyarrow.parquet.read_table(table).to_pylist():
            text = row["completion"][0]["content"]
            yield {
                "step": row["step"],
                "group": row["group"],
                "reference": row["reference"],
                "completion": text,
                "tokens": len(tokenizer(text, add_special_tokens=False).input_ids),
            }


if __name__ == "__main__":
    main()
