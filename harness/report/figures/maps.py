"""Connection maps: how much of every sub-layer's output reaches every later input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from harness.report.drawing import PALETTE, Drawing, Drawn, Missing, label, multiples, style
from harness.report.facts import Study

POSITIVE, NEGATIVE = PALETTE[0], PALETTE[1]


def shades(matrix: np.ndarray, reach: float) -> np.ndarray:
    """RGBA of a matrix: blue above zero, orange below, zero and gaps transparent, `reach` and beyond opaque."""
    known = np.nan_to_num(matrix, nan=0.0, posinf=reach, neginf=-reach)
    image = np.empty((*known.shape, 4))
    image[..., :3] = np.where((known >= 0)[..., None], to_rgb(POSITIVE), to_rgb(NEGATIVE))
    image[..., 3] = np.clip(np.abs(known) / reach, 0.0, 1.0)
    return image


def weights(matrix: np.ndarray) -> np.ndarray:
    """Every row over the mean size of the entries that it can have (up to the diagonal): what a sub-layer reads is
    normed, so the size of a row means nothing. The residual network's are 1."""
    lower = np.tril(np.ones(matrix.shape, dtype=bool), matrix.shape[1] - matrix.shape[0])
    sizes = np.where(lower, np.abs(np.nan_to_num(matrix)), 0.0).sum(axis=1) / np.maximum(lower.sum(axis=1), 1)
    return matrix / np.where(sizes > 0, sizes, 1.0)[:, None]


def reach_of(matrices: Sequence[np.ndarray]) -> float:
    """Size at which the shared scale ends: 99 of 100 entries that are not zero lie within."""
    sizes = np.concatenate([np.abs(one[np.isfinite(one) & (one != 0)]) for one in matrices])
    return max(float(np.quantile(sizes, 0.99)), 1e-12) if sizes.size else 1.0


def maps(study: Study) -> dict[str, np.ndarray]:
    """arm -> C(0) of the first seed that has one."""
    found = {}
    for arm in study.arms:
        for _, document in sorted(study.diagnostics.get(arm, {}).items()):
            if matrix := (document.get("end") or {}).get("matrix"):
                found[arm] = np.array(matrix, dtype=np.float64)
                break
    return found


def hidden_maps(study: Study) -> dict[str, list[np.ndarray]]:
    """arm -> C(1) to C(n) of the first seed, of the arms with streams."""
    found = {}
    for arm in study.arms:
        for _, document in sorted(study.diagnostics.get(arm, {}).items()):
            if matrices := (document.get("end") or {}).get("hidden_matrices"):
                found[arm] = [np.array(one, dtype=np.float64) for one in matrices]
                break
    return found


NONE = Missing("No connection map is recorded for these cells (docs/connection-diagnostics.md).")


def draw_maps(study: Study) -> Drawn:
    found = maps(study)
    if not found:
        return [] if not study.diagnostics else [NONE]
    with style():
        made = [
            _figure(
                "maps", "Connection maps", {label(arm): matrix for arm, matrix in found.items()},
                "C(0): how much of the embedding (first column) and of every sub-layer's output (the others) reaches "
                "the input of each sub-layer (rows, downwards) and the output (last row). Of the first seed.",
                f"Connection maps of {len(found)} arms, rows inputs and columns outputs: {', '.join(found)}.",
            )
        ]  # fmt: skip
        hidden = hidden_maps(study)
        # A row of the page for each arm: beyond a few it would be a wall.
        panels = {
            f"{label(arm)}, C({number})": matrix
            for arm, matrices in hidden.items()
            for number, matrix in enumerate(matrices, start=1)
        }
        if panels:
            made.append(
                _figure(
                    "maps-streams", "Connection maps, stream by stream", dict(list(panels.items())[:MOST]),
                    "C(i): the same for what reaches stream i. Of the first seed."
                    + (f" The first {MOST} of {len(panels)}; the table has all." if len(panels) > MOST else ""),
                    f"Connection maps of single streams for {len(hidden)} arms: {', '.join(hidden)}.",
                    data=panels,
                )
            )  # fmt: skip
    return made


MOST = 24
"""Panels of single streams."""


def _figure(
    name: str,
    title: str,
    panels: Mapping[str, np.ndarray],
    caption: str,
    alt: str,
    data: Mapping[str, np.ndarray] | None = None,
) -> Drawing:
    shown = {text: weights(matrix) for text, matrix in panels.items()}
    reach = reach_of(list(shown.values()))
    figure, grid = multiples(len(panels), height=2.05)
    for axes, (text, matrix) in zip(grid, shown.items(), strict=True):
        draw_map(axes, matrix, reach)
        axes.set_title(text)
    _bar(figure, reach)
    figure.draw_without_rendering()  # square panels make room for their titles only when they are laid out again
    rows = [
        {"map": text, "input": row, "output": column, "value": float(value), "weight": float(weight)}
        for text, matrix in (data or panels).items()
        for (row, column), value, weight in zip(
            np.ndindex(*matrix.shape), matrix.flat, weights(matrix).flat, strict=True
        )
        if value != 0
    ]
    about = (
        " Every row over its mean size, for what is read is normed; 1 everywhere in a residual network. Blue: added; "
        "orange: taken away; empty: nothing. One scale for all, opaque from its ends on."
    )
    return Drawing(name=name, title=title, caption=caption + about, alt=alt, figure=figure, rows=rows)


def draw_map(axes: Axes, matrix: np.ndarray, reach: float) -> None:
    axes.imshow(shades(matrix, reach), interpolation="none", aspect="equal")
    axes.grid(visible=False)
    for axis, size in ((axes.xaxis, matrix.shape[1]), (axes.yaxis, matrix.shape[0])):
        ticks = list(range(0, size, max(1, -(-size // 4))))
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.tick_params(length=2)


def _bar(figure: Any, reach: float) -> None:
    """The shared scale, drawn as a map of one row: matplotlib's own would not show transparency on any page."""
    height = figure.get_size_inches()[1]
    axes = figure.add_axes((0.0, 0.0, 0.1, 0.1))
    axes.set_in_layout(False)
    width = min(0.22, 2.4 / figure.get_size_inches()[0] * 0.9)
    figure.get_layout_engine().set(rect=(0, 0.42 / height, 1, 1 - 0.42 / height))
    axes.set_position((0.5 - width / 2, 0.24 / height, width, 0.11 / height))
    axes.imshow(
        shades(np.linspace(-reach, reach, 65)[None, :], reach), interpolation="none", aspect="auto",
        extent=(-reach, reach, 0, 1),
    )  # fmt: skip
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_xticks([-reach, 0, reach], [f"{-reach:.2g}", "0", f"{reach:.2g}"])
    axes.tick_params(length=2)
