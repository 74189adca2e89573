"""The page's chapters: which figures stand where, and what is said above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.report.drawing import Drawn
from harness.report.facts import Study
from harness.report.figures.answer import draw_answer
from harness.report.figures.costs import draw_costs
from harness.report.figures.curves import draw_curves
from harness.report.figures.depth import draw_depth
from harness.report.figures.maps import draw_maps
from harness.report.figures.noise import draw_noise
from harness.report.figures.pareto import draw_pareto
from harness.report.figures.rates import draw_rates


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A drawing as the page has it."""

    stem: str
    """Of its files."""
    folder: str = "figures"
    """Where they lie, beside the page."""
    title: str
    caption: str
    alt: str
    svg: str
    """Inline."""
    size: str
    """One of drawing.SIZES."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    key: str
    title: str
    short: str
    """In the list of chapters."""
    about: str
    families: tuple[Callable[[Study], Drawn], ...]


CHAPTERS = (
    Chapter(
        key="answer", title="Does it pay?", short="Answer", about="", families=(draw_answer,),
    ),
    Chapter(
        key="table", title="The table", short="Table",
        about="Every arm at equal training tokens. A loss links to the cells that it was made from; a column's head "
        "sorts.",
        families=(),
    ),
    Chapter(
        key="curves", title="Along the run", short="Curves",
        about="The same held-out losses along training tokens, FLOPs and time. Differences at equal FLOPs or time "
        "read every curve where the other one ends; between recorded points by straight lines. There the learning "
        "rates are still on their way, so only the end of a curve is a finished run.",
        families=(draw_curves,),
    ),
    Chapter(
        key="costs", title="What it costs", short="Costs",
        about="An arm pays when no other arm is both better and cheaper.",
        families=(draw_pareto, draw_costs),
    ),
    Chapter(
        key="rates", title="How much of it", short="Rates",
        about="The same connection with more streams or fractions.", families=(draw_rates,),
    ),
    Chapter(
        key="diagnostics", title="What the connections do", short="Diagnostics",
        about="Measured on held-out data while training, and at its end.", families=(draw_depth, draw_maps),
    ),
    Chapter(
        key="noise", title="How noisy the numbers are", short="Noise",
        about="What a sceptic asks first: would other seeds have said the same?", families=(draw_noise,),
    ),
)  # fmt: skip
