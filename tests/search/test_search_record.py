"""The record of a search in MLflow when things go wrong: what was missed is written later, and once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_support import Lost, Search, result_of

from harness.run.layout import Layout
from harness.search.source import SearchSource
from harness.tracking import Tracker
from harness.tracking_search import TAG_ENDED, TAG_STUDY, TAG_TRIAL

CONNECT = Tracker.connect
Study = Callable[..., Path]
FEW = {"trials: 12": "trials: 6", "arms: [residual, dhc-n2]": "arms: [residual]", "top: 2": "top: 1"}


def runs(layout: Layout) -> tuple[list[Any], list[Any], list[Any]]:
    """(studies, trials, cells of trials)."""
    found = layout.tracker().runs("search/planted", "")
    cells = [run for run in found if "harness.cell" in run.data.tags and TAG_TRIAL in run.data.tags]
    trials = [run for run in found if TAG_TRIAL in run.data.tags and run not in cells]
    return [run for run in found if TAG_STUDY in run.data.tags], trials, cells


def test_what_a_tracker_missed_that_was_down_is_written_when_the_search_is_asked_again(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(**FEW)
    first, _ = search(path)
    assert first.code == 0
    said = capsys.readouterr().err
    assert "does not answer" in said
    assert "Traceback" not in said
    monkeypatch.setattr(Tracker, "connect", CONNECT)
    for _ in range(2):
        again, executor = search(path)
        assert (again.text, executor.started) == (first.text, [])
    studies, trials, cells = runs(layout)
    assert (len(studies), len(trials), len(cells)) == (1, 6, 6)
    (arm,) = result_of(layout, "planted")["arms"]
    assert {run.data.tags[TAG_TRIAL]: run.data.tags[TAG_ENDED] for run in trials} == {
        f"residual/{trial['number']}": trial["ended"] for trial in arm["trials"]
    }
    pruned = [trial["number"] for trial in arm["trials"] if trial["ended"] == "pruned"]
    status = {run.data.tags[TAG_TRIAL]: run.info.status for run in cells}
    assert status == {f"residual/{number}": "KILLED" if number in pruned else "FINISHED" for number in range(6)}


def test_a_trial_that_was_given_up_is_recorded_as_killed_and_none_is_left_running(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study(**FEW)
    monkeypatch.setattr(Tracker, "connect", CONNECT)
    monkeypatch.setattr("harness.run.loop.RECORD_EVERY_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(SearchSource, "give_up", lambda self: None)
        with pytest.raises(Lost):
            search(path, die_at=6)
    search(path)
    _, trials, _ = runs(layout)
    ended = {run.data.tags[TAG_TRIAL]: (run.info.status, run.data.tags.get(TAG_ENDED)) for run in trials}
    assert [status for status, how in ended.values() if how is None] == ["KILLED"]
    assert len(ended) == 7
    assert "RUNNING" not in {status for status, _ in ended.values()}
