"""One picture of a suite: loss curves, and the difference to the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.compare.match import LOSS
from harness.compare.results import ArmResult, Comparison
from harness.compare.statistics import Estimate, mean_interval, paired_difference
from harness.tracking import Tracker

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
DASHES = ("-", "--", ":", "-.")

Curves = dict[str, dict[int, dict[int, float]]]
"""arm -> seed -> step -> value"""


def loss_curves(tracker: Tracker, rows: Sequence[ArmResult], metric: str = LOSS) -> Curves:
    """The recorded curve of every finished cell."""
    return {
        row.arm: {seed: dict(tracker.history(run, metric)) for seed, run in row.runs.items()}
        for row in rows
        if row.runs
    }


def plot_curves(tables: Sequence[tuple[Comparison, Curves]], title: str, path: Path) -> None:
    """A row for every table. Left: held-out loss, mean over seeds. Right: paired Δ with its 95% interval, over
    training; where there are more arms than colours, at the end of it, arm by arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    few = all(len(curves) <= len(COLOURS) for _, curves in tables)
    heights = [4.2 if few else 1.4 + 0.27 * len(curves) for _, curves in tables]
    figure = Figure(figsize=(11 if few else 13, sum(heights)), layout="constrained")
    rows = figure.subplots(len(tables), 2, squeeze=False, height_ratios=heights)
    for (table, curves), (left, right) in zip(tables, rows, strict=True):
        _draw_losses(left, curves, title, table.unit, few)
        draw = _draw_deltas if few else _draw_last_deltas
        draw(right, _paired(table, curves), curves.get(table.baseline, {}), table)
        for axes in (left, right):
            axes.grid(alpha=0.25)
            if few and axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False)
        if not few:
            left.legend(frameon=False, fontsize=8, ncols=2)
    FigureCanvasAgg(figure).print_png(str(path))


def _steps(seeds: dict[int, dict[int, float]]) -> list[int]:
    """The steps that all seeds have."""
    return sorted(set.intersection(*(set(curve) for curve in seeds.values()))) if seeds else []


def _draw_losses(axes: Any, curves: Curves, title: str, unit: str, band: bool) -> None:
    lasts = []
    for number, (arm, seeds) in enumerate(curves.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        steps = _steps(seeds)
        losses = [[curve[step] for curve in seeds.values()] for step in steps]
        means = [mean_interval(values).mean for values in losses]
        axes.plot(steps, means, color=colour, linestyle=dash, label=arm, marker="o", markersize=3)
        if band:
            axes.fill_between(steps, [min(v) for v in losses], [max(v) for v in losses], color=colour, alpha=0.12, lw=0)
        lasts += [(means[0], means[-1])] if means else []
    axes.set(
        xlabel="step",
        ylabel=f"held-out loss, {unit}",
        title=f"{title}: loss" + (" (band: range of seeds)" if band else ""),
    )
    if not band and lasts:  # one arm that does not learn must not press the others together
        low = min(last for _, last in lasts)
        middle, first = statistics.median(last for _, last in lasts), statistics.median(first for first, _ in lasts)
        if first > low:
            axes.set_ylim(low - 0.1 * (first - low), first + 0.3 * (first - middle))


def _paired(table: Comparison, curves: Curves) -> Curves:
    """The arms' curves of the seeds that are pairs with the baseline's in the table: a rung of the ladder, with other
    batches, has none."""
    pairs = {row.arm: row.pairing.seeds for row in table.rows}
    return {
        arm: {seed: curve for seed, curve in seeds.items() if seed in pairs.get(arm, ())}
        for arm, seeds in curves.items()
    }


def _delta_at(step: int, seeds: dict[int, dict[int, float]], base: dict[int, dict[int, float]]) -> Estimate | None:
    return paired_difference(
        {seed: curve[step] for seed, curve in seeds.items()},
        {seed: curve[step] for seed, curve in base.items() if step in curve},
    )


def _draw_deltas(axes: Any, curves: Curves, base: dict[int, dict[int, float]], table: Comparison) -> None:
    for number, (arm, seeds) in enumerate(curves.items()):
        deltas = {step: _delta_at(step, seeds, base) for step in _steps(seeds)}
        known = {step: delta for step, delta in deltas.items() if delta is not None}
        if not known:
            continue
        middle = [delta.mean for delta in known.values()]
        half = [_half(delta) for delta in known.values()]
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(list(known), middle, yerr=half, color=colour, label=arm, marker="o", markersize=3, capsize=2)
    axes.axhline(0.0, color=COLOURS[0], lw=1)
    axes.set(xlabel="step", ylabel=f"Δ to {table.baseline}, {table.unit}", title="paired Δ (bars: 95% t interval)")


def _draw_last_deltas(axes: Any, curves: Curves, base: dict[int, dict[int, float]], table: Comparison) -> None:
    """One line for each arm, the best on top. What reaches beyond the scale of most is cut and its number written."""
    deltas: dict[str, Estimate] = {}
    for arm, seeds in curves.items():
        steps = _steps(seeds)
        delta = _delta_at(steps[-1], seeds, base) if steps else None
        if delta is not None:
            deltas[arm] = delta
    order = sorted(deltas, key=lambda arm: deltas[arm].mean, reverse=True)
    for place, arm in enumerate(order):
        delta = deltas[arm]
        axes.errorbar(delta.mean, place, xerr=_half(delta), color=COLOURS[1], marker="o", markersize=4, capsize=2)
        axes.text(1.01, place, f"{delta.mean:+.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.axvline(0.0, color=COLOURS[0], lw=1)
    axes.set_yticks(range(len(order)), order)
    if order:
        ends = sorted(max(abs(deltas[arm].mean) + _half(deltas[arm]), 1e-6) for arm in order)
        reach = min(ends[-1], 2.5 * statistics.median(ends)) * 1.05
        axes.set_xlim(-reach, reach)
    title = "paired Δ (bars: 95% t interval)"
    axes.set(xlabel=f"Δ to {table.baseline} at the end, {table.unit}", title=title)


def _half(delta: Estimate) -> float:
    return (delta.interval[1] - delta.interval[0]) / 2 if delta.interval else 0.0


def plot_expert_loads(loads: dict[str, list[list[list[float]]]], title: str, path: Path) -> None:
    """`loads`: arm -> cell -> layer -> shares. The experts of a layer have no order of their own: they are shown from
    the busiest to the idlest, mean over layers and seeds, with the range of layers' means."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (arm, cells) in enumerate(loads.items()):
        ranked = [[sorted((share * len(layer) for share in layer), reverse=True) for layer in cell] for cell in cells]
        layers = [[statistics.mean(rank) for rank in zip(*layer, strict=True)] for layer in zip(*ranked, strict=True)]
        means = [statistics.mean(rank) for rank in zip(*layers, strict=True)]
        places, colour = range(1, len(means) + 1), COLOURS[number % len(COLOURS)]
        dash = DASHES[number // len(COLOURS) % len(DASHES)]
        axes.plot(places, means, color=colour, linestyle=dash, label=arm, marker="o", markersize=3)
        low, high = zip(*((min(rank), max(rank)) for rank in zip(*layers, strict=True)), strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.08, lw=0)
    axes.axhline(1.0, color=COLOURS[0], lw=1, alpha=0.5)
    axes.set(xlabel="expert, from the busiest", ylabel="load (1 is even)", title=f"{title}: experts (band: layers)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(str(path))
