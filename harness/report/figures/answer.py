"""The answer in one figure: every arm's paired difference at the end, at equal tokens, FLOPs and time."""

from __future__ import annotations

import statistics
from typing import Any

from matplotlib.lines import Line2D

from harness.compare.match import WORDS, Match
from harness.compare.results import ArmResult, Comparison
from harness.report.drawing import INK, PALETTE, Drawing, Drawn, Missing, label, single, style
from harness.report.facts import Study

SHOWN: tuple[Match, ...] = ("tokens", "flops", "time")
LOOKS = {"tokens": (PALETTE[0], "o"), "flops": (PALETTE[2], "s"), "time": (PALETTE[1], "D")}


def rows_of(study: Study) -> list[dict[str, Any]]:
    """Arm by arm and view by view; sorted by the difference at equal tokens, the best first."""
    found = []
    for arm in _order(study):
        for match in SHOWN:
            row = result(study.views.get(match), arm)
            if row is None or row.delta is None:
                continue
            low, high = row.delta.interval or (None, None)
            found.append(
                {
                    "arm": arm, "equal": match, "delta": row.delta.mean, "ci_low": low, "ci_high": high,
                    "seeds": row.delta.n, "verdict": row.verdict,
                    "against": row.matched.against if row.matched else study.baseline,
                }
            )  # fmt: skip
    return found


def result(table: Comparison | None, arm: str) -> ArmResult | None:
    return next((row for row in table.rows if row.arm == arm), None) if table else None


def _order(study: Study) -> list[str]:
    compared = [row for row in study.table.rows if row.arm != study.baseline]
    return [row.arm for row in sorted(compared, key=lambda row: row.delta.mean if row.delta else float("inf"))]


def draw_answer(study: Study) -> Drawn:
    rows = rows_of(study)
    if not rows:
        return [Missing(f"No arm has a finished pair of seeds with '{study.baseline}' yet.")]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    with style():
        figure, axes = single(height=0.95 + 0.34 * len(arms), width=4.8)
        places = {arm: len(arms) - 1 - number for number, arm in enumerate(arms)}
        left, right = _reach(rows)
        for row in rows:
            colour, marker = LOOKS[row["equal"]]
            y = places[row["arm"]] + (1 - SHOWN.index(row["equal"])) * 0.22
            beyond = not left <= row["delta"] <= right
            x = max(left, min(right, row["delta"]))
            if row["ci_low"] is not None and not beyond:
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.3, solid_capstyle="butt")
            axes.plot([x], [y], marker=marker, color=colour, linestyle="", markersize=4.2)
            if beyond:
                side = "right" if x > 0 else "left"
                axes.annotate(
                    f"{row['delta']:+.3f}", (x, y), xytext=(-6 if x > 0 else 6, 0), textcoords="offset points",
                    va="center", ha=side, fontsize=7,
                )  # fmt: skip
        margin = study.table.view.margin
        axes.axvspan(-margin, margin, color=INK, alpha=0.1, lw=0)
        axes.axvline(0.0, color=INK, lw=0.9)
        axes.set_yticks([places[arm] for arm in arms], [label(arm) for arm in arms])
        axes.set_ylim(-0.7, len(arms) - 0.3)
        axes.set_xlim(left - 0.02 * (right - left), right + 0.02 * (right - left))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"Δ to {label(study.baseline)}, {study.unit} (left of 0 is better)")
        shown = [match for match in SHOWN if any(row["equal"] == match for row in rows)]
        handles = [
            Line2D([], [], color=LOOKS[m][0], marker=LOOKS[m][1], linestyle="-", label=f"equal {WORDS[m]}")
            for m in shown
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    best = rows[0]
    return [
        Drawing(
            name="answer",
            title="Difference to the baseline, three ways",
            caption=f"Paired seed by seed; bars: 95% t interval. Grey: the suite's margin of ±{margin:g}, within "
            "which losses count as equal. A mark at the edge with a number lies beyond the scale.",
            alt=f"Difference in loss of {len(arms)} arms to {study.baseline} with 95% intervals; the lowest at equal "
            f"tokens is {best['arm']} at {best['delta']:+.4f} {study.unit}.",
            figure=figure,
            rows=rows,
        )
    ]


def _reach(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """The scale, with zero in it: one arm that does not learn must not press the others together."""
    ends = [max(abs(row[key]) for key in ("delta", "ci_low", "ci_high") if row[key] is not None) for row in rows]
    most = max(2.5 * statistics.median(ends), 1e-6)
    lows = [row["delta"] if row["ci_low"] is None else row["ci_low"] for row in rows]
    highs = [row["delta"] if row["ci_high"] is None else row["ci_high"] for row in rows]
    left, right = max(min(lows), -most), min(max(highs), most)
    least = 0.08 * max(right, -left)
    return min(left, -least), max(right, least)
