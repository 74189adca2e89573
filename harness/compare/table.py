"""The comparison as Markdown, CSV and JSON, and its verdict in a sentence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from harness.compare.results import FULL_ACCURACY, ArmResult, Comparison
from harness.compare.statistics import Estimate

MISSING = "–"


def to_json(suite: str, tables: Sequence[Comparison]) -> dict[str, Any]:
    """The document that `compare --format json` prints. Intervals are [low, high] at 95%; null is not known. The arms
    of all tables stand in one list, each with its own baseline."""

    def arm(table: Comparison, row: ArmResult) -> dict[str, Any]:
        return {
            "arm": row.arm,
            "baseline": table.baseline,
            "unit": table.unit,
            "n": row.n,
            "loss": row.loss.mean if row.loss else None,
            "loss_ci": _interval(row.loss),
            "delta": row.delta.mean if row.delta else None,
            "delta_ci": _interval(row.delta),
            "p": row.delta.p if row.delta else None,
            "pairs": row.delta.n if row.delta else 0,
            "bpb": row.bits_per_byte,
            "ppl": row.perplexity,
            "accuracy": row.accuracy,
            "mfu": row.mfu,
            "expert_load": row.expert_load,
            "tokens_per_second_ratio": row.throughput_ratio,
            "saved_bytes_ratio": row.saved_bytes_ratio,
            "params": row.parameters,
            "scores": row.scores,
            "reported_delta": row.reported,
            "missing_seeds": list(row.missing),
            "failed_seeds": list(row.failed),
            "unpaired_seeds": list(row.unpaired),
            "runs": {str(seed): run for seed, run in row.runs.items()},
        }

    arms = [arm(table, row) for table in tables for row in table.rows]
    return {"suite": suite, "baseline": tables[0].baseline if tables else None, "arms": arms}


def _interval(estimate: Estimate | None) -> list[float] | None:
    return list(estimate.interval) if estimate is not None and estimate.interval is not None else None


def _columns(rows: Sequence[ArmResult]) -> list[tuple[str, Callable[[ArmResult], str]]]:
    tasks = list(dict.fromkeys(name for row in rows for name in row.scores if _shown(name)))
    papers = list(rows[0].reported) if rows else []
    optional: list[tuple[str, Callable[[ArmResult], float | None], str]] = [
        ("bits/byte", lambda row: row.bits_per_byte, ".4f"),
        ("ppl", lambda row: row.perplexity, ".2f"),
        ("accuracy", lambda row: row.accuracy, ".4f"),
        ("MFU", lambda row: row.mfu, ".3f"),
        ("expert load", lambda row: row.expert_load, ".2f"),
    ]
    shown = [
        (title, lambda row, value=value, form=form: _number(value(row), form))
        for title, value, form in optional
        if any(value(row) is not None for row in rows)
    ]
    return [
        ("arm", lambda row: row.arm),
        ("seeds", lambda row: f"{row.n}/{row.n + len(row.missing)}" if row.missing else str(row.n)),
        ("parameters", lambda row: MISSING if row.parameters is None else f"{row.parameters:,}"),
        ("loss", lambda row: _plus_minus(row.loss)),
        ("Δ loss", lambda row: _plus_minus(row.delta, sign=True)),
        ("p", lambda row: MISSING if row.delta is None or row.delta.p is None else f"{row.delta.p:.2g}"),
        *shown,
        ("tokens/s ×", lambda row: _number(row.throughput_ratio, ".2f")),
        ("saved bytes ×", lambda row: _number(row.saved_bytes_ratio, ".2f")),
        *((f"paper Δ {title}", lambda row, title=title: _number(row.reported[title], "+.4g")) for title in papers),
        *((name.replace("/", " "), lambda row, name=name: _number(row.scores.get(name), ".3f")) for name in tasks),
    ]


def _shown(score: str) -> bool:
    """The table has one column a task: the accuracy, byte perplexity or error; the rest, and the members of groups, is
    in the JSON."""
    main = metric_name(score) in ("acc", "exact_match", "byte_perplexity", "mse") and score.count("/") == 1
    return main and f"eval/{score}" != FULL_ACCURACY


def metric_name(score: str) -> str:
    """`exact_match` of `gsm8k/exact_match.strict-match`: the metric without the filter of the answers."""
    return score.rsplit("/", 1)[1].partition(".")[0]


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _plus_minus(estimate: Estimate | None, sign: bool = False) -> str:
    if estimate is None:
        return MISSING
    mean = f"{estimate.mean:{'+' if sign else ''}.4f}"
    if estimate.interval is None:
        return mean
    return f"{mean} ± {(estimate.interval[1] - estimate.interval[0]) / 2:.4f}"


def notes(table: Comparison) -> list[str]:
    """What the numbers mean, and every seed that is not in them."""
    baseline, rows = table.baseline, table.rows
    lines = [
        f"loss: held-out {table.unit}, mean over seeds; ± is half the 95% t interval over seeds. Δ loss: paired with "
        f"'{baseline}' seed by seed (same batches, held-out data and, unless named below, shared initial "
        "weights); p two-sided, paired t, not corrected for the number of arms.",
        "tokens/s ×: ratio to the baseline of the speeds measured in the cells as they ran, not interleaved; saved "
        "bytes ×: activations kept for the backward pass, counted, the same on every machine with this kind of device "
        "and torch.",
    ]
    if any(row.expert_load is not None for row in rows):
        lines.append(
            "expert load: the largest share of one expert in one layer, on held-out text at the end, times the number "
            "of experts; 1 is even."
        )
    if rows and rows[0].reported:
        lines.append(
            "paper Δ: what a paper printed, at its own scale and from its own runs (source in the suite file); it is "
            "in none of the other columns."
        )
    if limited := sorted({name.split("/")[0] for row in rows for name in row.scores if ":" in name and _shown(name)}):
        lines.append(f"task:N: the first N documents of a task only ({', '.join(limited)}).")
    if rows and rows[0].unlike:
        lines.append(
            f"left out, for not all cells were asked the same questions: {', '.join(rows[0].unlike)}; "
            "harness evaluate asks them again."
        )
    for row in rows:
        waiting = [str(seed) for seed in row.missing if seed not in row.failed]
        if row.failed:
            lines.append(f"{row.arm}: failed with seed {', '.join(str(seed) for seed in row.failed)}.")
        if waiting:
            lines.append(f"{row.arm}: not finished with seed {', '.join(waiting)}.")
        if row.unpaired:
            seeds = ", ".join(str(seed) for seed in row.unpaired)
            lines.append(f"{row.arm}: seed {seeds} has other batches or held-out data than the baseline: not paired.")
        if row.other_start:
            seeds = ", ".join(str(seed) for seed in row.other_start)
            lines.append(f"{row.arm}: seed {seeds} started from other shared weights than the baseline.")
    return lines


def to_markdown(tables: Sequence[Comparison]) -> str:
    """Every table with its notes; where there are several, under its baseline's name."""
    if len(tables) == 1:
        return _markdown(tables[0])
    return "\n\n".join(f"### Against {table.baseline}\n\n{_markdown(table)}" for table in tables)


