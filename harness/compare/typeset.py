"""The comparison as LaTeX (booktabs) and as an HTML table. All text is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from harness.compare.columns import Column, order, pair_columns
from harness.compare.results import ArmResult, Comparison
from harness.compare.table import EVERYTHING, TEXTS, TableLayout, chosen
from harness.compare.words import notes, pair_notes, verdict

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$",
    "ρ": r"$\rho$", "–": "--", "†": r"\dag{}", "‡": r"\ddag{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def latex(text: str) -> str:
    """Any text as LaTeX shows it; a minus before a digit is one."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def to_latex(suite: str, tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> str:
    """A table environment for every baseline; needs \\usepackage{booktabs}. The caption states seeds, tokens and
    hardware, the notes stand below as comments."""
    return "\n\n".join(_latex_table(suite, table, layout) for table in tables)


def _latex_table(suite: str, table: Comparison, layout: TableLayout) -> str:
    columns, rows = chosen(table, layout), order(table, layout.sort)

    def cell(column: Column, row: ArmResult) -> str:
        text = latex(column.text(row))
        return rf"\textbf{{{text}}}" if column.key == "loss" and row.arm in table.bold else text

    form = "".join("l" if column.key in TEXTS else "r" for column in columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(suite, table)}}}",
        rf"\begin{{tabular}}{{{form}}}",
        r"\toprule",
        " & ".join(latex(column.title) for column in columns) + r" \\",
        r"\midrule",
        *(" & ".join(cell(column, row) for column in columns) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        *(f"% {line}" for note in notes(table) for line in note.splitlines()),
    ]
    return "\n".join(lines)


def caption(suite: str, table: Comparison) -> str:
    """What was trained how often, on how much and on what, as LaTeX."""
    counts = sorted({row.n for row in table.rows})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    tokens = "" if table.tokens is None else f", {table.tokens:,.0f} training tokens a cell"
    machine = " and ".join(table.hardware) or "hardware not recorded"
    held = table.baseline if table.view.match == "tokens" else "what stands under against"
    bold = " Bold: not told apart from the lowest loss (paired t, Holm, 5%)." if table.bold else ""
    return latex(
        f"{suite}: held-out {table.unit}, {seeds} seeds{tokens}; {machine}. ±: half the 95% t interval over seeds; "
        f"Δ paired with {held} seed by seed.{bold}"
    )


def to_html(suite: str, tables: Sequence[Comparison], layout: TableLayout = EVERYTHING) -> str:
    """A fragment: verdict, table and notes of every baseline, and the table of the pairs."""
    parts = []
    for table in tables:
        parts += [f"<p>{html.escape(verdict(table))}</p>", table_html(suite, table, layout), _listed(notes(table))]
        if (paired := pairs_html(table)) is not None:
            parts += [paired, _listed(pair_notes(table))]
    return "\n".join(parts)


def _listed(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def pairs_html(table: Comparison) -> str | None:
    """What pairing did, arm by arm; None where no arm has two pairs."""
    rows = [row for row in table.rows if row.pairs and row.pairs.n > 1]
    return _grid(table, pair_columns(table), rows, f"pairs with {table.baseline}") if rows else None


def table_html(
    suite: str, table: Comparison, layout: TableLayout = EVERYTHING, links: Mapping[str, str] | None = None
) -> str:
    """The table alone. Cells carry the number that they are sorted by in `data-value`; losses link to where `links`
    says that their arm was made."""
    title = f"{suite}: held-out {table.unit} against {table.baseline}"
    return _grid(table, chosen(table, layout), order(table, layout.sort), title, links or {})


def _grid(
    table: Comparison,
    columns: Sequence[Column],
    rows: Sequence[ArmResult],
    title: str,
    links: Mapping[str, str] = MappingProxyType({}),
) -> str:
    head = "".join(f'<th scope="col" class="{_side(column)}">{html.escape(column.title)}</th>' for column in columns)
    body = "\n".join(
        f'<tr data-arm="{html.escape(row.arm)}">{"".join(_cell(table, column, row, links) for column in columns)}</tr>'
        for row in rows
    )
    return (
        f'<table class="sortable">\n<caption>{html.escape(title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n"
        "</tbody>\n</table>"
    )


def _cell(table: Comparison, column: Column, row: ArmResult, links: Mapping[str, str]) -> str:
    text, value = html.escape(column.text(row)), column.number(row)
    if column.key == "loss" and row.arm in table.bold:
        text = f"<strong>{text}</strong>"
    if column.key == "loss" and row.arm in links:
        text = f'<a href="{html.escape(links[row.arm])}">{text}</a>'
    if column.key == "arm":
        return f'<th scope="row" class="text">{text}</th>'
    word = f" {text}" if column.key == "verdict" and text.isalpha() else ""
    sorting = "" if value is None else f' data-value="{value!r}"'
    return f'<td class="{_side(column)}{word}"{sorting}>{text}</td>'


def _side(column: Column) -> str:
    return "text" if column.key in TEXTS else "number"
