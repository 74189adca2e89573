"""Pictures of a search, each with its data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes

from harness.compare.front import front
from harness.report.drawing import (
    Drawing,
    Drawn,
    Line,
    Missing,
    counts,
    label,
    legend,
    limits,
    lines,
    multiples,
    single,
    style,
)
from harness.search.facts import TrialFacts, value_text
from harness.search.objectives import OBJECTIVES
from harness.search.result import SearchResult, mean_of

BOUGHT = ("complete", "pruned", "diverged")


def title_of(result: SearchResult, place: int = 0) -> str:
    """An axis."""
    title, unit = OBJECTIVES[result.objectives[place]].title, result.unit_of(place)
    return f"{title}, {unit}" if unit else title


def draw_history(result: SearchResult) -> Drawn:
    """Every trial, and the best so far."""
    rows: list[dict[str, Any]] = []
    for one in result.arms:
        best = math.inf
        for trial in one.trials:
            best = min(best, trial.value)
            rows.append(
                {
                    "arm": one.arm,
                    "trial": trial.slot,
                    "ended": trial.ended,
                    "value": _last(trial),
                    "best": _finite(best),
                }
            )
    if not any(row["best"] is not None for row in rows):
        return [Missing("No trial was completed yet.")]
    with style():
        figure, axes = single(height=3.0)
        looks = _looks(result)
        for arm, look in looks.items():
            mine = [row for row in rows if row["arm"] == arm]
            _dots(axes, [(row["trial"], row["value"], row["ended"]) for row in mine], look)
            along = [(row["trial"], row["best"]) for row in mine if row["best"] is not None]
            steps, values = [step for step, _ in along], [value for _, value in along]
            axes.step(steps, values, where="post", color=look.colour, ls=look.dash, label=label(arm))
        axes.set(xlabel="trial", ylabel=title_of(result))
        axes.set_ylim(*limits([row["value"] for row in rows if row["value"] and row["ended"] == "complete"], air=0.1))
        counts(axes.xaxis)
        legend(axes)
    return [
        Drawing(
            name="history",
            title="Trials, and the best so far",
            caption="Filled: completed, with the mean over its seeds; hollow: pruned, at the value it had then. The "
            "line is the best of the completed ones. What lies far off is off the scale.",
            alt=f"{title_of(result)} of {len(rows)} trials of {len(result.arms)} arms, with the best so far.",
            figure=figure,
            rows=rows,
        )
    ]


def draw_curse(result: SearchResult) -> Drawn:
    """What the search saw of its best trials, beside what fresh seeds say."""
    rows: list[dict[str, Any]] = []
    for one in result.arms:
        for place, candidate in enumerate(one.candidates, 1):
            quoted = mean_of(candidate.quoted)
            rows.append(
                {
                    "arm": one.arm, "rank": place, "trial": candidate.trial.number, "chosen": candidate is one.chosen,
                    "searched": candidate.trial.value,
                    "choose": candidate.fresh.mean if candidate.fresh else None,
                    "quoted": quoted.mean if quoted else None,
                }
            )  # fmt: skip
    if result.several or not any(row["choose"] is not None or row["quoted"] is not None for row in rows):
        return []
    with style():
        figure, axes = single(height=3.0)
        looks = _looks(result)
        for place, row in enumerate(rows):
            look = looks[row["arm"]]
            fresh = [value for value in (row["choose"], row["quoted"]) if value is not None]
            axes.plot([place] * (1 + len(fresh)), [row["searched"], *fresh], color=look.colour, lw=0.8, alpha=0.6)
            axes.plot([place], [row["searched"]], marker="_", color=look.colour, markersize=9, ls="")
            if row["choose"] is not None:
                axes.plot([place], [row["choose"]], marker="o", color=look.colour, markerfacecolor="none", ls="")
            if row["quoted"] is not None:
                axes.plot([place], [row["quoted"]], marker="o", color=look.colour, ls="")
        axes.set_xticks(range(len(rows)), [f"{label(row['arm'], 12)}\n#{row['rank']}" for row in rows], fontsize=6)
        axes.set(ylabel=title_of(result))
    return [
        Drawing(
            name="curse",
            title="The winner's curse",
            caption="Bar: what the search saw; hollow: the mean over the seeds that choose among an arm's best; "
            "filled: the chosen one on the seeds that are quoted. A trial that won by luck rises.",
            alt="Values of the best trials in the search and on fresh seeds.",
            figure=figure,
            rows=rows,
        )
    ]


def draw_importances(result: SearchResult) -> Drawn:
    """Bars of every parameter, arm by arm."""
    names = list(dict.fromkeys(name for one in result.arms for name in one.importances))
    if not names:
        return [Missing("Too few completed trials, or too little difference between them, to say what matters.")]
    rows: list[dict[str, Any]] = [
        {"arm": one.arm, "parameter": name, "importance": one.importances.get(name)}
        for one in result.arms
        for name in names
        if one.importances
    ]
    arms = [one.arm for one in result.arms if one.importances]
    with style():
        figure, axes = single(height=max(2.0, 0.5 + 0.24 * len(names) * (len(arms) + 0.6)))
        looks, thick = _looks(result), 0.8 / len(arms)
        for place, arm in enumerate(arms):
            values = [row["importance"] or 0.0 for row in rows if row["arm"] == arm]
            where = [number + (place - (len(arms) - 1) / 2) * thick for number in range(len(names))]
            axes.barh(where, values, height=thick * 0.9, color=looks[arm].colour, label=label(arm))
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="share of what the trials differ by", xlim=(0, 1))
        legend(axes)
    return [
        Drawing(
            name="importances",
            title="Which parameters matter",
            caption="Optuna's fANOVA over the completed trials, seed fixed. With few trials it is a hint, not a "
            "measurement.",
            alt=f"Importance of {len(names)} parameters for {len(arms)} arms.",
            figure=figure,
            rows=rows,
        )
    ]


def draw_slices(result: SearchResult) -> Drawn:
    """The value against every parameter."""
    trials = [trial for one in result.arms for trial in one.trials if _last(trial) is not None]
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    if not names:
        return []
    rows: list[dict[str, Any]] = [
        {"arm": trial.arm, "trial": trial.slot, "ended": trial.ended, "value": _last(trial), **trial.params}
        for trial in trials
    ]
    with style():
        figure, panels = multiples(len(names), columns=4, height=2.3)
        looks = _looks(result)
        low, high = limits([value for trial in trials if (value := _last(trial)) is not None])
        for name, axes in zip(names, panels, strict=True):
            having = [trial for trial in trials if name in trial.params]
            place = _axis(axes, name, having)
            for arm, look in looks.items():
                points = [(place(one.params[name]), _last(one), one.ended) for one in having if one.arm == arm]
                _dots(axes, points, look)
            axes.set(xlabel=name, ylim=(low, high))
        for axes in panels[:: min(len(names), 4)]:
            axes.set_ylabel(title_of(result))
        for arm, look in looks.items():
            panels[0].plot([], [], marker=look.marker or "o", color=look.colour, ls="", label=label(arm))
        legend(panels[0])
    return [
        Drawing(
            name="slices",
            title="Every parameter by itself",
            caption="A point is a trial: filled where it was completed, hollow where it was pruned. The other "
            "parameters differ from point to point.",
            alt=f"{title_of(result)} against {', '.join(names)}.",
            figure=figure,
            rows=rows,
        )
    ]


def draw_curves(result: SearchResult) -> Drawn:
    """What trials were judged by on the way."""
    having = [one for one in result.arms if any(len(trial.curve) > 1 for trial in one.trials)]
    if not having:
        return []
    rows: list[dict[str, Any]] = [
        {"arm": one.arm, "trial": trial.slot, "ended": trial.ended, "step": step, "value": value}
        for one in having
        for trial in one.trials
        for step, value in sorted(trial.curve.items())
    ]
    with style():
        figure, panels = multiples(len(having), columns=4, height=2.3, sharey=True)
        looks = _looks(result)
        for one, axes in zip(having, panels, strict=True):
            for trial in one.trials:
                points = sorted(trial.curve.items())
                if points:
                    stopped = trial.ended != "complete"
                    axes.plot(
                        *zip(*points, strict=True), color=looks[one.arm].colour, alpha=0.4 if stopped else 0.9,
                        lw=0.9, marker="x" if stopped else "", markevery=[-1],
                    )  # fmt: skip
            axes.set(title=label(one.arm), xlabel="step")
        panels[0].set_ylim(*limits([row["value"] for row in rows]))
        panels[0].set_ylabel(title_of(result))
    return [
        Drawing(
            name="curves",
            title="On the way",
            caption="The curve of every trial's first seed (or, seed by seed, what a test over seeds saw), its last "
            "value left out; a cross is where a trial was stopped.",
            alt="Validation curves of all trials.",
            figure=figure,
            rows=rows,
        )
    ]


def draw_fronts(result: SearchResult) -> Drawn:
    """Of several objectives every pair."""
    if not result.several:
        return []
    made = []
    for one, other in itertools.combinations(range(len(result.objectives)), 2):
        rows: list[dict[str, Any]] = [
            {"arm": arm.arm, "trial": trial.slot, result.objectives[one]: trial.values[one],
             result.objectives[other]: trial.values[other], "front": trial in arm.front()}
            for arm in result.arms for trial in arm.trials if trial.values
        ]  # fmt: skip
        if rows:
            made.append(_front(result, one, other, rows))
    return made


def _front(result: SearchResult, one: int, other: int, rows: list[dict[str, Any]]) -> Drawing:
    y, x = result.objectives[one], result.objectives[other]
    with style():
        figure, axes = single(height=3.1)
        for arm, look in _looks(result).items():
            mine = [row for row in rows if row["arm"] == arm]
            for row in mine:
                filled = look.colour if row["front"] else "none"
                axes.plot(
                    [row[x]], [row[y]], marker=look.marker or "o", color=look.colour, markerfacecolor=filled, ls=""
                )
            best = [mine[place] for place in front([(row[x], row[y]) for row in mine])]
            axes.step(
                [row[x] for row in best], [row[y] for row in best], where="post", color=look.colour, lw=1, alpha=0.6,
                label=label(arm),
            )  # fmt: skip
        axes.set(xlabel=title_of(result, other), ylabel=title_of(result, one))
        axes.set_ylim(*limits([row[y] for row in rows]))
        legend(axes)
    return Drawing(
        name=f"front-{y}-{x}",
        title=f"{OBJECTIVES[y].title} against {OBJECTIVES[x].title}",
        caption="Lower left is better. Filled: on the front, no other trial of its arm is better in everything. The "
        "line is the front of these two alone.",
        alt=f"{len(rows)} completed trials, of which {sum(row['front'] for row in rows)} are on a front.",
        figure=figure,
        rows=rows,
    )


def _looks(result: SearchResult) -> dict[str, Line]:
    heads = [arm for arm, head in result.baselines.items() if arm == head]
    return lines([one.arm for one in result.arms], heads[0] if heads else "")


def _dots(axes: Axes, points: Sequence[tuple[float, float | None, str]], look: Line) -> None:
    for x, y, ended in points:
        if y is not None and ended in BOUGHT:
            filled = look.colour if ended == "complete" else "none"
            axes.plot([x], [y], marker=look.marker or "o", color=look.colour, markerfacecolor=filled, ls="", alpha=0.85)


def _axis(axes: Axes, name: str, trials: Sequence[TrialFacts]) -> Callable[[Any], float]:
    """Where a value of the parameter stands: a number by itself, logarithmic where they span decades, else by name."""
    values = [trial.params[name] for trial in trials]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [float(value) for value in values if value is not None]
        if min(numbers) > 0 and max(numbers) / min(numbers) > 20:
            axes.set_xscale("log")
        return float
    known = sorted({value_text(value) for value in values})
    axes.set_xticks(range(len(known)), known)
    axes.set_xlim(-0.5, len(known) - 0.5)
    return lambda value: float(known.index(value_text(value)))


def _last(trial: TrialFacts) -> float | None:
    """The trial's value, or what it had when it was stopped."""
    if trial.values:
        return _finite(trial.value)
    return _finite(trial.curve[max(trial.curve)]) if trial.curve else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def all_figures(result: SearchResult) -> Iterator[tuple[str, Drawn]]:
    """(chapter, drawn)."""
    yield "answer", [*draw_fronts(result), *draw_curse(result)]
    yield "trials", [*draw_history(result), *draw_curves(result)]
    yield "parameters", [*draw_importances(result), *draw_slices(result)]
