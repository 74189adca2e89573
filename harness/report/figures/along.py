"""Held-out loss, and its paired difference to the baseline, against what was spent: numbers, nothing drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.compare.statistics import mean_interval
from harness.report.facts import Budget, Study

Spent = Literal["tokens", "flops", "time"]
SPENT: dict[Spent, str] = {
    "tokens": "training tokens",
    "flops": "training FLOPs",
    "time": "training time, in whole runs of the baseline",
}


@dataclass(frozen=True)
class Point:
    """A mean over `n` seeds, with a band."""

    x: float
    mean: float
    low: float | None
    high: float | None
    n: int


def scale(budget: Budget | None, spent: Spent, last: int) -> float | None:
    """How much of a budget one step takes; None where it was not recorded."""
    total = getattr(budget, spent) if budget else None
    return None if total is None or last <= 0 else total / last


def loss_curve(seeds: Mapping[int, Mapping[int, float]], per_step: float) -> list[Point]:
    """Mean and range over the seeds, at the steps that all have."""
    points = []
    for step in common_steps(seeds):
        values = [curve[step] for curve in seeds.values()]
        points.append(Point(step * per_step, sum(values) / len(values), min(values), max(values), len(values)))
    return points


def delta_curve(
    arm: Mapping[int, Mapping[int, float]],
    baseline: Mapping[int, Mapping[int, float]],
    per_step: float,
    baseline_per_step: float,
) -> list[Point]:
    """arm − baseline where both have spent the same, over the seeds that both have, with the 95% t interval.

    Each curve is read between its recorded points by straight lines and nowhere outside of them. `per_step` is what a
    step spends.
    """
    seeds = [seed for seed in sorted(arm.keys() & baseline.keys()) if arm[seed] and baseline[seed]]
    if not seeds:
        return []
    mine = {seed: _scaled(arm[seed], per_step) for seed in seeds}
    theirs = {seed: _scaled(baseline[seed], baseline_per_step) for seed in seeds}
    every = [*mine.values(), *theirs.values()]
    start, end = max(x[0] for x, _ in every), min(x[-1] for x, _ in every)
    # Rounding must not lose a point that both have.
    places = {float(x) for x in mine[seeds[0]][0] if start * (1 - 1e-9) <= x <= end * (1 + 1e-9)}
    if end >= start and not any(np.isclose(end, x) for x in places):
        places.add(float(end))
    points = []
    for x in sorted(places):
        found = mean_interval([float(np.interp(x, *mine[seed]) - np.interp(x, *theirs[seed])) for seed in seeds])
        low, high = found.interval or (None, None)
        points.append(Point(x, found.mean, low, high, found.n))
    return points


def _scaled(curve: Mapping[int, float], per_step: float) -> tuple[np.ndarray, np.ndarray]:
    steps = sorted(curve)
    return np.array(steps, dtype=np.float64) * per_step, np.array([curve[step] for step in steps])


def common_steps(seeds: Mapping[int, Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(curve) for curve in seeds.values()))) if seeds else []


def _last(seeds: Mapping[int, Mapping[int, float]]) -> int:
    return max((max(curve, default=0) for curve in seeds.values()), default=0)


def losses_along(study: Study, spent: Spent) -> dict[str, list[Point]]:
    """Of every arm whose budget is known."""
    found = {}
    for arm, seeds in study.curves.items():
        per_step = scale(study.budgets.get(arm), spent, _last(seeds))
        points = loss_curve(seeds, per_step) if per_step is not None else []
        if points:
            found[arm] = points
    return found


def deltas_along(study: Study, spent: Spent) -> dict[str, list[Point]]:
    """Of every arm but the baseline, over the seeds that are pairs in the table (a rung of the ladder, with other
    batches, has none), as far as both budgets are known."""
    base = study.curves.get(study.baseline, {})
    pairs = {row.arm: row.pairing.seeds for row in study.table.rows}
    theirs = scale(study.budgets.get(study.baseline), spent, _last(base))
    found: dict[str, list[Point]] = {}
    for arm, seeds in study.curves.items():
        mine = scale(study.budgets.get(arm), spent, _last(seeds))
        if arm == study.baseline or mine is None or theirs is None:
            continue
        paired = {seed: seeds[seed] for seed in pairs.get(arm, ()) if seed in seeds}
        if points := delta_curve(paired, base, mine, theirs):
            found[arm] = points
    return found
