"""What a gate keeps of a cell: read from its directory, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.gate.baseline import Cost, Environment, Golden, SeedRun
from harness.run.celldir import CellDir, read_json

LOSS, BITS = "validation/loss", "validation/bits_per_byte"


def seed_run(cell: CellDir) -> SeedRun:
    """What is kept of a run, whatever became of it."""
    result, failure = cell.result(), cell.status().get("failure")
    if result is None:
        why = f"{failure['class']}: {failure['message']}" if failure else "did not end"
        return SeedRun(loss=None, failure=why)
    last = cell.journal.last("diagnostics")
    shares = [value for name, value in (last or {"values": {}})["values"].items() if name.startswith("stability/")]
    metrics, digests = result["metrics"], result["digests"]
    return SeedRun(
        loss=metrics[LOSS],
        bits_per_byte=metrics.get(BITS),
        spikes=max(shares, default=None),
        batches=digests["batches"][:16],
        start=digests["shared_weights"][:16],
    )


def golden_run(cell: CellDir) -> Golden:
    losses = tuple(line["values"]["train/loss"] for line in cell.journal.lines() if line["kind"] == "train")
    run, result = seed_run(cell), cell.result()
    held_out = result["digests"]["validation"][:16] if result else None
    return Golden(
        losses=losses,
        validation=run.loss,
        failure=run.failure,
        batches=run.batches,
        start=run.start,
        held_out=held_out,
    )


def cost_of(cell: CellDir, row: Mapping[str, Any] | None) -> Cost | None:
    """None of a run that failed before its costs were known."""
    result = cell.result()
    if result is None:
        return None
    metrics = result["metrics"]
    interval = row.get("throughput_ci") if row else None
    return Cost(
        parameters=int(metrics["cost/parameters"]),
        training_flops=int(metrics["cost/training_flops"]),
        saved_bytes=int(metrics["cost/saved_activation_bytes"]),
        peak_bytes=row["peak_bytes"] if row else None,
        throughput=row["throughput_ratio"] if row else None,
        interval=(interval[0], interval[1]) if interval else None,
    )


def environment_of(cell: CellDir) -> Environment:
    """What bit-equality depends on, of the machine that trained the cell. Empty where the run never began."""
    found = read_json(cell.path / "environment.json")
    if found is None:
        return {}
    config = read_json(cell.path / "config.json")
    if found["gpus"] and config["train"]["device"] != "cpu":
        return {"torch": found["torch"], "cuda": str(found["cuda"]), "gpu": found["gpus"][0]}
    keys = {"torch": "torch", "cpu": "cpu", "instructions": "cpu_capability", "threads": "threads"}
    return {name: str(found[key]) for name, key in keys.items()}


def digests_of(cell: CellDir) -> dict[str, str]:
    """Of the data that a cell was trained on. Empty where the run never began."""
    return dict((read_json(cell.path / "config.json") or {}).get("digests", {}))
