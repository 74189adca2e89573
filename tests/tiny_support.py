"""A suite of 2 arms x 2 seeds, seconds each."""

from __future__ import annotations

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
