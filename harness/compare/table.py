"""The comparison as Markdown, JSON and CSV; `typeset.py` has LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.compare.columns import Column, choose, order, pair_columns
from harness.compare.markdown import grid
from harness.compare.results import ArmResult, Comparison
from harness.compare.words import notes, pair_notes

FORMATS = ("md", "csv", "json", "tex", "html")


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """Which columns of a table are shown, and in which order its rows stand. JSON and CSV have everything, and heed
    the order alone."""

    columns: tuple[str, ...] | None = None
    sort: str | None = None
    only_changed: bool = False


EVERYTHING = TableLayout()


def render(form: str, suite: str, tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> str:
    """`form` is one of FORMATS. Raises UsageError for columns that a table has not."""
    if form == "json":
        return json.dumps(to_json(suite, tables, layout), indent=2)
    if form == "csv":
        return to_csv(suite, tables, layout)
    if form == "md":
        return to_markdown(tables, layout)
    from harness.compare.typeset import to_html, to_latex

    return to_latex(suite, tables, layout) if form == "tex" else to_html(suite, tables, layout)


def to_json(suite: str, tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> dict[str, Any]:
    """The document that `compare --format json` prints. Intervals are [low, high] at 95%; null is not known. The arms
    of all tables stand in one list, each with its own baseline."""
    arms = [_arm(table, row) for table in tables for row in order(table, layout.sort)]
    view = tables[0].view if tables else None
    return {
        "suite": suite,
        "baseline": tables[0].baseline if tables else None,
        "match": view.match if view else None,
        "margin": view.margin if view else None,
        "remarks": list(view.remarks) if view else [],
        "measured_on": next((table.measured_on for table in tables if table.measured_on), None),
        "hardware": list(dict.fromkeys(name for table in tables for name in table.hardware)),
        "arms": arms,
    }


def _arm(table: Comparison, row: ArmResult) -> dict[str, Any]:
    found, against, gain, shown = row.pairs, row.matched, row.gain, row.documents
    return {
        "arm": row.arm,
        "baseline": table.baseline,
        "unit": table.unit,
        "n": row.n,
        "loss": row.loss.mean if row.loss else None,
        "loss_ci": _listed(row.loss.interval if row.loss else None),
        "best": row.best,
        "against": against.against if against else None,
        "matched_by": against.how if against else None,
        "budget_ratio": against.ratio if against else None,
        "delta": found.mean if found else None,
        "delta_ci": _listed(found.interval if found else None),
        "p": found.p if found else None,
        "p_permutation": found.p_permutation if found else None,
        "p_holm": row.p_holm,
        "verdict": row.verdict,
        "pairs": found.n if found else 0,
        "paired_by": None if found is None else "data" if row.pairing.by_data else "data and initial weights",
        "rho": found.rho if found else None,
        "sd_paired": found.sd_paired if found else None,
        "sd_unpaired": found.sd_unpaired if found else None,
        "pairing_gain": found.gain if found else None,
        "detectable": row.detectable,
        "more_seeds": row.more_seeds,
        "delta_text_ci": _listed(shown.text if shown else None),
        "delta_seeds_text_ci": _listed(shown.both if shown else None),
        "bpb": row.bits_per_byte,
        "ppl": row.perplexity,
        "accuracy": row.accuracy,
        "mfu": row.mfu,
        "expert_load": row.expert_load,
        "tokens_per_second_ratio": row.throughput_ratio,
        "tokens_per_second_measured": "interleaved" if row.measured else "as run",
        "tokens_per_second_ratio_ci": _listed(row.throughput_interval),
        "saved_bytes_ratio": row.saved_bytes_ratio,
        "peak_bytes_ratio": row.peak_bytes_ratio,
        "params": row.parameters,
        "compute_gain": _finite(gain.compute if gain else None),
        "compute_gain_ci": _listed(gain.compute_interval if gain else None),
        "net_gain": _finite(gain.net if gain else None),
        "net_gain_ci": _listed(gain.net_interval if gain else None),
        "gain_curve": None if gain is None else "borrowed" if gain.borrowed else "fitted",
        "gain_beyond_ladder": gain.beyond if gain else None,
        "scores": row.scores,
        "reported_delta": row.reported,
        "missing_seeds": list(row.missing),
        "failed_seeds": list(row.failed),
        "unpaired_seeds": list(row.pairing.left_out),
        "unpaired_because": {str(seed): reason for seed, reason in row.pairing.left_out.items()},
        "forced_seeds": {str(seed): reason for seed, reason in row.pairing.forced.items()},
        "runs": {str(seed): run for seed, run in row.runs.items()},
    }


def _listed(interval: tuple[float, float] | None) -> list[float | None] | None:
    """An end that is not finite (a gain without bound) is null."""
    return None if interval is None else [_finite(end) for end in interval]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def to_markdown(tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> str:
    """Every table with its notes; where there are several, under its baseline's name."""
    made = [_markdown(table, order(table, layout.sort), chosen(table, layout)) for table in tables]
    if len(tables) == 1:
        return made[0]
    return "\n\n".join(f"### Against {table.baseline}\n\n{text}" for table, text in zip(tables, made, strict=True))


def chosen(table: Comparison, layout: TableLayout) -> list[Column]:
    return choose(table, layout.columns, layout.only_changed)


def _markdown(table: Comparison, rows: Sequence[ArmResult], columns: Sequence[Column]) -> str:
    """The table with its notes, then one of the pairs where there are several of any arm."""
    parts = [_grid(columns, rows, table.bold), "", *notes(table)]
    if paired := [row for row in rows if row.pairs and row.pairs.n > 1]:
        parts += ["", _grid(pair_columns(table), paired, set()), "", *pair_notes(table)]
    return "\n".join(parts)


def _grid(columns: Sequence[Column], rows: Sequence[ArmResult], bold: set[str]) -> str:
    def cell(column: Column, row: ArmResult) -> str:
        text = column.text(row).replace("|", "\\|")
        return f"**{text}**" if column.key == "loss" and row.arm in bold else text

    cells = [[column.title for column in columns], *([cell(column, row) for column in columns] for row in rows)]
    right = [place for place, column in enumerate(columns) if column.key not in TEXTS]
    return "\n".join(grid(cells, right))


TEXTS = ("arm", "verdict", "against")
"""Columns of words, which stand to the left."""


def to_csv(suite: str, tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> str:
    """One line an arm, the JSON's keys as columns, intervals and scores spread over columns of their own."""
    flat = []
    for arm in to_json(suite, tables, layout)["arms"]:
        line: dict[str, Any] = {"suite": suite, "baseline": arm["baseline"]}
        for key, value in arm.items():
            if key.endswith("_ci"):
                line[f"{key}_low"], line[f"{key}_high"] = value or (None, None)
            elif isinstance(value, list):
                line[key] = " ".join(str(element) for element in value)
            elif key in ("scores", "reported_delta"):
                line.update({f"{key.removesuffix('s')}:{name}": number for name, number in value.items()})
            elif not isinstance(value, dict):
                line[key] = value
        flat.append(line)
    fields = list(dict.fromkeys(key for line in flat for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().rstrip("\n")
