"""One table, as `compare` makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.compare.results import NOTHING, PLAIN, Arm, ArmResult, Comparison, Sources, View, Wanted
from harness.compare.rows import comparisons
from harness.tracking import Record


def study(rows: list[ArmResult], baseline: str = "residual", unit: str = "nats per token", **others: Any) -> Comparison:
    return Comparison(baseline=baseline, unit=unit, rows=rows, **others)


def compared(
    wanted: Iterable[Wanted],
    records: Iterable[Record],
    baseline: str,
    reported: Mapping[str, Mapping[str, float]] | None = None,
    view: View = PLAIN,
    sources: Sources = NOTHING,
    **settings: dict[str, Any],
) -> Comparison:
    """The table of arms that all have one baseline; `settings` are what an arm has besides."""
    cells = list(wanted)
    names = dict.fromkeys([baseline, *(cell.arm for cell in cells)])
    arms = {name: Arm(**{"baseline": baseline, "unit": "nats per token", **settings.get(name, {})}) for name in names}
    (table,) = comparisons(cells, records, arms, view, sources, reported)
    return table


def arm_results(
    wanted: Iterable[Wanted],
    records: Iterable[Record],
    baseline: str,
    reported: Mapping[str, Mapping[str, float]] | None = None,
    **others: Any,
) -> list[ArmResult]:
    return compared(wanted, records, baseline, reported, **others).rows
