"""The page as HTML. Everything that people wrote is escaped; without the script all of it can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from harness.compare.typeset import pairs_html, table_html
from harness.compare.words import notes, pair_notes
from harness.report.chapters import CHAPTERS, Chapter, Shown
from harness.report.drawing import Missing
from harness.report.facts import Facts, Study
from harness.report.shell import figures_html, scrolled, shell
from harness.report.tables import made_html, made_id, patterns_html, tasks_html, verdicts_html, views_html

Figures = Sequence[Mapping[str, Sequence[Shown | Missing]]]
"""Of every study by chapter."""


def page(facts: Facts, figures: Figures, folder: str = "figures") -> str:
    """The whole document; `folder` is where its figures lie beside it."""
    links = "".join(f'<a href="#{chapter.key}">{escape(chapter.short)}</a>' for chapter in CHAPTERS)
    body = "\n".join(_chapter(facts, figures, chapter) for chapter in CHAPTERS)
    title = f"{facts.suite}: does it pay?"
    header = f"""<dl class="facts">
{"".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in facts.about)}
</dl>
{SMOKE if facts.smoke else ""}
<nav aria-label="Chapters">{links}<a href="#made">How it was made</a></nav>"""
    made = f"""<section id="made">
<h2>How every number was made</h2>
<p class="about">One cell is one arm with one seed: trained once, recorded in MLflow under its run, its files in a
folder of the results. The command makes the cell again; the same machine and versions give the same numbers.</p>
{made_html(facts)}
<h3>This page</h3>
<pre tabindex="0">{escape(facts.command)}</pre>
<p class="about">Figures are beside it in <code>{escape(folder)}/</code>, each as SVG and PNG with its data as CSV.</p>
</section>"""
    return shell(
        title=title,
        eyebrow="report of a suite",
        name=facts.suite,
        description=facts.description,
        header=header,
        main=f"{body}\n{made}",
        footer="docs/report.md says how to read it, docs/record.md how its numbers are computed.",
    )


SMOKE = (
    '<p class="warning"><strong>A smoke run:</strong> the suite was shrunk until it runs in a minute or two, to see '
    "that all of it works. Its numbers say nothing about the arms.</p>"
)


def _chapter(facts: Facts, figures: Figures, chapter: Chapter) -> str:
    parts = []
    for number, (study, found) in enumerate(zip(facts.studies, figures, strict=True)):
        if len(facts.studies) > 1:
            parts.append(f"<h3>Against {escape(study.baseline)} ({escape(study.unit)})</h3>")
        if chapter.key == "answer":
            parts += [verdicts_html(study), views_html(study)]
        if chapter.key == "table":
            parts.append(_table(facts, study))
        parts.append(figures_html(found.get(chapter.key, ())))
        if chapter.key == "costs" and facts.measured and number == 0:
            parts.append(f'<p class="about">Interleaved measurement: {escape(facts.measured)}.</p>')
        if chapter.key == "diagnostics":
            parts.append(patterns_html(study))
    first = ' class="first"' if chapter.key == CHAPTERS[0].key else ""
    about = f'<p class="about">{escape(chapter.about)}</p>' if chapter.about else ""
    inside = "\n".join(part for part in parts if part)
    return f'<section id="{chapter.key}"{first}>\n<h2>{escape(chapter.title)}</h2>\n{about}\n{inside}\n</section>'


def _table(facts: Facts, study: Study) -> str:
    links = {row.arm: f"#{made_id(row.arm)}" for row in study.table.rows if row.n}
    main = table_html(facts.suite, study.table, links=links)
    parts = [
        scrolled(main, "Comparison"),
        _details("What the columns mean, and what is not in them", notes(study.table)),
    ]
    if (pairs := pairs_html(study.table)) is not None:
        inner = scrolled(pairs, "Pairs")
        parts.append(
            _details("The pairs: what pairing bought, and what so many seeds can find", pair_notes(study.table), inner)
        )
    return "\n".join([*parts, tasks_html(study)])


def _details(summary: str, lines: Sequence[str], before: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{escape(summary)}</summary>{before}<ul>{items}</ul></details>"
