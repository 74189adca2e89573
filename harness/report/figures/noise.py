"""How noisy the numbers are: the same seeds across arms, and what is left of the noise in paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.report.drawing import INK, NARROW, PALETTE, Drawing, Drawn, Missing, label, limits, single, style
from harness.report.facts import Study

HISTOGRAM = 24
"""Differences from which on a histogram says more than dots."""


def residuals(values: Mapping[int, float]) -> dict[int, float]:
    """Distance of every seed from the mean of all, widened by √(n/(n−1)) so that their spread is that of new seeds;
    none for fewer than two."""
    n = len(values)
    if n < 2:
        return {}
    mean, widen = statistics.fmean(values.values()), math.sqrt(n / (n - 1))
    return {seed: (value - mean) * widen for seed, value in values.items()}


def differences(study: Study) -> dict[str, dict[int, float]]:
    """arm -> seed -> loss − the baseline's, over the pairs that the table compares."""
    base = study.losses.get(study.baseline, {})
    found = {}
    for row in study.table.rows:
        mine = study.losses.get(row.arm, {})
        pairs = {seed: mine[seed] - base[seed] for seed in row.pairing.seeds if seed in mine and seed in base}
        if row.arm != study.baseline and pairs:
            found[row.arm] = pairs
    return found


def noise_rows(study: Study) -> list[dict[str, Any]]:
    """The baseline's losses and every arm's paired differences, each around their own mean."""
    rows = [
        {"what": "baseline's loss", "arm": study.baseline, "seed": seed, "residual": value}
        for seed, value in residuals(study.losses.get(study.baseline, {})).items()
    ]
    for arm, pairs in differences(study).items():
        rows += [
            {"what": "paired difference", "arm": arm, "seed": seed, "residual": value}
            for seed, value in residuals(pairs).items()
        ]
    return rows


def deviation(values: list[float]) -> float:
    """Standard deviation around zero of what `residuals` made."""
    return math.sqrt(sum(value * value for value in values) / len(values))


def draw_noise(study: Study) -> Drawn:
    if not any(len(seeds) > 1 for seeds in study.losses.values()):
        return [
            Missing(
                "Every arm has one finished seed at most, so nothing is known about noise: give the suite more seeds."
            )
        ]
    with style():
        made = [_across(study)]
        rows = noise_rows(study)
        if any(row["what"] == "paired difference" for row in rows):
            made.append(_around(study, rows))
    return made


def _across(study: Study) -> Drawing:
    """A line for every seed: parallel lines are what pairing lives on."""
    arms = [arm for arm in study.arms if study.losses.get(arm)]
    seeds = sorted({seed for arm in arms for seed in study.losses[arm]})
    figure, axes = single(height=2.8 if len(arms) <= 8 else 3.4, width=NARROW if len(arms) <= 8 else 7.4)
    for seed in seeds:
        y = [study.losses[arm].get(seed, math.nan) for arm in arms]
        axes.plot(range(len(arms)), y, color=PALETTE[0], lw=0.8, alpha=0.55, marker="o", markersize=2.6)
    axes.plot(
        range(len(arms)), [statistics.fmean(study.losses[arm].values()) for arm in arms], ls="", marker="_",
        markersize=13, markeredgewidth=1.8, color=INK,
    )  # fmt: skip
    axes.set_xticks(range(len(arms)), [label(arm, 18) for arm in arms], rotation=35, ha="right", rotation_mode="anchor")
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(f"held-out loss, {study.unit}")
    axes.set_ylim(limits(value for arm in arms for value in study.losses[arm].values()))
    return Drawing(
        name="noise-seeds",
        title="The same seeds in every arm",
        caption="A line for each seed, a bar for the mean. Lines that run parallel mean that seeds are noise which "
        "arms share, so that paired differences are sharper than the losses; crossing lines mean that pairing does "
        "not help.",
        alt=f"Held-out loss of {len(seeds)} seeds across {len(arms)} arms, a line for each seed.",
        figure=figure,
        rows=[
            {"arm": arm, "seed": seed, "loss": study.losses[arm][seed]} for arm in arms for seed in study.losses[arm]
        ],
    )


def _around(study: Study, rows: list[dict[str, Any]]) -> Drawing:
    base = [row["residual"] for row in rows if row["what"] == "baseline's loss"]
    pairs = [row["residual"] for row in rows if row["what"] == "paired difference"]
    groups = [("paired differences", pairs, PALETTE[0])] + ([("baseline's losses", base, INK)] if base else [])
    figure, axes = single()
    reach = max(abs(value) for _, values, _ in groups for value in values) or 1e-6
    edges = np.linspace(-reach, reach, 22)
    for place, (_, values, colour) in enumerate(groups):
        sd = deviation(values)
        axes.fill_between([-sd, sd], place - 0.36, place + 0.3, color=colour, alpha=0.13, lw=0)
        if len(values) >= HISTOGRAM:
            heights, _ = np.histogram(values, edges)
            axes.stairs(
                place + 0.3 * heights / heights.max(), edges, baseline=place, color=colour, alpha=0.35, fill=True
            )
        levels = _apart(values, reach)
        down = [place - 0.05 * (level + 1) if len(values) >= HISTOGRAM else place + 0.05 * level for level in levels]
        axes.plot(values, down, ls="", marker="o", ms=3.4, color=colour, alpha=0.8, mew=0)
    margin = study.table.view.margin
    axes.axvspan(-margin, margin, color=INK, alpha=0.1, lw=0)
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.set_ylim(-0.5, len(groups) - 0.35)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    for place, (name, values, _) in enumerate(groups):
        axes.text(
            0.0, place + 0.56, f"{name}, SD {deviation(values):.4f}", transform=axes.get_yaxis_transform(), va="top"
        )
    axes.set_xlabel(f"distance from their own mean, {study.unit}")
    text = f"paired differences have SD {deviation(pairs):.4f}" + (
        f", the baseline's losses {deviation(base):.4f}" if base else ""
    )
    return Drawing(
        name="noise-residuals",
        title="Noise with and without pairing",
        caption="Every dot is a seed: the baseline's losses around their mean, and the paired differences of all "
        "arms, each around its arm's mean (widened by √(n/(n−1)), for the mean comes from the same seeds). Band: one "
        f"standard deviation to each side; grey: the margin of ±{margin:g}. A difference smaller than the noise over "
        "√seeds is not to be believed.",
        alt=f"Distribution of {len(pairs)} paired differences around their arms' means beside the baseline's losses: "
        f"{text}.",
        figure=figure,
        rows=rows,
    )


def _apart(values: list[float], reach: float) -> list[int]:
    """A level for every dot, so that none hides another."""
    levels = [0] * len(values)
    last: list[float] = []
    for place in sorted(range(len(values)), key=values.__getitem__):
        level = next((n for n, x in enumerate(last) if values[place] - x > 0.035 * reach), len(last))
        levels[place] = level % 7
        last[level : level + 1] = [values[place]]
    return levels
