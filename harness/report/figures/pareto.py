"""Loss against what it costs: the arms that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.compare.front import front
from harness.compare.results import ArmResult
from harness.report.drawing import INK, NARROW, Drawing, Drawn, Missing, label, limits, lines, single, style
from harness.report.facts import Study


def rows_of(study: Study, cost: str) -> list[dict[str, Any]]:
    """Arms with a difference and a cost (`time`: of a token, `memory`), both relative to the baseline's."""
    found: list[dict[str, Any]] = []
    for row in study.table.rows:
        price, interval = _price(row, cost, study.baseline)
        mean = 0.0 if row.arm == study.baseline else row.delta.mean if row.delta else None
        if price is None or mean is None or not row.n:
            continue
        low, high = (row.delta.interval if row.delta else None) or (None, None)
        found.append(
            {
                "arm": row.arm, "cost": cost, "ratio": price, "ratio_low": interval[0], "ratio_high": interval[1],
                "delta": mean, "ci_low": low, "ci_high": high,
            }
        )  # fmt: skip
    best = front([(row["ratio"], row["delta"]) for row in found])
    return [{**row, "front": place in best} for place, row in enumerate(found)]


def _price(row: ArmResult, cost: str, baseline: str) -> tuple[float | None, tuple[float | None, float | None]]:
    if row.arm == baseline:
        return 1.0, (None, None)
    if cost == "time":
        speed, interval = row.throughput_ratio, row.throughput_interval
        if not speed:
            return None, (None, None)
        return 1 / speed, (1 / interval[1], 1 / interval[0]) if interval and min(interval) > 0 else (None, None)
    return row.peak_bytes_ratio or row.saved_bytes_ratio, (None, None)


def draw_pareto(study: Study) -> Drawn:
    made = []
    for cost in ("time", "memory"):
        rows = rows_of(study, cost)
        if len(rows) > 1:
            made.append(_panel(study, cost, rows))
    return made or [Missing("No arm has both a paired difference and a recorded cost yet.")]


def _panel(study: Study, cost: str, rows: list[dict[str, Any]]) -> Drawing:
    peak = any(row.peak_bytes_ratio for row in study.table.rows)
    measured = any(row.throughput_interval for row in study.table.rows)
    if cost == "time":
        words, axis = "time", "training time of a token × baseline"
        about = "Time is one over the ratio of throughputs, " + (
            "measured interleaved on one machine." if measured else "of the cells as they ran, which is rough."
        )
    else:
        words, axis = "memory", ("peak memory" if peak else "saved activations") + " × baseline"
        about = (
            "Memory is the peak of a training step on the GPU."
            if peak
            else "Memory is what a step keeps for its backward pass, counted; parameters and their state come on top."
        )
    with style():
        looks = lines(study.arms, study.baseline)
        figure, axes = single(height=3.1, width=NARROW if len(rows) <= 10 else 5.7)
        best = sorted((row for row in rows if row["front"]), key=lambda row: row["ratio"])
        axes.step(
            [row["ratio"] for row in best], [row["delta"] for row in best], where="post", color=INK, lw=1, alpha=0.45
        )
        for row in rows:
            look = looks[row["arm"]]
            x, y = row["ratio"], row["delta"]
            if row["ci_low"] is not None:
                axes.plot([x, x], [row["ci_low"], row["ci_high"]], color=look.colour, lw=1, alpha=0.8)
            if row["ratio_low"] is not None:
                axes.plot([row["ratio_low"], row["ratio_high"]], [y, y], color=look.colour, lw=1, alpha=0.8)
            filled = look.colour if row["front"] else "none"
            axes.plot(
                [x], [y], marker=look.marker or "X", color=look.colour, markerfacecolor=filled, markersize=5, ls=""
            )
        axes.set(xlabel=axis, ylabel=f"Δ to {label(study.baseline)}, {study.unit}")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        _frame(axes, rows)
        hidden = _names(figure, axes, rows)
    return Drawing(
        name=f"pareto-{cost}",
        title=f"Loss against {words}",
        caption="Lower left is better. Filled, on the line: no other arm is better in both. Bars: 95% intervals. "
        + about
        + (f" Not named for want of room: {', '.join(hidden)}." if hidden else ""),
        alt=f"Difference in loss against relative {words} for {len(rows)} arms; not beaten in both: "
        f"{', '.join(row['arm'] for row in best)}.",
        figure=figure,
        rows=rows,
    )


def _frame(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Wide enough for all but an arm that is far off, whose mark is put at the edge."""
    lows = [row["ci_low"] for row in rows if row["ci_low"] is not None]
    bottom, top = limits([*lows, *(row["delta"] for row in rows)], 0.0, air=0.12)
    axes.set_ylim(bottom, top)
    for row in rows:
        if row["delta"] > top:
            axes.annotate(
                f"{label(row['arm'])} {row['delta']:+.3f} ↑", (row["ratio"], top), xytext=(0, -2),
                textcoords="offset points", ha="center", va="top", fontsize=7, annotation_clip=False,
            )  # fmt: skip
    left, right = axes.get_xlim()
    axes.set_xlim(left - 0.06 * (right - left), right + 0.12 * (right - left))


def _names(figure: Figure, axes: Axes, rows: list[dict[str, Any]]) -> list[str]:
    """Write names beside marks where they cover nothing, those of the front first; returns the arms without room."""
    to_points = 72 / figure.dpi
    figure.draw_without_rendering()
    top = axes.get_ylim()[1]
    marks = {row["arm"]: axes.transData.transform((row["ratio"], row["delta"])) * to_points for row in rows}
    taken = [(x - 3.5, y - 3.5, x + 3.5, y + 3.5) for x, y in marks.values()]
    hidden = []
    for row in sorted(rows, key=lambda row: not row["front"]):
        if row["delta"] > top:
            continue
        text, (x, y) = label(row["arm"]), marks[row["arm"]]
        for dx, dy, side in _sides():
            left = x + dx - {"left": 0.0, "center": 0.5, "right": 1.0}[side] * 4.1 * len(text)
            box = (left, y + dy - 3.5, left + 4.1 * len(text), y + dy + 3.5)
            if not any(_cover(box, other) for other in taken):
                axes.annotate(
                    text, (row["ratio"], row["delta"]), xytext=(dx, dy), textcoords="offset points", ha=side,
                    va="center", fontsize=7,
                )  # fmt: skip
                taken.append(box)
                break
        else:
            hidden.append(row["arm"])
    return hidden


def _sides() -> Iterator[tuple[float, float, str]]:
    for far in (1.0, 1.9):
        yield from ((5 * far, 6.5 * far, "left"), (5 * far, -6.5 * far, "left"))
        yield from ((-5 * far, 6.5 * far, "right"), (-5 * far, -6.5 * far, "right"))
        yield from (
            (6 * far, 0.0, "left"),
            (-6 * far, 0.0, "right"),
            (0.0, 9 * far, "center"),
            (0.0, -9 * far, "center"),
        )


def _cover(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
