"""LaTeX and HTML: complete, escaped, and the same numbers as the table."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from compare_support import study

from harness.compare.results import ArmResult
from harness.compare.table import TableLayout, render, to_markdown
from harness.compare.typeset import latex

EVIL = "<script>alert(1)</script> & 50% of_$x^2"


def test_latex_is_a_booktabs_table_whose_caption_states_seeds_tokens_and_hardware(rows: list[ArmResult]) -> None:
    table = study(rows, hardware=("Some_CPU",), tokens=204_800.0)
    text = render("tex", "study", [table])
    assert [text.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
    caption = re.search(r"\\caption\{(.*)\}", text)
    assert caption is not None
    for part in ("study: held-out nats per token", "4 seeds", "204,800 training tokens a cell", r"Some\_CPU"):
        assert part in caption.group(1)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    columns = text[text.index(r"\toprule") :].splitlines()[1].count("&")
    assert len(body) == 3
    assert all(line.count("&") == columns and line.endswith(r"\\") for line in body)
    assert r"\textbf{" in next(line for line in body if line.startswith("dhc"))
    assert "$-$0.0625 $\\pm$" in body[1]


def test_every_letter_that_means_something_to_latex_is_escaped() -> None:
    assert latex("50% & $x_1$ #{a} ~^\\") == (
        r"50\% \& \$x\_1\$ \#\{a\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert latex("dhc-n4 at -0.1 ± 0.2") == r"dhc-n4 at $-$0.1 $\pm$ 0.2"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(rows: list[ArmResult], tmp_path: Path) -> None:
    body = render("tex", EVIL, [study(rows)])
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{body}\n\\end{{document}}"
    )
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:]


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.inside = tag in ("td", "th", "strong")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_html_has_the_tables_cells_and_escapes_everything(rows: list[ArmResult]) -> None:
    table = study(rows, baseline="residual", unit=EVIL)
    text = render("html", EVIL, [table])
    parser = Cells()
    parser.feed(text)
    assert "script" not in parser.tags
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    expected = [
        [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        for line in to_markdown([table]).splitlines() if line.startswith("| ")
    ]  # fmt: skip
    assert [[cell.strip() for cell in row] for row in parser.rows] == expected


def test_layout_is_heeded_by_every_form(rows: list[ArmResult]) -> None:
    layout = TableLayout(columns=("delta",), sort="delta")
    for form, first in (("md", "| dhc "), ("tex", "dhc & "), ("html", '<tr data-arm="dhc"')):
        text = render(form, "s", [study(rows)], layout)
        assert first in text
        assert "ppl" not in text
        assert text.index(first) < text.index(first.replace("dhc", "dfc"))
