"""From what was measured to the rows of a table: plain numbers, as `--json` prints them."""

from __future__ import annotations

import statistics
from typing import Any

from harness.bench.floor import Conditions, compulsory, distance
from harness.bench.measure import Block, Measured
from harness.bench.presets import Preset
from harness.bench.rounds import paired_ratio


def rows(block: Block, preset: Preset) -> list[dict[str, Any]]:
    """One for every entry that was measured, the baseline first, with ratios to it."""
    baseline, *_ = block.entries.values()
    return [_row(measured, baseline, block, preset) for measured in block.entries.values()]


def _row(own: Measured, baseline: Measured, block: Block, preset: Preset) -> dict[str, Any]:
    seconds, base_seconds = _taken(block, own, "seconds"), _taken(block, baseline, "seconds")
    ratio, interval = paired_ratio(seconds, base_seconds)
    step = statistics.median(seconds)
    return {
        "arm": own.entry.arm,
        "time_ratio": ratio,
        "time_ratio_ci": interval,
        "saved_bytes_ratio": own.saved_bytes / baseline.saved_bytes,
        "peak_memory_ratio": own.peak_bytes / baseline.peak_bytes if own.peak_bytes and baseline.peak_bytes else None,
        **_floor(own, baseline, ratio, statistics.median(base_seconds), block, preset),
        **_cpu_ratio(own, baseline, block),
        "kernels": own.kernels,
        "compiled": own.entry.compiled,
        "step_seconds": step,
        "tokens_per_second": preset.tokens / step,
        "saved_bytes": own.saved_bytes,
        "peak_bytes": own.peak_bytes,
        "parameters": own.parameters,
        "compile_seconds": own.compile_seconds,
        "seconds": seconds,
    }


def _taken(block: Block, one: Measured, what: str) -> list[float]:
    return [getattr(visit, what) for visit in block.rounds.visits[one.entry.name]]


def _cpu_ratio(own: Measured, baseline: Measured, block: Block) -> dict[str, Any]:
    """Of the processor time of all threads; nothing where a GPU does the work."""
    if block.device == "cuda":
        return {"cpu_time_ratio": None, "cpu_time_ratio_ci": None}
    ratio, interval = paired_ratio(_taken(block, own, "cpu_seconds"), _taken(block, baseline, "cpu_seconds"))
    return {"cpu_time_ratio": ratio, "cpu_time_ratio_ci": interval}


def _floor(
    own: Measured, baseline: Measured, ratio: float, base_seconds: float, block: Block, preset: Preset
) -> dict[str, Any]:
    """Of types that have a fused form; of the baseline, whose distance is none, the ratio alone."""
    keys = ("floor_ratio", "connection_bytes", "connection_flops", "connection_seconds", "achieved_bandwidth")
    if own is baseline:
        return {**dict.fromkeys(keys), "floor_ratio": 1.0}
    if compulsory(own.entry.connection, preset.model.width) is None:
        return dict.fromkeys(keys)
    at = Conditions(
        dim=preset.model.width,
        sublayers=preset.model.sublayers,
        tokens=preset.tokens,
        word=2 if preset.precision == "bf16" else 4,
        bandwidth=block.bandwidth,
        baseline_seconds=base_seconds,
    )
    found = distance(own.entry.connection, baseline.entry.connection, ratio, at)
    values = (found.floor_ratio, found.bytes, found.flops, found.seconds, found.bandwidth)
    return dict(zip(keys, values, strict=True))
