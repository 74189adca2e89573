"""A baseline made up by hand, and what a gate has to say about it."""

from __future__ import annotations

from typing import Any

from harness.gate.baseline import ArmBaseline, Baseline, Cost, Golden, SeedRun

ENVIRONMENT = {"torch": "2.13.0+cpu", "cpu": "some", "instructions": "AVX512", "threads": "1"}
SETTINGS: dict[str, dict[str, Any]] = {
    "connection": {"type": "residual"},
    "model": {"layers": 2, "context": 64},
    "train": {"steps": 4, "batch_size": 2, "lr": 1e-3},
}
GOLDEN = Golden(losses=(5.0, 4.5, 4.25, 4.125), validation=4.0, batches="b", start="s", held_out="h")
COST = Cost(parameters=100, training_flops=1000, saved_bytes=10_000, peak_bytes=None, throughput=0.8,
            interval=(0.79, 0.81))  # fmt: skip


def seed_run(loss: float | None = 3.0, **changes: Any) -> SeedRun:
    return SeedRun(**{"loss": loss, "bits_per_byte": 4.3, "spikes": 0.0, "batches": "b", "start": "s", **changes})


def arm_baseline(**changes: Any) -> ArmBaseline:
    seeds = {str(seed): seed_run(3.0 + seed / 100) for seed in (1, 2, 3)}
    return ArmBaseline(**{"settings": SETTINGS, "golden": GOLDEN, "cost": COST, "seeds": seeds, **changes})


def baseline(**changes: Any) -> Baseline:
    return Baseline(
        **{
            "suite": "tiny", "suite_digest": "0123", "reason": "the first", "created": "2026-11-27T08:00:00+00:00",
            "commit": "abc", "dirty": False, "metric": "validation/loss", "unit": "nats per token",
            "environment": ENVIRONMENT, "digests": {"data": "d", "valid": "v", "tokenizer": "t"},
            "versions": {"torch": "2.13.0"}, "arms": {"residual": arm_baseline()}, **changes,
        }
    )  # fmt: skip
