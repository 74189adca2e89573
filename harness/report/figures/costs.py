"""What arms cost, from the interleaved measurement: throughput round by round, and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.drawing import INK, PALETTE, Drawing, Drawn, Missing, label, single, style
from harness.report.facts import Study


def rounds(costs: Mapping[str, Any], arm: str, baseline: str) -> list[float]:
    """Throughput ratio of every round: the baseline's seconds a step over the arm's, times what a step holds."""
    own, base = costs.get(arm) or {}, costs.get(baseline) or {}
    mine, theirs = own.get("seconds") or (), own.get("baseline_seconds") or base.get("seconds") or ()
    more = (own.get("positions_per_step") or 1) / (base.get("positions_per_step") or 1)
    return [more * base_seconds / seconds for seconds, base_seconds in zip(mine, theirs, strict=False)]


def throughput_rows(study: Study) -> list[dict[str, Any]]:
    """A line for each arm and round, and one (round empty) for each arm's ratio of medians with its interval."""
    rows = []
    for arm in study.arms:
        cost = study.costs.get(arm)
        if not cost or arm == study.baseline or cost.get("throughput_ratio") is None:
            continue
        low, high = cost.get("throughput_ci") or (None, None)
        rows.append({"arm": arm, "round": None, "ratio": cost["throughput_ratio"], "ci_low": low, "ci_high": high})
        for number, ratio in enumerate(rounds(study.costs, arm, study.baseline), start=1):
            rows.append({"arm": arm, "round": number, "ratio": ratio, "ci_low": None, "ci_high": None})
    return rows


def memory_rows(study: Study) -> list[dict[str, Any]]:
    """Ratios to the baseline: activations that a step keeps, and its peak where there is CUDA. The record has the first
    where nothing was measured."""
    rows = []
    for row in study.table.rows:
        cost = study.costs.get(row.arm) or {}
        saved = cost.get("saved_bytes_ratio") or row.saved_bytes_ratio
        peak = cost.get("peak_bytes_ratio") or row.peak_bytes_ratio
        if row.arm != study.baseline and (saved or peak):
            rows.append(
                {
                    "arm": row.arm, "saved_bytes_ratio": saved, "peak_bytes_ratio": peak,
                    "saved_bytes": cost.get("saved_bytes"), "peak_bytes": cost.get("peak_bytes"),
                }
            )  # fmt: skip
    return rows


def draw_costs(study: Study) -> Drawn:
    throughput, memory = throughput_rows(study), memory_rows(study)
    made: list[Drawing | Missing] = []
    with style():
        made.append(_throughput(study, throughput) if throughput else UNMEASURED)
        made.append(_memory(memory) if memory else UNCOUNTED)
    return made


UNMEASURED = Missing(
    "Throughput was not measured with the arms in turn on one machine (docs/costs.md): where the page speaks of time, "
    "it takes the speeds of the cells as they ran, which is rough."
)
UNCOUNTED = Missing("No finished cell has recorded what a training step keeps for its backward pass.")


def _throughput(study: Study, rows: Sequence[Mapping[str, Any]]) -> Drawing:
    totals = [row for row in rows if row["round"] is None]
    figure, axes = single(height=0.9 + 0.27 * len(totals))
    for place, total in enumerate(reversed(totals)):
        single_rounds = [row["ratio"] for row in rows if row["arm"] == total["arm"] and row["round"] is not None]
        axes.barh(place, total["ratio"], height=0.62, color=PALETTE[0], alpha=0.28, lw=0)
        axes.plot(single_rounds, [place] * len(single_rounds), ls="", marker="|", ms=7, color=PALETTE[0], alpha=0.75)
        if total["ci_low"] is not None:
            axes.plot([total["ci_low"], total["ci_high"]], [place] * 2, color=INK, lw=2)
        _number(axes, total["ratio"], place)
    axes.axvline(1.0, color=INK, lw=0.9)
    _dress(axes, [total["arm"] for total in totals], f"tokens per second × {label(study.baseline)}")
    return Drawing(
        name="cost-throughput",
        title="Throughput",
        caption="Ratio to the baseline (more is faster). Ticks: one round each, arms taken in turn on one machine; "
        "bar: ratio of medians; thick line: its 95% interval over rounds.",
        alt="Throughput relative to the baseline: " + _list([(row["arm"], row["ratio"]) for row in totals]) + ".",
        figure=figure,
        rows=rows,
    )


def _memory(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    peak = any(row["peak_bytes_ratio"] for row in rows)
    figure, axes = single(height=0.9 + (0.36 if peak else 0.27) * len(rows))
    for place, row in enumerate(reversed(rows)):
        kinds = [("saved_bytes_ratio", PALETTE[2], 0.17 if peak else 0.0)] + (
            [("peak_bytes_ratio", PALETTE[4], -0.19)] if peak else []
        )
        for number, (key, colour, shift) in enumerate(kinds):
            if row[key]:
                name = (
                    {"saved_bytes_ratio": "saved activations", "peak_bytes_ratio": "peak"}[key] if place == 0 else None
                )
                hatch = "///" if number else None
                axes.barh(
                    place + shift,
                    row[key],
                    height=0.34 if peak else 0.62,
                    color=colour,
                    alpha=0.55,
                    label=name,
                    hatch=hatch,
                    lw=0,
                )
                _number(axes, row[key], place + shift)
    axes.axvline(1.0, color=INK, lw=0.9)
    _dress(axes, [row["arm"] for row in rows], "bytes × baseline")
    if peak:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return Drawing(
        name="cost-memory",
        title="Memory",
        caption="Ratio to the baseline (less is better). Saved activations: what a training step keeps for its "
        "backward pass, counted, the same on every machine."
        + (" Peak: of a step on the GPU, everything included." if peak else ""),
        alt="Memory relative to the baseline, saved activations: "
        + _list([(row["arm"], row["saved_bytes_ratio"]) for row in rows if row["saved_bytes_ratio"]]) + ".",
        figure=figure,
        rows=rows,
    )  # fmt: skip


def _number(axes: Any, value: float, place: float) -> None:
    axes.annotate(f"{value:.2f}", (0, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)


def _dress(axes: Any, arms: Sequence[str], text: str) -> None:
    axes.set_yticks(range(len(arms)), [label(arm) for arm in reversed(arms)])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.set_xlabel(text)


def _list(values: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{arm} {value:.2f}" for arm, value in values)