def _markdown(table: Comparison) -> str:
    columns = _columns(table.rows)
    cells = [[title for title, _ in columns], *([value(row) for _, value in columns] for row in table.rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]

    def line(texts: list[str]) -> str:
        padded = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(texts, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = (
        "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    )
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:]), "", *notes(table)])


def to_csv(suite: str, tables: Sequence[Comparison]) -> str:
    """One line an arm, the JSON's keys as columns, intervals and scores spread over columns of their own."""
    flat = []
    for arm in to_json(suite, tables)["arms"]:
        line: dict[str, Any] = {"suite": suite, "baseline": arm["baseline"]}
        for key, value in arm.items():
            if key.endswith("_ci"):
                line[f"{key}_low"], line[f"{key}_high"] = value or (None, None)
            elif isinstance(value, list):
                line[key] = " ".join(str(element) for element in value)
            elif key in ("scores", "reported_delta"):
                line.update({f"{key.removesuffix('s')}:{name}": number for name, number in value.items()})
            elif key != "runs":
                line[key] = value
        flat.append(line)
    fields = list(dict.fromkeys(key for line in flat for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().rstrip("\n")


def verdict(table: Comparison) -> str:
    """The answer in a sentence: the arm with the lowest Δ whose interval excludes zero, and its price."""
    baseline, rows = table.baseline, table.rows
    compared = [row for row in rows if row.delta is not None]
    if not compared:
        return f"Nothing can be compared with '{baseline}' yet."
    resolved = [row for row in compared if row.delta and row.delta.interval and row.delta.interval[1] < 0]
    if not resolved:
        best = min(compared, key=lambda row: row.delta.mean if row.delta else 0.0)
        assert best.delta is not None
        return (
            f"No arm is better than '{baseline}' beyond doubt: the best, {best.arm}, is at {best.delta.mean:+.4f} "
            f"{table.unit} over {best.delta.n} paired seed{'s' if best.delta.n > 1 else ''}, "
            + ("with an interval that reaches zero." if best.delta.interval else "too few for an interval.")
        )
    best = min(resolved, key=lambda row: row.delta.mean if row.delta else 0.0)
    assert best.delta is not None
    assert best.delta.interval is not None
    low, high = best.delta.interval
    others = (
        f"; {len(resolved)} of {len(compared)} arms are below zero with their whole interval" if compared[1:] else ""
    )
    return (
        f"{best.arm} has the lowest loss, {-best.delta.mean:.4f} {table.unit} below '{baseline}' (95% interval "
        f"{-high:.4f} to {-low:.4f}, {best.delta.n} paired seeds), at {_number(best.throughput_ratio, '.2f')} times "
        f"its tokens per second and {_number(best.saved_bytes_ratio, '.2f')} times its saved activations{others}."
    )


def render(form: str, suite: str, tables: Sequence[Comparison]) -> str:
    """`form` is md, csv or json."""
    if form == "json":
        return json.dumps(to_json(suite, tables), indent=2)
    return to_csv(suite, tables) if form == "csv" else to_markdown(tables)
