"""A picture of L2: every seed's difference, arm by arm, between nothing and the margin."""

from __future__ import annotations

import statistics
from pathlib import Path

from harness.compare.plots import COLOURS
from harness.errors import UsageError
from harness.gate.findings import Report
from harness.gate.output import HEADS

MARKS = {"look 1": "o", "look 2": "s", "confirmation": "^"}


def plot_seeds(report: Report, path: Path) -> None:
    """Into a PNG file; without differences, a picture that says so. Raises UsageError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [line for line in report.seeds if line.layer == "L2"]
    arms = list(dict.fromkeys(line.arm for line in shown))
    figure = Figure(figsize=(9, 1.6 + 0.6 * max(len(arms), 1)), layout="constrained")
    axes = figure.subplots()
    margin = report.rules["margin"]
    axes.axvspan(-margin, margin, color="0.93", zorder=0)
    axes.axvline(0.0, color="0.4", linewidth=1)
    axes.axvline(margin, color=COLOURS[2], linewidth=1, linestyle="--", label=f"margin {margin:g}")
    for place, arm in enumerate(arms):
        lines = [(one, one.difference) for one in shown if one.arm == arm and one.difference is not None]
        for stage, mark in MARKS.items():
            found = [(line, difference) for line, difference in lines if line.stage == stage]
            label = stage if stage not in axes.get_legend_handles_labels()[1] else None
            if found:
                paired = all(line.paired for line, _ in found)
                axes.plot(
                    [difference for _, difference in found], [place] * len(found), mark, color=COLOURS[1],
                    markerfacecolor=COLOURS[1] if paired else "none", alpha=0.8, label=label,
                )  # fmt: skip
        if lines:
            mean = statistics.mean(difference for _, difference in lines)
            axes.plot([mean], [place], "|", color=COLOURS[0], markersize=22, markeredgewidth=2)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    axes.set_xlabel(f"Δ loss to the baseline, {report.unit}; worse to the right")
    axes.set_title(
        f"The gate of '{report.suite}' {HEADS[report.state]}" + ("" if arms else " (no losses were compared)")
    )
    if arms:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    try:
        FigureCanvasAgg(figure).print_png(str(path))
    except OSError as error:
        raise UsageError(f"--plot: cannot write {path}: {error.strerror}") from error
