"""harness report, from cells' directories to the page: what it prints, what it leaves alone, how it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_support import play
from report_support import diagnosed, facts

from harness.cli import main
from harness.data.load import load_data
from harness.report.facts import Invocation
from harness.report.gather import ReadOnce, budgets, environment_of
from harness.report.gather import diagnosed as diagnosed_cell
from harness.run.celldir import DIAGNOSTICS, HELD_OUT, write_json
from harness.run.layout import Layout
from harness.suite.cells import Cell, cells
from harness.suite.file import load_suite
from harness.tracking import Record

Write = Callable[..., Path]


@pytest.fixture
def suite(tiny_suite: Write, layout: Layout) -> Path:
    """A suite whose cells are done, as far as their directories and the record tell."""
    path = tiny_suite()
    for cell in _cells(path):
        _finish(layout, cell)
    return path


def _cells(path: Path) -> list[Cell]:
    suite = load_suite(path)
    return cells(suite, load_data(suite.data, path.parent), path.parent)


def _finish(layout: Layout, cell: Cell) -> None:
    play(layout, cell, loss=3.0 + 0.1 * cell.seed - (0.05 if cell.arm == "dhc-n2" else 0.0))
    folder = layout.cell(cell).path
    digests = {"batches": f"b{cell.seed}", "validation": "v", "shared_weights": f"w{cell.seed}"}
    write_json(folder / "result.json", {"metrics": {}, "digests": digests})
    write_json(folder / "environment.json", {"python": "3.11.4", "torch": "2.13.0", "cpu": "a <CPU>"})
    write_json(folder / DIAGNOSTICS, diagnosed(cell.config["connection"], cell.seed, layers=2))


def test_it_writes_the_page_and_says_where(suite: Path, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(suite)]) == 0
    path = layout.root / "suites" / "tiny" / "report" / "report.html"
    assert capsys.readouterr().out == f"report: {path}\n"
    text = path.read_text(encoding="utf-8")
    for cell in _cells(suite):
        assert f"cells/{cell.folder}" in text
        assert f"-k &#x27;arm={cell.arm} and seed={cell.seed}&#x27;" in text
    assert "a &lt;CPU&gt;" in text
    assert "4 of 4 finished; seeds 1, 2" in text
    assert (path.parent / "figures" / "maps.svg").exists()
    run_ids = {record.run_id for record in layout.tracker().read("tiny")}
    assert len(run_ids) == 4
    assert all(run in text for run in run_ids)


def test_it_is_made_again_only_when_something_changed(suite: Path, layout: Layout) -> None:
    assert main(["report", str(suite)]) == 0
    path = layout.root / "suites" / "tiny" / "report" / "report.html"
    first = path.stat().st_mtime_ns
    assert main(["report", str(suite)]) == 0
    assert path.stat().st_mtime_ns == first
    cell = _cells(suite)[0]
    (layout.cell(cell).path / DIAGNOSTICS).unlink()
    assert main(["report", str(suite)]) == 0
    second = path.stat().st_mtime_ns
    assert second > first
    (path.parent / "figures" / "answer.csv").unlink()
    assert main(["report", str(suite)]) == 0
    assert (path.parent / "figures" / "answer.csv").exists()


def test_a_figure_that_no_longer_is_drawn_does_not_stay(suite: Path, layout: Layout) -> None:
    assert main(["report", str(suite)]) == 0
    folder = layout.root / "suites" / "tiny" / "report" / "figures"
    assert (folder / "maps.png").exists()
    for cell in _cells(suite):
        (layout.cell(cell).path / DIAGNOSTICS).write_text("{}")
    assert main(["report", str(suite)]) == 0
    assert not (folder / "maps.png").exists()
    assert (folder / "answer.png").exists()


def test_another_file_and_a_selection_leave_the_whole_report_alone(suite: Path, layout: Layout, tmp_path: Path) -> None:
    output = tmp_path / "out" / "page.html"
    output.parent.mkdir()
    assert main(["report", str(suite), "-o", str(output)]) == 0
    assert output.exists()
    assert not (layout.root / "suites" / "tiny" / "report").exists()
    assert main(["report", str(suite), "-k", "seed=1"]) == 0
    page = (layout.root / "suites" / "tiny" / "selection" / "report" / "report.html").read_text()
    assert "2 of 2 finished; seeds 1" in page
    assert "harness report" in page
    assert not (layout.root / "suites" / "tiny" / "report").exists()


@pytest.mark.parametrize("place", ["none/report.html", "."])
def test_what_cannot_be_written_is_one_line_and_exit_code_2(
    place: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(suite), "--output", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: the report cannot be written to")
    assert said.count("\n") == 1


def test_without_a_finished_cell_there_is_nothing_to_report(
    tiny_suite: Write, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tiny_suite())]) == 3
    said = capsys.readouterr().err
    assert "no cell of 'tiny' is finished" in said
    assert said.count("\n") == 1


def test_the_baseline_is_one_of_the_arms(suite: Path, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(suite), "--baseline", "dhc"]) == 2
    assert "did you mean 'dhc-n2'?" in capsys.readouterr().err
    assert main(["report", str(suite), "--baseline", "dhc-n2"]) == 0
    page = (layout.root / "suites" / "tiny" / "report" / "report.html").read_text()
    assert "Δ to dhc-n2" in page
    assert "--baseline dhc-n2" in page


@pytest.mark.parametrize(
    "text", ['{"format": 1, "ste', '{"format": 1, "steps": [{}], "end": {}}', '{"steps": 3}', "[]"]
)
def test_a_torn_diagnostics_file_costs_its_own_figures_alone(text: str, suite: Path, layout: Layout) -> None:
    for cell in _cells(suite):
        (layout.cell(cell).path / DIAGNOSTICS).write_text(text)
    assert main(["report", str(suite)]) == 0
    page = (layout.root / "suites" / "tiny" / "report" / "report.html").read_text()
    assert "No diagnostics are recorded" in page


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"losses": ["a"], "sizes": [1]}'])
def test_held_out_losses_that_are_none_are_one_line_and_exit_code_2(
    text: str, suite: Path, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layout.cell(_cells(suite)[0]).path / HELD_OUT
    path.write_text(text)
    assert main(["compare", str(suite)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"harness: {path}: ")
    assert said.count("\n") == 1


def test_costs_that_cannot_be_read_are_named_and_the_record_is_not_blamed(
    suite: Path, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layout.suite("tiny") / "costs.json"
    path.write_text('{"format": 1, "measured"')
    assert main(["compare", str(suite)]) == 2
    assert capsys.readouterr().err.startswith(f"harness: {path}: cannot be read")


def test_folders_that_cannot_be_made_are_named(
    suite: Path, layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page-figures").write_text("a file")
    assert main(["report", str(suite), "--output", str(tmp_path / "page.html")]) == 2
    assert f"cannot be written to {tmp_path / 'page-figures'}" in capsys.readouterr().err
    (layout.suite("tiny") / "report").write_text("a file")
    assert main(["report", str(suite)]) == 2
    assert f"{layout.suite('tiny') / 'report'}: cannot be made" in capsys.readouterr().err


def test_diagnostics_come_from_the_record_where_the_cells_are_gone(suite: Path, layout: Layout) -> None:
    assert main(["report", str(suite)]) == 0
    cell = _cells(suite)[0]
    tracker = layout.tracker()
    (run,) = [record.run_id for record in tracker.read("tiny") if record.cell == cell.identity]
    shutil.rmtree(layout.cell(cell).path)
    found = diagnosed_cell(layout, tracker, cell, run)
    assert found is not None
    assert found["end"]["matrix"]
    assert tracker.artifact(run, "nothing.json") is None
    shutil.rmtree(layout.root / "artifacts")
    assert tracker.artifact(run, DIAGNOSTICS) is None, "a folder that was moved"


def test_a_command_quotes_what_a_shell_would_change() -> None:
    asked = Invocation(suite="my suite.yaml", overrides=("seeds=[1,2]",), smoke=True, results="a b", expression="dhc")
    assert asked.command("run", "arm=x and seed=1") == (
        "harness run 'my suite.yaml' 'seeds=[1,2]' -k 'arm=x and seed=1' --smoke --results 'a b'"
    )
    assert asked.command("report", None, "--force") == (
        "harness report 'my suite.yaml' 'seeds=[1,2]' -k dhc --smoke --results 'a b' --force"
    )


def test_the_store_is_asked_once_for_what_was_read(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    plain = layout.tracker()
    monkeypatch.setattr(type(plain), "read", lambda self, name: asked.append(name) or [])
    monkeypatch.setattr(type(plain), "history", lambda self, *what: asked.append(what) or [])
    tracker = ReadOnce(plain)
    for _ in range(3):
        tracker.read("study")
        tracker.history("run", "loss")
    assert asked == ["study", ("run", "loss")]


def test_an_environment_is_told_in_words_with_what_was_changed_since() -> None:
    tags = {
        "python": "3.11.4",
        "torch": None,
        "cpu": "a CPU",
        "gpus": ["H100"],
        "code": {"commit": "c" * 40, "dirty": True},
    }
    known = {f"harness.env.{name}": json.dumps(value) for name, value in tags.items()}
    record = Record(run_id="r", cell="c", evaluations=(), tags=known, metrics={})
    assert environment_of(record) == {
        "python": "3.11.4", "hardware": "H100", "commit": f"{'c' * 12}, changed since",
    }  # fmt: skip


def test_budgets_are_relative_to_the_baselines_whole_run() -> None:
    (study,) = facts().studies
    records = {
        row.arm: {1: Record(run_id="r", cell="c", evaluations=(), tags={}, metrics={"train/tokens": 100.0})}
        for row in study.table.rows
    }
    records["dhc-n4"] = {1: Record(run_id="r", cell="c", evaluations=(), tags={}, metrics={"train/tokens": 50.0})}
    found = budgets(study.table, records)
    assert found["residual"].time == 1.0
    assert found["shc-n2"].time == pytest.approx(1 / 0.78)
    assert found["dhc-n4"].time == pytest.approx(0.5 / 0.58), "half the tokens"
    assert found["dhc-n4"].flops is None
