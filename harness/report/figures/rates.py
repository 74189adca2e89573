"""What the rate does: the paired difference against the number of streams or fractions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import FixedLocator, NullLocator

from harness.compare.plots import DASHES
from harness.compare.results import ArmResult
from harness.report.drawing import INK, MARKERS, PALETTE, Drawing, Drawn, Missing, legend, limits, single, style
from harness.report.facts import Study

FRACTIONS = ("frac",)
"""Types whose rate is a number of fractions; others have streams."""
KEYS = ("delta", "ci_low", "ci_high")
LETTERS = {"hyper": "HC", "frac": "FC"}


def sweeps(study: Study) -> list[dict[str, Any]]:
    """Arms that differ in nothing but their rate, two at least: {name, axis, rows}; each row has `rate`, `arm` and the
    paired difference with its interval."""
    groups: dict[str, list[tuple[int, ArmResult]]] = {}
    for row in study.table.rows:
        rate = _connection(study, row.arm).get("rate")
        if isinstance(rate, int) and row.delta is not None:
            groups.setdefault(_rest(study, row.arm), []).append((rate, row))
    chosen = [
        sorted(group, key=lambda one: one[0]) for group in groups.values() if len({rate for rate, _ in group}) > 1
    ]
    names = _names([_connection(study, group[0][1].arm) for group in chosen])
    return [
        {
            "name": name,
            "axis": "fractions m" if _connection(study, group[0][1].arm).get("type") in FRACTIONS else "streams n",
            "rows": [_row(rate, row) for rate, row in group],
        }
        for name, group in zip(names, chosen, strict=True)
    ]


def _connection(study: Study, arm: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = study.settings.get(arm, {}).get("connection", {})
    return found


def _rest(study: Study, arm: str) -> str:
    """All settings of an arm but its rate."""
    settings = dict(study.settings.get(arm, {}))
    settings["connection"] = {key: value for key, value in _connection(study, arm).items() if key != "rate"}
    return json.dumps(settings, sort_keys=True)


def _names(connections: list[Mapping[str, Any]]) -> list[str]:
    """`dynamic HC`, with the settings in which lines of one such name differ."""
    plain = []
    for one in connections:
        how = "" if "dynamic" not in one else "dynamic " if one["dynamic"] else "static "
        plain.append(f"{how}{LETTERS.get(str(one.get('type')), one.get('type'))}")
    made = []
    for name, one in zip(plain, connections, strict=True):
        same = [other for other_name, other in zip(plain, connections, strict=True) if other_name == name]
        differ = [key for key in one if key != "rate" and any(other.get(key) != one[key] for other in same)]
        made.append(name + "".join(f", {key} {one[key]}" for key in differ))
    return made


def _row(rate: int, row: ArmResult) -> dict[str, Any]:
    assert row.delta is not None
    low, high = row.delta.interval or (None, None)
    return {"rate": rate, "arm": row.arm, "delta": row.delta.mean, "ci_low": low, "ci_high": high, "seeds": row.delta.n}


def draw_rates(study: Study) -> Drawn:
    found = sweeps(study)
    if not found:
        return [
            Missing(
                "No two finished arms differ in their rate alone; a grid over connection.rate (docs/suites.md) makes "
                "such a sweep."
            )
        ]
    made = []
    with style():
        for axis in dict.fromkeys(sweep["axis"] for sweep in found):
            chosen = [sweep for sweep in found if sweep["axis"] == axis]
            figure, axes = single()
            rates = sorted({row["rate"] for sweep in chosen for row in sweep["rows"]})
            for number, sweep in enumerate(chosen):
                _line(axes, sweep, number, len(chosen))
            axes.axhline(0.0, color=INK, lw=1)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(rates))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(rates, [str(rate) for rate in rates])
            axes.set(xlabel=axis, ylabel=f"Δ to {study.baseline}, {study.unit}")
            axes.set_ylim(
                limits([row[k] for one in chosen for row in one["rows"] for k in KEYS if row[k] is not None], 0.0)
            )
            legend(axes, loc="best")
            best = min((row for sweep in chosen for row in sweep["rows"]), key=lambda row: row["delta"])
            made.append(
                Drawing(
                    name=f"rates-{axis.split()[0]}",
                    title=f"Difference to the baseline by {axis.split()[0]}",
                    caption="Arms of a line differ in their rate alone. Paired seed by seed at equal tokens; bars: "
                    "95% t interval.",
                    alt=f"Difference in loss against the number of {axis.split()[0]}; the lowest is {best['arm']} at "
                    f"{best['delta']:+.4f} {study.unit}.",
                    figure=figure,
                    rows=[{"line": sweep["name"], **row} for sweep in chosen for row in sweep["rows"]],
                )
            )
    return made


def _line(axes: Any, sweep: Mapping[str, Any], number: int, count: int) -> None:
    rows = sweep["rows"]
    colour, dash = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
    # A little apart, so that bars at one rate do not cover each other.
    shift = 2.0 ** (0.05 * (number - (count - 1) / 2))
    x = [row["rate"] * shift for row in rows]
    means = [row["delta"] for row in rows]
    axes.plot(x, means, color=colour, linestyle=dash, marker=MARKERS[number % len(MARKERS)], label=sweep["name"])
    for place, row in zip(x, rows, strict=True):
        if row["ci_low"] is not None:
            axes.plot([place, place], [row["ci_low"], row["ci_high"]], color=colour, lw=1)
