"""Held-out loss, and its paired difference to the baseline, along training tokens, FLOPs and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from harness.report.drawing import (
    FEW,
    INK,
    PALETTE,
    Drawing,
    Drawn,
    Line,
    Missing,
    amounts,
    label,
    legend,
    limits,
    lines,
    multiples,
    single,
    style,
)
from harness.report.facts import Budget, Study
from harness.report.figures.along import SPENT, Point, Spent, common_steps, deltas_along, losses_along


def draw_curves(study: Study) -> Drawn:
    """Losses and differences along every budget that was recorded; with many arms a panel for each arm."""
    if not any(common_steps(seeds) for seeds in study.curves.values()):
        return [
            Missing("No curve of the held-out loss is recorded: train.validate_every sets how often it is measured.")
        ]
    with style():
        few = len(study.curves) <= FEW
        made = [draw for spent in SPENT if (draw := (_losses if few else _many_losses)(study, spent))]
        return made[: 3 if few else 1] + (_few_deltas(study) if few else _many_deltas(study))


def _losses(study: Study, spent: Spent) -> Drawing | None:
    found = losses_along(study, spent)
    if not found:
        return None
    figure, axes = single()
    looks = lines(study.arms, study.baseline)
    for arm, points in found.items():
        _band(axes, points, looks[arm], label(arm))
    _lift(axes, list(found.values()))
    axes.set(xlabel=SPENT[spent], ylabel=f"held-out loss, {study.unit}")
    amounts(axes.xaxis)
    legend(axes, loc="upper right")
    return Drawing(
        name=f"loss-{spent}",
        title=f"Loss over {SPENT[spent].split(',')[0]}",
        caption="Mean over seeds; band: lowest to highest seed. The first steps may lie above the "
        f"plot.{_clock(study, spent)}",
        alt=f"Held-out loss of {len(found)} arms over {SPENT[spent]}; {_ends(found)}.",
        figure=figure,
        rows=_rows(found, spent, "lowest", "highest"),
    )


def _few_deltas(study: Study) -> list[Drawing]:
    made = []
    looks = lines(study.arms, study.baseline)
    for spent in SPENT:
        found = deltas_along(study, spent)
        if not found:
            continue
        figure, axes = single()
        for arm, points in found.items():
            _band(axes, points, looks[arm], label(arm))
        axes.axhline(0.0, color=INK, lw=1)
        _settle(axes, list(found.values()))
        axes.set(xlabel=SPENT[spent], ylabel=f"Δ to {label(study.baseline)}, {study.unit}")
        amounts(axes.xaxis)
        legend(axes, loc="best")
        made.append(_delta_drawing(study, spent, found, figure))
    return made


def _delta_drawing(study: Study, spent: Spent, found: Mapping[str, Sequence[Point]], figure: Any) -> Drawing:
    return Drawing(
        name=f"delta-{spent}",
        title=f"Δ to the baseline at equal {SPENT[spent].split(',')[0]}",
        caption=f"Paired seed by seed; band: 95% t interval over seeds.{_clock(study, spent)}",
        alt=f"Difference in loss to {study.baseline} at equal {SPENT[spent].split(',')[0]}; {_ends(found)}.",
        figure=figure,
        rows=_rows(found, spent, "ci_low", "ci_high"),
    )


def _many_losses(study: Study, spent: Spent) -> Drawing | None:
    found = losses_along(study, spent)
    others = [arm for arm in found if arm != study.baseline]
    if not others:
        return None
    figure, panels = multiples(len(others), sharex=True, sharey=True)
    for axes, arm in zip(panels, others, strict=True):
        if study.baseline in found:
            axes.plot(*_middle(found[study.baseline]), color=INK, lw=1, alpha=0.6)
        _band(axes, found[arm], Line(PALETTE[0], "-", ""), "")
        axes.set_title(label(arm))
        amounts(axes.xaxis, 3)
    _lift(panels[0], list(found.values()))
    figure.supxlabel(SPENT[spent], size=8)
    figure.supylabel(f"held-out loss, {study.unit}", size=8)
    return Drawing(
        name=f"loss-{spent}",
        title=f"Loss over {SPENT[spent].split(',')[0]}",
        caption=f"A panel for each arm (blue; band: lowest to highest seed) beside {study.baseline}, mean over seeds.",
        alt=f"Held-out loss of {len(found)} arms over {SPENT[spent]}, a panel each; {_ends(found)}.",
        figure=figure,
        rows=_rows(found, spent, "lowest", "highest"),
    )


def _many_deltas(study: Study) -> list[Drawing]:
    """One panel for each arm with a line for each budget, in whole runs of the baseline."""
    along = {spent: deltas_along(study, spent) for spent in SPENT}
    arms = [arm for arm in study.curves if any(arm in found for found in along.values())]
    if not arms:
        return []
    figure, panels = multiples(len(arms), sharex=True, sharey=True)
    base = study.budgets.get(study.baseline, Budget())
    for axes, arm in zip(panels, arms, strict=True):
        for number, (spent, found) in enumerate(along.items()):
            whole = getattr(base, spent)
            if arm in found and whole:
                look = Line(PALETTE[number], ("-", "--", ":")[number], "")
                points = [Point(p.x / whole, p.mean, p.low, p.high, p.n) for p in found[arm]]
                _band(axes, points, look, SPENT[spent].split(",")[0], 0.16 if spent == "tokens" else 0.0)
        axes.axhline(0.0, color=INK, lw=0.8)
        axes.set_title(label(arm))
    _settle(panels[0], [points for found in along.values() for points in found.values()])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    figure.supxlabel("share of the baseline's whole run", size=8)
    figure.supylabel(f"Δ to {label(study.baseline)}, {study.unit}", size=8)
    rows = [row for spent, found in along.items() for row in _rows(found, spent, "ci_low", "ci_high")]
    return [
        Drawing(
            name="delta",
            title="Δ to the baseline at equal tokens, FLOPs and time",
            caption="Paired seed by seed; band: 95% t interval over seeds at equal tokens. An arm's own scale is cut "
            f"where most arms' end.{_clock(study, 'time')}",
            alt=f"Difference in loss to {study.baseline} for {len(arms)} arms; {_ends(along['tokens'])}.",
            figure=figure,
            rows=rows,
        )
    ]


def _band(axes: Axes, points: Sequence[Point], look: Line, name: str, alpha: float = 0.14) -> None:
    axes.plot(*_middle(points), color=look.colour, linestyle=look.dash, marker=look.marker, label=name or None)
    known = [(point.x, point.low, point.high) for point in points if point.low is not None and point.high is not None]
    if alpha and known:
        places, lows, highs = zip(*known, strict=True)
        axes.fill_between(places, lows, highs, color=look.colour, alpha=alpha, lw=0)


def _middle(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.mean for point in points]


START = 0.15
"""Share of a run whose fall would press everything after it together: it may leave the plot at the top."""


def _lift(axes: Axes, found: Sequence[Sequence[Point]]) -> None:
    """Scaled by what comes after the start, and by the middle arm: one that does not learn is cut off."""
    later = sorted(next(p.mean for p in points if p.x >= START * points[-1].x) for points in found)
    low, top = min(points[-1].low or points[-1].mean for points in found), later[len(later) // 2]
    if top > low:
        axes.set_ylim(low - 0.08 * (top - low), top + 0.12 * (top - low))


def _settle(axes: Axes, found: Sequence[Sequence[Point]]) -> None:
    """Scaled by what comes after the start: at equal time the first differences are those of steps, not of arms."""
    later = [point for points in found for point in points if point.x >= 2 * START * points[-1].x]
    axes.set_ylim(limits([value for p in later for value in (p.mean, p.low, p.high) if value is not None], 0.0))


def _clock(study: Study, spent: Spent) -> str:
    """Where the time comes from."""
    if spent != "time":
        return ""
    measured = any(row.throughput_interval for row in study.table.rows)
    how = "the interleaved measurement" if measured else "the speeds of the cells as they ran, which is rough"
    return f" Time is steps over speed, as a ratio to the baseline from {how}; 1 is the baseline's whole run."


def _ends(found: Mapping[str, Sequence[Point]]) -> str:
    best = min(found, key=lambda arm: found[arm][-1].mean, default=None)
    return "nothing to show" if best is None else f"the lowest end is {best} at {found[best][-1].mean:.4f}"


def _rows(found: Mapping[str, Sequence[Point]], spent: str, low: str, high: str) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm,
            "spent": spent,
            "x": point.x,
            "mean": point.mean,
            low: point.low,
            high: point.high,
            "seeds": point.n,
        }
        for arm, points in found.items()
        for point in points
    ]
