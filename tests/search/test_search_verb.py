"""`harness search` with real cells, start to end: what is printed, written and recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_support import STUDY, write_study
from tiny_support import TINY, fixed_text

from harness.cli import main
from harness.run.celldir import CellDir
from harness.tracking import Tracker
from harness.tracking_search import TAG_ENDED, TAG_PARENT, TAG_STUDY, TAG_TRIAL

pytestmark = pytest.mark.xdist_group("search_verb")  # what is run once for all tests is run in one process

SMALL = STUDY.replace("trials: 12", "trials: 5\nset: {train.validate_every: 3}").replace(
    "fresh: {top: 2, choose: [101, 102], report: [201, 202, 203]}", "fresh: {top: 2, choose: [101], report: [201, 202]}"
)


class Searched:
    """A finished search in a folder that every test only reads."""

    def __init__(self, folder: Path, said: str):
        self.folder, self.said = folder, said
        self.results = folder / "results"
        self.study = self.results / "search" / "planted"
        self.document: dict[str, Any] = json.loads((self.study / "result.json").read_text())["document"]

    def run(self, *words: str) -> int:
        return main([*words, "--results", str(self.results)])


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Searched:
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("searched")
    (folder / "corpus.txt").write_bytes(fixed_text())
    (folder / "tiny.yaml").write_text(TINY)
    path = write_study(folder, SMALL)
    (folder / "results").mkdir()
    shutil.copy(empty_store, folder / "results" / "mlflow.db")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["search", str(path), "--jobs", "2", "--results", str(folder / "results")])
    assert code == 0
    return Searched(folder, said.getvalue())


def test_it_prints_the_answer_the_best_again_and_the_budget(searched: Searched) -> None:
    assert "dhc-n2 against residual, both tuned by 5 trials: " in searched.said
    for arm in ("residual", "dhc-n2"):
        assert re.search(rf"^\| {arm} +\| +5/5 \|", searched.said, flags=re.MULTILINE)
        assert re.search(rf"^\| {arm} .*train\.lr=", searched.said, flags=re.MULTILINE)
    assert re.search(r"the search saw \|.* rise \| +curse \|", searched.said)
    assert str(searched.study / "report.html") in searched.said


def test_every_number_is_that_of_a_cell(searched: Searched) -> None:
    for arm in searched.document["arms"]:
        for trial in arm["trials"]:
            (folder,) = trial["cells"]
            cell = CellDir(searched.results / "cells" / folder)
            if trial["ended"] == "complete":
                assert trial["values"] == [cell.result()["metrics"]["validation/loss"]]
            else:
                step, value = list(trial["curve"].items())[-1]
                line = next(
                    one for one in cell.journal.lines() if one["kind"] == "validation" and one["step"] == int(step)
                )
                assert line["values"]["validation/loss"] == value, "a pruned trial keeps its curve"
            assert json.loads((cell.path / "config.json").read_text())["train"]["lr"] == trial["params"]["train.lr"]


def test_the_best_suite_is_ready_to_run_and_asks_for_the_cells_that_were_quoted(
    searched: Searched, capsys: pytest.CaptureFixture[str]
) -> None:
    best = str(searched.study / "best.yaml")
    assert searched.run("status", best, "evaluation.tasks=[]", "--json") == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {(cell["arm"], cell["seed"]) for cell in cells} == {
        (a, s) for a in ("residual", "dhc-n2") for s in (201, 202)
    }
    assert {cell["state"] for cell in cells} == {"done"}
    losses = {arm["arm"]: arm["best"]["report"]["loss"] for arm in searched.document["arms"]}
    assert all(cell["validation_loss"] == losses[cell["arm"]][str(cell["seed"])] for cell in cells)
    assert searched.run("plan", best) == 0
    assert "4 cells" in capsys.readouterr().out


def test_asked_again_it_says_the_same_and_trains_nothing(
    searched: Searched, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run import runner
    from harness.search import run

    for module in (runner, run):
        monkeypatch.setattr(module, "LocalExecutor", None)
    monkeypatch.setattr(Tracker, "connect", None)
    written = (searched.study / "report.html").stat().st_mtime_ns
    assert searched.run("search", str(searched.folder / "study.yaml")) == 0
    assert capsys.readouterr().out == searched.said
    assert searched.run("search", str(searched.folder / "study.yaml"), "--json") == 0
    assert json.loads(capsys.readouterr().out) == searched.document
    assert (searched.study / "report.html").stat().st_mtime_ns == written


def test_the_record_has_the_study_above_its_trials_above_their_cells(searched: Searched) -> None:
    tracker = Tracker(f"sqlite:///{searched.results / 'mlflow.db'}")
    runs = {run.info.run_id: run for run in tracker.runs("search/planted", "")}
    (study,) = [run for run in runs.values() if TAG_STUDY in run.data.tags]
    trials = [run for run in runs.values() if TAG_TRIAL in run.data.tags and "harness.cell" not in run.data.tags]
    assert {run.data.tags[TAG_PARENT] for run in trials} == {study.info.run_id}
    assert len(trials) == 10
    known = {f"{arm['arm']}/{trial['number']}": trial for arm in searched.document["arms"] for trial in arm["trials"]}
    for run in trials:
        trial = known[run.data.tags[TAG_TRIAL]]
        assert run.data.tags[TAG_ENDED] == trial["ended"]
        assert json.loads(run.data.params["train.lr"]) == trial["params"]["train.lr"]
        if trial["values"]:
            assert run.data.metrics["objective/loss"] == trial["values"][0]
    cells = [run for run in runs.values() if "harness.cell" in run.data.tags and TAG_TRIAL in run.data.tags]
    by_id = {run.info.run_id: run.data.tags[TAG_TRIAL] for run in trials}
    assert len(cells) == 10
    assert all(by_id[run.data.tags[TAG_PARENT]] == run.data.tags[TAG_TRIAL] for run in cells)
    assert study.info.status == "FINISHED"
    artifacts = {one.path for one in tracker.connect().list_artifacts(study.info.run_id)}
    assert {"history.png", "slices.png", "table.md", "report.html", "best.yaml"} <= artifacts
    best = {arm["arm"]: arm["best"]["estimate"]["mean"] for arm in searched.document["arms"]}
    assert study.data.metrics["best/fresh/residual"] == best["residual"]


def test_the_page_has_the_tables_and_every_figure_with_its_data(searched: Searched) -> None:
    page = (searched.study / "report.html").read_text()
    for text in (
        "Every parameter by itself",
        "Trials, and the best so far",
        "The winner&#x27;s curse",
        "both tuned by",
    ):
        assert text in page
    figures = searched.study / "figures"
    for name in ("history", "curse", "slices", "curves"):
        assert {path.suffix for path in figures.glob(f"{name}.*")} == {".svg", ".png", ".csv"}
    assert len((figures / "history.csv").read_text().splitlines()) == 11
    assert "<script" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_search_whose_cells_all_fail_ends_soon_in_one_line(
    tiny_suite: Callable[..., Path], tmp_path: Path, layout: Any, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from search_support import Planted

    from harness.search import run

    tiny_suite()
    broken = Planted(layout, fate=lambda cell, attempt: "error")
    monkeypatch.setattr(run, "LocalExecutor", lambda *_: broken)
    assert main(["search", str(write_study(tmp_path, SMALL))]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "harness: 3 trials failed one after another, the last: error: planted error" in said.err
    assert not (tmp_path / "results" / "search" / "planted" / "best.yaml").exists()
