"""Files of documents, and a suite that learns from them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.data.documents import SIDES, Corpus

TEXTS = [f"document {number}\r\n\tnaïve 漢字 🙂 \0 ends\n" for number in range(30)]

SUITE = """\
name: mine
baseline: residual
seeds: [1]
arms: {residual: {connection: residual}}
model: {layers: 2, width: 16, heads: 2, context: 8}
data: %s
train: {steps: 2, batch_size: 2, lr: 1e-3, warmup_steps: 1, validate_every: 2, validation_tokens: 8}
evaluation: {limit: 4}
"""


def contents(corpus: Corpus) -> list[str]:
    return sorted(document.data.decode() for side in SIDES for document in getattr(corpus, side))


def write_rows(path: Path, texts: list[Any] = TEXTS, field: str = "text") -> None:
    """The texts in a file of the kind that the path's ending names, beside other fields."""
    rows = [{"id": number, field: text, "more": [1, {"a": None}]} for number, text in enumerate(texts)]
    lines = "".join(json.dumps(row, ensure_ascii=number % 2 == 0) + "\n" for number, row in enumerate(rows)).encode()
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines))
    elif path.suffix == ".jsonl":
        path.write_bytes(lines)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        pq.write_table(
            pa.table({"id": list(range(len(texts))), field: texts, "vectors": [[0.5, 1.0]] * len(texts)}), path
        )
