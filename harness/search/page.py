"""The search as one HTML page, with its figures beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

from harness.progress import Meter
from harness.report.chapters import Shown
from harness.report.drawing import Missing
from harness.report.shell import figures_html, scrolled, shell
from harness.report.write import FIGURES, write_drawing
from harness.run.celldir import write_whole
from harness.search.figures import all_figures
from harness.search.result import SearchResult
from harness.search.table import again_rows, answer, answer_rows, budget_rows, head, notes, trial_rows

CHAPTERS = {
    "answer": ("What was found", "Every arm had the same number of trials, and the same random draws."),
    "trials": ("The trials", "What was drawn, and what was stopped on the way."),
    "parameters": ("The parameters", "What of the space mattered."),
    "budget": ("What it cost", "Steps that the trials' cells have been trained, of those that they would have been "
               "without pruning."),
}  # fmt: skip


def write_page(result: SearchResult, path: Path, command: str) -> list[Path]:
    """Write the page and its figures; returns all files, the page first. Every file is replaced whole."""
    folder = path.parent / FIGURES
    folder.mkdir(exist_ok=True)
    found: dict[str, list[Shown | Missing]] = {}
    files: list[Path] = []
    with Meter("report", 3, "chapters") as meter:
        for chapter, drawn in all_figures(result):
            for drawing in drawn:
                if isinstance(drawing, Missing):
                    found.setdefault(chapter, []).append(drawing)
                    continue
                shown, made = write_drawing(drawing, folder, drawing.name)
                found.setdefault(chapter, []).append(shown)
                files += made
            meter.add(1)
    write_whole(path, _page(result, found, command).encode())
    return [path, *files]


def _page(result: SearchResult, found: dict[str, list[Shown | Missing]], command: str) -> str:
    tables = {
        "answer": [("Answer", *answer_rows(result)), ("The best, trained again", *again_rows(result))],
        "trials": [("Trials", *trial_rows(result))],
        "budget": [("Budget", *budget_rows(result))],
    }
    body = []
    for place, (key, (title, about)) in enumerate(CHAPTERS.items()):
        first = ' class="first"' if place == 0 else ""
        said = "".join(f"<p>{escape(line)}</p>" for line in answer(result)) if place == 0 else ""
        inside = [
            scrolled(_table(name, rows, right), name) for name, rows, right in tables.get(key, ()) if len(rows) > 1
        ]
        drawn = figures_html(found.get(key, ()))
        parts = [*inside, drawn] if key != "trials" else [drawn, *inside]
        body.append(
            f'<section id="{key}"{first}>\n<h2>{escape(title)}</h2>\n<p class="about">{escape(about)}</p>\n'
            + (f'<div class="answer">{said}</div>' if said else "")
            + "\n".join(part for part in parts if part)
            + ("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in notes(result)) + "</ul>" if not place else "")
            + "</section>"
        )
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, (title, _) in CHAPTERS.items())
    terms = {
        "objective": " × ".join(result.objectives),
        "trials": f"{result.arms[0].budget} for each of {len(result.arms)} arms, seeds {_list(result.seeds)}",
        "sampler, pruner": f"{result.sampler}, {result.pruner}",
        "chosen on": f"seeds {_list(result.choose)}" if result.choose else "nothing besides the trials",
        "quoted on": f"seeds {_list(result.report)}",
    }
    facts = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in terms.items())
    made = f'<section id="made"><h2>How it was made</h2><pre tabindex="0">{escape(command)}</pre></section>'
    return shell(
        title=f"{result.name}: a search",
        eyebrow="a search that treats every arm alike",
        name=result.name,
        description=result.description or head(result),
        header=f'<dl class="facts">{facts}</dl><nav aria-label="Chapters">{links}</nav>',
        main="\n".join([*body, made]),
        footer="docs/search.md says how to read it.",
    )


def _table(name: str, rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    def side(place: int) -> str:
        return "number" if place in right else "text"

    heads = "".join(f'<th scope="col" class="{side(i)}">{escape(text)}</th>' for i, text in enumerate(rows[0]))
    body = "".join(
        "<tr>" + "".join(f'<td class="{side(i)}">{escape(text)}</td>' for i, text in enumerate(row)) + "</tr>"
        for row in rows[1:]
    )
    caption = f"<caption>{escape(name)}</caption>"
    return f'<table class="sortable">{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
