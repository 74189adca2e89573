"""The page and its files: text that people wrote, links, missing parts, many arms, the same bytes twice."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_support import ARMS, facts, many

from harness.errors import UsageError
from harness.report.drawing import INK, Missing, single, style
from harness.report.facts import Budget, Facts, Study
from harness.report.figures.curves import draw_curves
from harness.report.page import page as page_of
from harness.report.svg import inline, svg
from harness.report.tables import patterns_html
from harness.report.write import to_csv, write_page

NOTHING: list[dict[str, list[object]]] = [{}]


class Parsed(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def all(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


@pytest.fixture(scope="module")
def parsed(page: Path) -> Parsed:
    return Parsed(page.read_text(encoding="utf-8"))


def bare(**changes: object) -> Facts:
    """A study with a table and nothing else."""
    made = facts(diagnostics=False, costs=False)
    study = replace(made.studies[0], curves={}, budgets={}, losses={}, settings={})
    return replace(made, studies=[study], **changes)  # type: ignore[arg-type]


def test_the_only_script_is_ours_and_a_name_is_text(parsed: Parsed) -> None:
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert "<script>alert(1)</script> & $\\frac{x}$" in parsed.text


def test_text_that_people_wrote_is_escaped_wherever_it_stands() -> None:
    evil = '"><img src=x onerror=alert(1)>'
    made = bare(suite=evil, description=evil, about=[(evil, evil)], command=evil, measured=evil)
    cell = replace(made.made[0], folder=evil, command=evil, run_id=evil, state=evil, environment={"hardware": evil})
    found = Parsed(page_of(replace(made, made=[cell]), [{"costs": [Missing(evil)]}]))
    assert "img" not in [tag for tag, _ in found.elements]
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert found.text.count(evil) >= 8


def test_nothing_is_fetched_and_the_policy_allows_nothing_else(parsed: Parsed, page: Path) -> None:
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert not parsed.all("src")
    for link in parsed.all("href") + parsed.all("xlink:href"):
        assert link.startswith(("#", "figures/", "data:")), link
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page.read_text(encoding="utf-8"))
    assert "@import" not in page.read_text(encoding="utf-8")


def test_every_link_has_its_target_and_every_id_is_given_once(parsed: Parsed, page: Path) -> None:
    ids = parsed.all("id")
    assert len(ids) == len(set(ids))
    for link in parsed.all("href"):
        if link.startswith("#"):
            assert link[1:] in ids, link
        elif link.startswith("figures/"):
            assert (page.parent / link).stat().st_size > 100, link
    for reference in re.findall(r"url\(#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert reference in ids


def test_every_loss_of_the_table_links_to_how_its_arm_was_made(parsed: Parsed) -> None:
    links = [link for link in parsed.all("href") if link.startswith("#made-")]
    assert sorted(links) == sorted(f"#made-{arm}" for arm in ARMS)


def test_a_cell_is_made_again_by_one_command_that_names_it_alone(parsed: Parsed) -> None:
    assert "harness run suites/quickstart.yaml train.steps=400 -k 'arm=dhc-n4 and seed=1'" in parsed.text


def test_every_figure_is_named_and_says_what_it_shows(parsed: Parsed) -> None:
    drawings = [attributes for tag, attributes in parsed.elements if tag == "svg"]
    assert len(drawings) > 20
    assert all(one.get("role") == "img" and len(one.get("aria-label") or "") > 30 for one in drawings)


def test_ink_is_the_pages_own_and_words_stay_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert INK not in text
    assert text.count("currentColor") > 100
    assert "<text" in text
    assert INK in (page.parent / "figures" / "answer.svg").read_text(encoding="utf-8")


def test_figures_lie_beside_the_page_in_three_forms(page: Path) -> None:
    folder = page.parent / "figures"
    stems = {path.stem for path in folder.glob("*.svg")}
    assert {"answer", "loss-tokens", "delta-time", "pareto-time", "rates-streams", "depth-cosine", "maps"} <= stems
    for stem in stems:
        ElementTree.fromstring((folder / f"{stem}.svg").read_text(encoding="utf-8"))
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        rows = list(csv.DictReader((folder / f"{stem}.csv").open(encoding="utf-8")))
        assert rows, stem
    assert not list(page.parent.rglob("*.tmp"))


def test_the_data_of_a_figure_are_those_of_the_study(page: Path) -> None:
    rows = list(csv.DictReader((page.parent / "figures" / "answer.csv").open(encoding="utf-8")))
    table = facts().studies[0].table
    for row in table.rows:
        if row.delta is not None:
            found = next(one for one in rows if one["arm"] == row.arm and one["equal"] == "tokens")
            assert float(found["delta"]) == row.delta.mean
            assert row.delta.interval is not None
            assert float(found["ci_low"]) == row.delta.interval[0]


def test_the_same_facts_give_the_same_files(tmp_path: Path) -> None:
    made = facts({arm: ARMS[arm] for arm in ("residual", "dhc-n4")}, seeds=(1, 2))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_page(made, tmp_path / name / "report.html")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_what_is_missing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    write_page(bare(), tmp_path / "report.html")
    text = Parsed((tmp_path / "report.html").read_text(encoding="utf-8")).text
    for sentence in (
        "No curve of the held-out loss is recorded", "Throughput was not measured", "No two finished arms differ",
        "No diagnostics are recorded", "one finished seed at most",
    ):  # fmt: skip
        assert sentence in text
    assert "is better" in text, "the verdict needs none of these"


def test_a_study_without_any_pair_has_a_page(tmp_path: Path) -> None:
    made = facts(diagnostics=False, seeds=(1,))
    alone = {
        match: replace(t, rows=[r for r in t.rows if r.arm == "residual"]) for match, t in made.studies[0].views.items()
    }
    study = Study(
        views=alone, losses={"residual": {1: 3.0}}, curves={"residual": {1: {1: 3.0}}}, budgets={"residual": Budget()}
    )
    write_page(replace(made, studies=[study], made=made.made[:1]), tmp_path / "report.html")
    assert "Nothing can be compared with 'residual'" in (tmp_path / "report.html").read_text().replace("&#x27;", "'")


def test_more_arms_than_colours_get_panels_of_their_own() -> None:
    (study,) = facts(many(16), diagnostics=False).studies
    loss, delta = (one for one in draw_curves(study) if not isinstance(one, Missing))
    assert "A panel for each arm" in loss.caption
    for drawing in (loss, delta):
        text = svg(drawing.figure)
        assert all(f">{arm}<" in text for arm in study.arms if arm != "residual")
        assert drawing.size == "wide"
    assert {row["spent"] for row in delta.rows} == {"tokens", "flops", "time"}


def test_two_baselines_have_files_and_ids_of_their_own(tmp_path: Path) -> None:
    arms = {arm: ARMS[arm] for arm in ("residual", "shc-n2", "dhc-n4")}
    made = facts(arms, diagnostics=False, seeds=(1, 2), baselines=("residual", "shc-n2"))
    files = write_page(made, tmp_path / "report.html")
    assert len(files) == len(set(files))
    found = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(found.all("id")) == len(set(found.all("id")))
    assert "Against shc-n2 (nats per token)" in found.text


def test_a_figure_with_dollars_and_markup_in_its_text_is_drawn_as_written() -> None:
    with style():
        figure, axes = single()
        axes.set_title("$\\frac{x}$ <b> & __")
        axes.plot([1, 2], [1, 2], label="$5 and $6")
        axes.legend()
    text = svg(figure)
    assert "$\\frac{x}$ &lt;b&gt; &amp; __" in text
    assert "$5 and $6" in text
    moved = inline(text, "p-", 'says "a" & b')
    assert ElementTree.fromstring(moved).attrib["aria-label"] == 'says "a" & b'
    ids = re.findall(r'\bid="([^"]+)"', moved)
    assert ids
    assert all(one.startswith("p-") for one in ids)


def test_where_it_cannot_be_written_is_one_line_before_anything_is_drawn(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "r.html"):
        with pytest.raises(UsageError, match="the report cannot be written to") as error:
            write_page(facts(diagnostics=False, seeds=(1,)), path)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_not_known_is_empty_in_the_data() -> None:
    assert to_csv([{"a": 1.5, "b": None}, {"a": 2, "c": "x,y"}]) == 'a,b,c\n1.5,,\n2,,"x,y"\n'


def test_spikes_stand_beside_the_patterns_and_what_nobody_counted_has_no_column() -> None:
    given = facts()
    spikes = {"loss spikes": {"residual": [0.0, 0.02]}, "gradient spikes": {"residual": []}}
    study = replace(given.studies[0], spikes=spikes)
    text = patterns_html(study)
    assert "loss spikes" in text
    assert "gradient spikes" not in text
    assert ">0.01<small>0 to 0.02</small>" in text


def test_two_pages_in_one_folder_have_figures_of_their_own(tmp_path: Path) -> None:
    for name in ("one.html", "two & three.html", "report.html"):
        write_page(facts(), tmp_path / name)
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"one-figures", "two & three-figures", "figures"}
    for name, folder in (("one.html", "one-figures"), ("two & three.html", "two%20%26%20three-figures")):
        links = [link for link in Parsed((tmp_path / name).read_text()).all("href") if link.endswith(".csv")]
        assert links
        assert all(link.startswith(f"{folder}/") for link in links)
