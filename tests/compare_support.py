"""One table, as `compare` makes it."""

from __future__ import annotations

from harness.compare.results import ArmResult, Comparison


def study(rows: list[ArmResult], baseline: str = "residual", unit: str = "nats per token") -> Comparison:
    return Comparison(baseline=baseline, unit=unit, rows=rows)
