"""Searches over a planted objective in which something goes wrong: budgets and verdicts stay true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import ARMS, Planted, Search, result_of, running, told, trials_of

from harness.run.layout import Layout
from harness.search import run
from harness.search.file import StudyFile
from harness.suite.cells import Cell

Study = Callable[..., Path]


def test_a_trial_that_diverges_counts_is_learnt_from_and_never_wins(
    study: Study, search: Search, layout: Layout
) -> None:
    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.config["train"]["lr"] > 1e-2 else None

    answer, _ = search(study(), fate=fate)
    assert answer.code == 0, "a bad setting is an answer"
    arms = result_of(layout, "planted")["arms"]
    ended = [trial["ended"] for arm in arms for trial in arm["trials"]]
    assert "diverged" in ended
    assert [len(arm["trials"]) for arm in arms] == [12, 12]
    assert all(arm["best"]["params"]["train.lr"] <= 1e-2 for arm in arms)
    assert "diverged" in answer.text


def test_a_cell_that_fails_is_tried_again_and_then_counts_as_failed(
    study: Study, search: Search, layout: Layout
) -> None:
    def fate(cell: Cell, attempt: int) -> int | str | None:
        if cell.name == "residual-t3-s1":
            return "error"
        return -9 if cell.name == "dhc-n2-t2-s1" and attempt == 1 else None

    answer, executor = search(study(), fate=fate)
    assert answer.code == 1
    assert executor.started.count("residual-t3-s1") == 2
    assert executor.started.count("dhc-n2-t2-s1") == 2
    arms = {arm["arm"]: arm for arm in result_of(layout, "planted")["arms"]}
    assert [trial["ended"] for trial in arms["residual"]["trials"]].count("failed") == 1
    assert len(arms["residual"]["trials"]) == 12
    assert "failed" not in [trial["ended"] for trial in arms["dhc-n2"]["trials"]]


def test_a_cell_without_memory_beside_others_is_tried_again_alone(study: Study, search: Search, layout: Layout) -> None:
    beside: list[int] = []

    def fate(cell: Cell, attempt: int) -> str | None:
        if cell.name != "dhc-n2-t3-s1":
            return None
        beside.append(len(executor.workers))
        return "memory" if len(executor.workers) > 1 else None

    path = study()
    executor = Planted(layout, 3, fate=fate)
    file = StudyFile(path, [])
    answer = run.search(file, file.resolve(), layout, run.SearchOptions(jobs=3), "again", lambda: executor)
    assert beside[0] > 1
    assert set(beside[1:]) == {1}
    assert "failed" not in {trial["ended"] for arm in answer.document["arms"] for trial in arm["trials"]}


def test_an_arm_without_a_complete_trial_is_said_and_drawn(study: Study, search: Search, layout: Layout) -> None:
    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.config["connection"]["type"] == "hyper" else None

    answer, _ = search(study(), fate=fate)
    arms = {arm["arm"]: arm for arm in answer.document["arms"]}
    assert arms["dhc-n2"]["best"]["trial"] is None
    assert (arms["dhc-n2"]["delta"], arms["dhc-n2"]["verdict"]) == (None, None)
    assert arms["residual"]["best"]["trial"] is not None
    assert (layout.root / "search" / "planted" / "report.html").exists()


def test_a_best_setting_that_diverges_on_a_quoted_seed_is_named_and_not_judged(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run import runner

    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.name == "dhc-n2-s202" else None

    path = study()
    file = StudyFile(path, ["trials=24"])
    monkeypatch.setattr(runner, "LocalExecutor", lambda _, jobs, relative_to: Planted(layout, jobs, fate=fate))
    answer = run.search(file, file.resolve(), layout, run.SearchOptions(), "again", lambda: Planted(layout))
    arm = next(arm for arm in answer.document["arms"] if arm["arm"] == "dhc-n2")
    assert answer.code == 1
    assert arm["best"]["lost"] == [202]
    assert arm["verdict"] is None
    assert "not judged, for seeds were lost" in answer.text
    assert "the best found of dhc-n2 has no value on seed 202" in answer.text
    assert "(2 of 3)" in answer.text


def test_trials_that_fail_one_after_another_end_the_search_and_are_tried_again_when_asked(
    study: Study, search: Search, layout: Layout
) -> None:
    from harness.errors import HarnessError

    path = study()
    with pytest.raises(HarnessError, match="3 trials failed one after another, the last: error: planted error"):
        search(path, fate=lambda cell, attempt: "error")
    assert running(layout) == []
    healed, _ = search(path, retry_failed=True)
    assert healed.code == 0
    assert all(len(arm["trials"]) == 12 for arm in healed.document["arms"])
    assert "failed" not in {trial["ended"] for arm in healed.document["arms"] for trial in arm["trials"]}


def test_a_parent_that_was_taken_for_dead_leaves_the_trial_to_the_other(
    study: Study, search: Search, layout: Layout
) -> None:
    from harness.search.source import SearchSource

    path = study()
    taken: list[int] = []

    class Suspended(Planted):
        def finished(self, timeout: float) -> list[tuple[Cell, int]]:
            if self.looks == 4:
                trial = trials_of(layout, "planted", "residual")[-1]
                taken.append(trial.number)
                (source,) = SOURCES
                active = source._active[0]
                active.arm.give_up(active.arm.all()[active.trial.number], "its parent died", again=True)
            return super().finished(timeout)

    SOURCES: list[SearchSource] = []
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(run, "SearchSource", lambda *arguments: SOURCES.append(SearchSource(*arguments)) or SOURCES[0])
        file = StudyFile(path, [])
        answer = run.search(file, file.resolve(), layout, run.SearchOptions(), "again", lambda: Suspended(layout))
    assert taken
    assert answer.code == 0
    assert [len(told(layout, "planted", arm)) for arm in ARMS] == [12, 12]


def test_a_storage_that_stops_answering_is_said_in_a_line_and_the_search_goes_on_from_there(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    from harness.errors import HarnessError
    from harness.search.trials import ArmTrials

    def gone(*_: object) -> None:
        raise optuna.exceptions.StorageInternalError("the server closed the connection\nand more")

    path = study()
    with monkeypatch.context() as patched:
        patched.setattr(run, "try_out", lambda *_: None)
        patched.setattr(ArmTrials, "tell", gone)
        patched.setattr(ArmTrials, "give_up", gone)
        with pytest.raises(HarnessError, match="does not answer any more") as caught:
            search(path)
    assert "\n" not in str(caught.value)
    assert search(path)[0].code == 0
    assert running(layout) == []
    assert [len(told(layout, "planted", arm)) for arm in ARMS] == [12, 12]
