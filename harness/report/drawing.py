"""What all figures have in common: one style for light and dark pages, and text that is never read as a formula."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from harness.compare.plots import COLOURS, DASHES
from harness.errors import shown

INK = "#1a1c1f"
"""Of text, axes and the baseline: the page puts its own text colour in its place. No other colour may be the same."""
PALETTE = COLOURS[1:7]
"""Okabe and Ito's without black, which is the baseline's, and yellow, which white paper swallows."""
MARKERS = ("o", "s", "D", "^", "v", "P")
FEW = len(PALETTE) + 1
"""Arms that one panel can hold; where there are more, each has a panel."""

NARROW, WIDE = 3.9, 11.6
"""Inches: of a figure in a column of the page, and of the whole page."""
SIZES = {"narrow": 4.4, "middle": 8.0, "wide": math.inf}
"""What a page gives a figure, by the most inches: one of its columns, two, or all."""

RC: dict[str, Any] = {
    "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "harness", "font.size": 8.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlesize": 8.5, "axes.titlelocation": "left", "axes.labelsize": 8.0,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "axes.linewidth": 0.7,
    "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.minor.width": 0.5, "ytick.minor.width": 0.5,
    "grid.color": INK, "grid.alpha": 0.12, "grid.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 3.5,
    "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False, "legend.fontsize": 7.5,
    "legend.handlelength": 2.2, "legend.labelspacing": 0.3, "errorbar.capsize": 2.0, "hatch.color": INK,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with what a page says about it, and its data."""

    name: str
    """Of its files."""
    title: str
    caption: str
    """How to read it, and how it was made."""
    alt: str
    """What it shows, in a sentence."""
    figure: Figure
    rows: Sequence[Mapping[str, Any]]

    @property
    def size(self) -> str:
        """One of SIZES."""
        return next(name for name, most in SIZES.items() if self.figure.get_size_inches()[0] <= most)


@dataclass(frozen=True)
class Missing:
    """In the place of figures: what there is not, and how to get it."""

    text: str


Drawn = Sequence[Drawing | Missing]
"""What a family of figures comes to."""


@contextmanager
def style() -> Iterator[None]:
    """Figures are made and written inside this, whatever settings of their own people have."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


@dataclass(frozen=True)
class Line:
    """How an arm is drawn, in every figure the same."""

    colour: str
    dash: str
    marker: str


def lines(arms: Sequence[str], baseline: str) -> dict[str, Line]:
    """Told apart by marker and dash too, without any colour."""
    found, number = {}, 0
    for arm in arms:
        if arm == baseline:
            found[arm] = Line(INK, "-", "")
            continue
        dash, marker = DASHES[number // len(PALETTE) % len(DASHES)], MARKERS[number % len(MARKERS)]
        found[arm] = Line(PALETTE[number % len(PALETTE)], dash, marker)
        number += 1
    return found


def label(name: str, most: int = 26) -> str:
    """A name as figures show it. A leading underscore would hide it from legends."""
    text = shown(name)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return f"\u200b{text}" if text.startswith("_") else text


def single(height: float = 2.8, width: float = NARROW) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def multiples(count: int, columns: int = 6, height: float = 1.75, **sharing: Any) -> tuple[Figure, list[Axes]]:
    """A grid of panels as wide as the page, or as its panels if they are few."""
    across = min(count, columns)
    down = -(-count // across)
    figure = Figure(figsize=(WIDE * across / columns, height * down + 0.25), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)  # type: ignore[union-attr, call-arg]
    grid = [axes for row in figure.subplots(down, across, squeeze=False, **sharing) for axes in row]
    for axes in grid[count:]:
        axes.remove()
    # With shared axes only the last row has numbers: it is not the last in columns that end early.
    for axes in grid[max(count - across, 0) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, grid[:count]


def legend(axes: Axes, **how: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, **how)


def limits(values: Iterable[float], *always: float, air: float = 0.06) -> tuple[float, float]:
    """A scale for the values but for those far off, three times the middle half's width away from it: one arm that does
    not learn must not press the others together. `always` are on it."""
    known = np.array([value for value in values if math.isfinite(value)] or [0.0])
    first, third = np.quantile(known, [0.25, 0.75])
    near = known[(known >= first - 3 * (third - first)) & (known <= third + 3 * (third - first))]
    low, high = min((*near, *always)), max((*near, *always))
    room = air * ((high - low) or abs(high) or 1.0)
    return float(low - room), float(high + room)


def counts(axis: Any, most: int = 6) -> None:
    """Whole numbers on an axis."""
    axis.set_major_locator(MaxNLocator(most, integer=True))


def amounts(axis: Any, most: int = 5) -> None:
    """Large numbers as 200k, 1.5M or 3e15."""
    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))


def amount(value: float) -> str:
    """`200k`, `1.5M`, `3e15`."""
    if abs(value) >= 1e15:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{letter}"
    return f"{value:.4g}"


def logarithmic(axes: Axes) -> None:
    """A log scale upwards, with plain numbers; matplotlib's own would be formulas. After everything is drawn."""
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    decades = math.log10(high / low) if 0 < low < high else 1.0
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    return f"{value:.6g}" if 1e-3 <= value < 1e5 else f"{value:.0e}"
