"""Diagnostics by depth: how alike consecutive inputs are, gradients, streams, and the gain of composed connections."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    counts,
    label,
    legend,
    lines,
    logarithmic,
    multiples,
    single,
    style,
)
from harness.report.facts import Study

Profile = list[float | None]
"""A value at every depth."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One figure by depth."""

    name: str
    title: str
    axis: str
    caption: str
    read: Callable[[Mapping[str, Any]], Mapping[str, Sequence[Any]] | None]
    """Of one measured step, the profiles: the first is the line, `low` and `high` its band."""
    log: bool = False
    first: int = 1
    """Depth of the first value: the embedding is at 0."""


def _cosine(step: Mapping[str, Any]) -> Mapping[str, Sequence[Any]] | None:
    found = step.get("cosine")
    return {"median": found["median"], "low": found["low"], "high": found["high"]} if found else None


def _plain(key: str) -> Callable[[Mapping[str, Any]], Mapping[str, Sequence[Any]] | None]:
    return lambda step: {key: step[key]} if step.get(key) else None


def _some(key: str) -> Callable[[Mapping[str, Any]], Mapping[str, Sequence[Any]] | None]:
    return lambda step: {key: step[key]} if any(step.get(key) or ()) else None


KINDS = (
    Kind(
        name="cosine", title="Cosine of consecutive inputs", axis="cosine",
        caption="Between what a sub-layer and the next one read: median over tokens, and 5 to 95% as a band. Near 1, "
        "neighbours read the same, which these connections are meant to mend.",
        read=_cosine,
    ),
    Kind(
        name="gradient", title="Gradient norm", axis="gradient norm", log=True,
        caption="Of all parameters of a sub-layer's branch, before clipping.", read=_plain("gradient_norm"),
    ),
    Kind(
        name="dispersion", title="Dispersion of streams", axis="dispersion", first=0,
        caption="0 while they are equal, 1 − 1/n for n streams of one length at right angles. Of arms with streams.",
        read=_plain("dispersion"),
    ),
    Kind(
        name="dynamic", title="How dynamic coefficients are", axis="share of the dynamic part",
        caption="How much of the connection's coefficients depends on the token. Of arms where any does.",
        read=_some("dynamic_share"),
    ),
)  # fmt: skip


