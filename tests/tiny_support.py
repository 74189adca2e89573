"""A suite of 2 arms x 2 seeds, seconds each."""

from __future__ import annotations

import random
from pathlib import Path

ROOT = Path(__file__).parents[1]

TINY = """\
name: tiny
baseline: residual
seeds: [1, 2]
arms:
  residual: {connection: residual}
  dhc-n2: {connection: {type: hyper, rate: 2}}
model: {layers: 2, width: 16, heads: 2, context: 64}
data: {corpus: text, files: [corpus.txt]}
train: {steps: 12, batch_size: 2, lr: 1e-3, warmup_steps: 2, validate_every: 6, validation_tokens: 256,
        log_every: 3, checkpoint_every: 4}
evaluation: {limit: 4}
"""


def fixed_text(words: int = 60_000) -> bytes:
    """English that no change of the code changes, and so no loss of a test: words of the license, drawn anew."""
    known = (ROOT / "LICENSE").read_text().split()
    drawn = random.Random(1).choices(known, k=words)
    return "\n".join(" ".join(drawn[at : at + 12]) for at in range(0, words, 12)).encode()
