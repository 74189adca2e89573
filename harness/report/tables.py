"""The page's own tables: every arm in every view, spikes and patterns, and how each cell was made."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from harness.compare import tasks
from harness.compare.columns import MISSING, NOT_JUDGED, number, plus_minus
from harness.compare.match import WORDS, Match
from harness.compare.results import ArmResult
from harness.compare.tasks import TaskResult
from harness.compare.words import notes, verdict
from harness.report.facts import Facts, Made, Study
from harness.report.figures.answer import result

HEADS: dict[Match, str] = {
    "tokens": "equal tokens", "flops": "equal FLOPs", "time": "equal time", "params": "equal parameters",
    "memory": "equal memory",
}  # fmt: skip
ORDER: tuple[Match, ...] = ("tokens", "flops", "time", "params", "memory")


def verdicts_html(study: Study) -> str:
    """The verdict in words, at equal tokens and where arms were resized to be judged at something else."""
    parts = []
    for match in ORDER:
        table = study.views.get(match)
        if table is None or (match != "tokens" and not any(_resized(row) for row in table.rows)):
            continue
        parts.append(f'<p><span class="at">At equal {escape(WORDS[match])}</span>{escape(verdict(table))}</p>')
    return f'<div class="answer">{"".join(parts)}</div>'


def _resized(row: ArmResult) -> bool:
    return row.verdict is not None and row.matched is not None and row.matched.how == "resized"


def views_html(study: Study) -> str:
    """Of every arm the difference and the verdict, whatever is made equal, and its price."""
    shown = [match for match in ORDER if match in study.views]
    heads = "".join(f'<th scope="col" class="number">{HEADS[match]}</th>' for match in shown)
    body = "".join(_views_row(study, row, shown) for row in study.table.rows)
    caption = (
        f"Δ to {study.baseline} in {study.unit}, ± half the 95% paired t interval, and the verdict. Less is better."
    )
    table = (
        f'<table class="sortable"><caption>{escape(caption)}</caption>'
        f'<thead><tr><th scope="col" class="text">arm</th>{heads}'
        '<th scope="col" class="number">tokens/s ×</th><th scope="col" class="number">saved bytes ×</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    known = set(notes(study.table))
    lines = [line for match in shown if match != "tokens" for line in notes(study.views[match]) if line not in known]
    items = "".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(lines))
    about = (
        "<p>With FLOPs or time made equal, the side with the larger budget is read on its curve where the other one "
        "ends, with a schedule that no run of that budget would have had: that is not judged. With parameters or "
        "memory, or where the suite has one for time, an arm is held against the baseline resized to cost the same. "
        f"{MISSING}: nothing of equal cost to hold it against.</p>"
    )
    details = f"<details><summary>What each arm was held against</summary>{about}<ul>{items}</ul></details>"
    return f'<div class="scroll" role="region" aria-label="Verdicts" tabindex="0">{table}</div>{details}'


def _views_row(study: Study, row: ArmResult, shown: Sequence[Match]) -> str:
    if row.arm == study.baseline:
        cells = "".join(
            f'<td class="number" data-value="0">{"baseline" if match == "tokens" else MISSING}</td>' for match in shown
        )
    else:
        cells = "".join(_view(result(study.views[match], row.arm)) for match in shown)
    own = ' class="baseline"' if row.arm == study.baseline else ""
    return (
        f'<tr{own}><th scope="row" class="text">{escape(row.arm)}</th>{cells}'
        f"{_plain(row.throughput_ratio)}{_plain(row.saved_bytes_ratio)}</tr>"
    )


def _view(row: ArmResult | None) -> str:
    if row is None or row.delta is None:
        return f'<td class="number">{MISSING}</td>'
    text = escape(plus_minus(row.delta, sign=True))
    kind, word = row.verdict or "unresolved", row.verdict or NOT_JUDGED
    return f'<td class="number {kind}" data-value="{row.delta.mean!r}">{text}<small>{word}</small></td>'


def _plain(value: float | None) -> str:
    return f'<td class="number"{_sorting(value)}>{number(value, ".2f")}</td>'


def _sorting(value: float | None) -> str:
    return "" if value is None else f' data-value="{value!r}"'


def patterns(study: Study) -> dict[str, dict[str, list[float]]]:
    """pattern -> arm -> its number at the end, seed by seed; and the shares of steps that were spikes."""
    found = {name: {arm: list(values) for arm, values in arms.items() if values} for name, arms in study.spikes.items()}
    found = {name: arms for name, arms in found.items() if arms}
    for arm in study.arms:
        for document in study.diagnostics.get(arm, {}).values():
            for name, value in ((document.get("end") or {}).get("patterns") or {}).items():
                if isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault(str(name), {}).setdefault(arm, []).append(float(value))
    return found


def patterns_html(study: Study) -> str:
    """Mean over seeds, with the range; nothing where no map was recorded."""
    found = patterns(study)
    if not found:
        return ""
    arms = [arm for arm in study.arms if any(arm in values for values in found.values())]
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in found)
    rows = "".join(
        f'<tr><th scope="row" class="text">{escape(arm)}</th>'
        f"{''.join(_pattern(values.get(arm)) for values in found.values())}</tr>"
        for arm in arms
    )
    return (
        "<h3>Spikes, and patterns in the connection maps</h3>"
        '<div class="scroll" role="region" aria-label="Patterns" tabindex="0">'
        '<table class="sortable"><caption>Mean over seeds, and below it their range. Spikes: shares of the steps. '
        "docs/connection-diagnostics.md says what they are.</caption><thead><tr>"
        f'<th scope="col" class="text">arm</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _pattern(values: Sequence[float] | None) -> str:
    if not values:
        return f'<td class="number">{MISSING}</td>'
    mean = statistics.fmean(values)
    spread = f"<small>{min(values):.3g} to {max(values):.3g}</small>" if len(values) > 1 else ""
    return f'<td class="number" data-value="{mean!r}">{mean:.3g}{spread}</td>'


def tasks_html(study: Study) -> str:
    """Every task that was asked, document by document; nothing where no answers were kept."""
    if not study.tasks:
        return ""
    heads = "".join(f'<th scope="col" class="{_side(name)}">{escape(name)}</th>' for name in tasks.HEADS)
    rows = "".join(f"<tr>{''.join(_task(one))}</tr>" for one in study.tasks)
    return (
        "<details><summary>The tasks, document by document</summary>"
        '<div class="scroll" role="region" aria-label="Tasks" tabindex="0">'
        f'<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<ul><li>{escape(tasks.ABOUT)}</li></ul></details>"
    )


def _task(one: TaskResult) -> Iterator[str]:
    p = one.mcnemar.p if one.mcnemar else None
    numbers = {"documents": one.documents, "Δ": one.delta.mean, "McNemar p": p}
    for name, text in zip(tasks.HEADS, tasks.cells_of(one), strict=True):
        yield f'<td class="{_side(name)}"{_sorting(numbers.get(name))}>{escape(text)}</td>'


def _side(name: str) -> str:
    return "text" if name in ("task", "arm", "measure") else "number"


def made_id(arm: str) -> str:
    return f"made-{arm}"


COLUMNS = ("python", "torch", "hardware", "commit")


def made_html(facts: Facts) -> str:
    """Arm by arm, a line for every seed."""
    losses = {arm: seeds for study in facts.studies for arm, seeds in study.losses.items()}
    arms: dict[str, list[Made]] = {}
    for one in facts.made:
        arms.setdefault(one.arm, []).append(one)
    heads = ("seed", "loss", "state", "MLflow run", "folder", *COLUMNS, "command")
    head = "".join(f'<th scope="col" class="text">{name}</th>' for name in heads)
    bodies = "".join(
        f'<tbody id="{escape(made_id(arm))}"><tr>'
        f'<th scope="rowgroup" class="text" colspan="{len(heads)}">{escape(arm)}</th></tr>'
        f"{''.join(_made_row(one, losses.get(arm, {})) for one in cells)}</tbody>"
        for arm, cells in arms.items()
    )
    return (
        '<div class="scroll" role="region" aria-label="How every cell was made" tabindex="0">'
        f'<table class="made"><thead><tr>{head}</tr></thead>{bodies}</table></div>'
    )


def _made_row(one: Made, losses: Mapping[int, float]) -> str:
    environment: Mapping[str, Any] = one.environment
    cells = [
        number(losses.get(one.seed), ".4f"), escape(one.state), f"<code>{escape(one.run_id or MISSING)}</code>",
        f"<code>{escape(one.folder)}</code>", *(escape(str(environment.get(name, MISSING))) for name in COLUMNS),
        f"<code>{escape(one.command)}</code>",
    ]  # fmt: skip
    inside = "".join(f'<td class="text">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row" class="text">{one.seed}</th>{inside}</tr>'