def last_step(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was measured last in training; empty where nothing was."""
    steps = document.get("steps") or []
    found: Mapping[str, Any] = max(steps, key=lambda step: step["step"]) if steps else {}
    return found


def profiles(study: Study, read: Callable[[Mapping[str, Any]], Any]) -> dict[str, dict[str, Profile]]:
    """arm -> name -> median over the seeds at every depth, of the last measured step."""
    found: dict[str, dict[str, Profile]] = {}
    for arm in study.arms:
        seeds = [one for document in study.diagnostics.get(arm, {}).values() if (one := read(last_step(document)))]
        if seeds:
            found[arm] = {name: median([seed[name] for seed in seeds if name in seed]) for name in seeds[0]}
    return found


def median(seeds: Sequence[Sequence[float | None]]) -> Profile:
    """At every depth that all have, over the finite values; None where there is none."""
    made: Profile = []
    for values in zip(*seeds, strict=False):
        known = [value for value in values if value is not None and math.isfinite(value)]
        made.append(statistics.median(known) if known else None)
    return made


NONE = Missing(
    "No diagnostics are recorded for these cells: they were trained before there were any, or their connections "
    "cannot be replayed (docs/connection-diagnostics.md). harness run --force trains cells anew."
)


def draw_depth(study: Study) -> Drawn:
    if not study.diagnostics:
        return [NONE]
    made = []
    with style():
        for kind in KINDS:
            if found := profiles(study, kind.read):
                draw = _overlaid if len(found) <= FEW else _apart
                made.append(draw(study, kind, found))
        made += [draw for draw in (_streams(study), *_gains(study)) if draw is not None]
    return made or [Missing("The cells' diagnostics hold nothing that is drawn by depth.")]


def _overlaid(study: Study, kind: Kind, found: Mapping[str, Mapping[str, Profile]]) -> Drawing:
    looks = lines(study.arms, study.baseline)
    figure, axes = single()
    for arm, profile in found.items():
        _plot(axes, profile, looks[arm], label(arm), kind.first)
    _dress(axes, kind)
    legend(axes, loc="best")
    return _drawing(kind, figure, found)


def _apart(study: Study, kind: Kind, found: Mapping[str, Mapping[str, Profile]]) -> Drawing:
    arms = [arm for arm in found if arm != study.baseline]
    figure, panels = multiples(len(arms), sharex=True, sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        if study.baseline in found:
            _plot(axes, found[study.baseline], Line(INK, "-", ""), "", kind.first, band=False)
        _plot(axes, found[arm], Line(PALETTE[0], "-", ""), "", kind.first)
        _dress(axes, kind, named=False)
        axes.set_title(label(arm))
    figure.supxlabel("sub-layer", size=8)
    figure.supylabel(kind.axis, size=8)
    return _drawing(kind, figure, found, f" A panel for each arm (blue) beside {study.baseline}.")


def _plot(axes: Axes, profile: Mapping[str, Profile], look: Line, name: str, first: int = 1, band: bool = True) -> None:
    line = next(iter(profile.values()))
    # A gap, rather than a line across it, where nothing was measured.
    y = [math.nan if value is None else value for value in line]
    x = list(range(first, len(line) + first))
    axes.plot(x, y, color=look.colour, linestyle=look.dash, marker=look.marker, markersize=2.6, label=name or None)
    if band and "low" in profile and "high" in profile:
        pairs = list(zip(x, profile["low"], profile["high"], strict=False))
        known = [(place, low, high) for place, low, high in pairs if low is not None and high is not None]
        if known:
            places, lows, highs = zip(*known, strict=True)
            axes.fill_between(places, lows, highs, color=look.colour, alpha=0.12, lw=0)


def _dress(axes: Axes, kind: Kind, named: bool = True) -> None:
    counts(axes.xaxis)
    if kind.log:
        logarithmic(axes)
    if named:
        axes.set(xlabel="sub-layer", ylabel=kind.axis)


def _drawing(kind: Kind, figure: Any, found: Mapping[str, Mapping[str, Profile]], more: str = "") -> Drawing:
    rows: list[dict[str, Any]] = []
    for arm, profile in found.items():
        for place, values in enumerate(zip(*profile.values(), strict=False), start=kind.first):
            rows.append({"arm": arm, "depth": place, **dict(zip(profile, values, strict=True))})
    return Drawing(
        name=f"depth-{kind.name}",
        title=f"{kind.title}, by depth",
        caption=f"{kind.caption} At the last measured step, median over seeds.{more}",
        alt=f"{kind.title} by depth for {len(found)} arms: {', '.join(found)}.",
        figure=figure,
        rows=rows,
    )


def _streams(study: Study) -> Drawing | None:
    """Root mean square of every stream."""
    found: dict[str, list[Profile]] = {}
    for arm in study.arms:
        seeds = [
            one for document in study.diagnostics.get(arm, {}).values() if (one := last_step(document).get("row_rms"))
        ]
        if seeds and seeds[0] and len(seeds[0][0]) > 1:
            streams = [[list(column) for column in zip(*seed, strict=True)] for seed in seeds]
            found[arm] = [median([seed[n] for seed in streams if n < len(seed)]) for n in range(len(streams[0]))]
    if not found:
        return None
    figure, panels = multiples(len(found), sharex=True, sharey=True)
    for axes, (arm, streams_of) in zip(panels, found.items(), strict=True):
        for number, profile in enumerate(streams_of):
            look = Line(PALETTE[number % len(PALETTE)], "-" if number < len(PALETTE) else "--", "")
            _plot(axes, {"rms": profile}, look, f"{number + 1}" if number < 8 else "", 0)
        counts(axes.xaxis, 4)
        logarithmic(axes)
        axes.set_title(label(arm))
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=lambda pair: len(pair[0]))
    figure.legend(handles, labels, loc="outside right upper", title="row")
    figure.supxlabel("sub-layers before it", size=8)
    figure.supylabel("root mean square", size=8)
    rows = [
        {"arm": arm, "stream": number + 1, "depth": place, "rms": value}
        for arm, streams_of in found.items()
        for number, profile in enumerate(streams_of)
        for place, value in enumerate(profile)
    ]
    return Drawing(
        name="depth-streams",
        title="Size of every stream or fraction, by depth",
        caption="Root mean square of the entries of each stream (of FC: fraction), over tokens, from the embedding on. "
        "At the last measured step, median over seeds.",
        alt=f"Root mean square of every stream or fraction by depth for {len(found)} arms: {', '.join(found)}.",
        figure=figure,
        rows=rows,
    )


def _gains(study: Study) -> list[Drawing]:
    """What the composed connections do to a signal on its way up, and to a gradient on its way down."""
    made = []
    for way, about in (("forward", "a signal on its way up"), ("backward", "a gradient on its way down")):
        found = profiles(study, lambda step, way=way: _gain(step, way))  # type: ignore[misc]
        if not found:
            continue
        looks = lines(study.arms, study.baseline)
        few = len(found) <= FEW
        if few:
            figure, only = single()
            panels = [only]
        else:
            figure, panels = multiples(len(found), sharex=True, sharey=True)
        for number, (arm, profile) in enumerate(found.items()):
            axes = panels[0] if few else panels[number]
            look = looks[arm] if few else Line(PALETTE[0], "-", "")
            _plot(axes, {"max": profile["max"]}, look, label(arm) if few else "")
            _plot(axes, {"min": profile["min"]}, Line(look.colour, ":", ""), "")
            counts(axes.xaxis)
            logarithmic(axes)
            axes.axhline(1.0, color=INK, lw=0.8, alpha=0.5)
            if not few:
                axes.set_title(label(arm))
        if few:
            panels[0].set(xlabel="sub-layer", ylabel="gain")
            legend(panels[0], loc="best")
        else:
            figure.supxlabel("sub-layer", size=8)
            figure.supylabel("gain", size=8)
        rows = [
            {"arm": arm, "depth": place, "max": most, "min": least}
            for arm, profile in found.items()
            for place, (most, least) in enumerate(zip(profile["max"], profile["min"], strict=False), start=1)
        ]
        made.append(
            Drawing(
                name=f"depth-gain-{way}",
                title=f"Composed gain {way}, by depth",
                caption="Largest (line) and smallest (dotted) gain that the connections composed up to a depth give "
                f"{about}; far from 1 it explodes or vanishes. At the last measured step, median over seeds.",
                alt=f"Largest and smallest composed {way} gain by depth for {len(found)} arms: {', '.join(found)}.",
                figure=figure,
                rows=rows,
            )
        )
    return made


def _gain(step: Mapping[str, Any], way: str) -> Mapping[str, Sequence[Any]] | None:
    gain = step.get("gain")
    return {"max": gain[f"{way}_max"], "min": gain[f"{way}_min"]} if gain else None
