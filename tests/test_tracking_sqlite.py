"""The shortcut to a record in MLflow's sqlite file says what MLflow says, and is not taken where it was not tried."""

from __future__ import annotations

import gc
import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from record_support import ENTRY, journal

from harness import tracking_sqlite
from harness.tracking import Tracker
from harness.tracking_sqlite import KNOWN, experiment, runs


@pytest.fixture
def filled(tracker: Tracker) -> tuple[Tracker, str]:
    """A record with runs of several kinds: with odd numbers, without metrics, deleted, of another experiment."""
    client: MlflowClient = tracker.connect()
    own, other = client.create_experiment("own"), client.create_experiment("other")
    for number, value in enumerate((1.5, math.nan, math.inf, -math.inf)):
        run = client.create_run(own, tags={"harness.cell": f"c{number}", "odd": "'; --"}, start_time=1000 - number)
        for step in (1, 2):
            client.log_metric(run.info.run_id, "validation/loss", value + step, step=step)
    client.create_run(own, tags={"harness.cell": "bare"}, start_time=5)
    client.delete_run(client.create_run(own, tags={"harness.cell": "gone"}).info.run_id)
    client.create_run(other, tags={"harness.cell": "stranger"})
    return tracker, own


def test_several_processes_make_a_fresh_store_together(tmp_path: Path) -> None:
    code = f"from harness.tracking import Tracker; Tracker('sqlite:///{tmp_path / 'mlflow.db'}').connect()"
    made = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in made:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_it_says_what_mlflow_says_in_the_same_order(filled: tuple[Tracker, str]) -> None:
    tracker, own = filled
    found, asked = runs(tracker.uri, own), tracker._asked(own)
    assert found is not None
    assert [run.tags["harness.cell"] for run in found] == ["bare", "c3", "c2", "c1", "c0"]
    assert [(run.run_id, run.tags) for run in found] == [(run.run_id, run.tags) for run in asked]
    for mine, theirs in zip(found, asked, strict=True):
        assert mine.metrics == pytest.approx(theirs.metrics, nan_ok=True)
    assert [record.cell for record in tracker.read("own")] == ["bare", "c3", "c2", "c1", "c0"]


def test_an_experiment_is_known_by_name_unless_it_is_deleted(filled: tuple[Tracker, str]) -> None:
    tracker, own = filled
    assert experiment(tracker.uri, "own") == own
    assert experiment(tracker.uri, "nobody's") is None
    tracker.connect().delete_experiment(own)
    assert experiment(tracker.uri, "own") is None


def test_runs_with_a_tag_are_those_that_mlflow_finds(filled: tuple[Tracker, str]) -> None:
    tracker, own = filled
    found = runs(tracker.uri, own, "odd")
    assert found is not None
    asked = tracker.connect().search_runs([own], "tags.odd != ''", order_by=["attributes.start_time ASC"])
    assert [run.run_id for run in found] == [run.info.run_id for run in asked]
    assert len(found) == 4 < len(runs(tracker.uri, own) or ())


def test_the_pinned_mlflow_has_a_schema_that_is_known(tracker: Tracker) -> None:
    tracker.connect()
    with sqlite3.connect(tracker.uri.removeprefix("sqlite:///")) as store:
        assert {name for (name,) in store.execute("SELECT version_num FROM alembic_version")} <= KNOWN


def test_another_schema_another_store_and_a_file_that_is_none_have_no_shortcut(
    filled: tuple[Tracker, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, own = filled
    assert runs("http://127.0.0.1:5000", own) is experiment("http://127.0.0.1:5000", "own") is None
    (tmp_path / "text.db").write_text("this is no database")
    assert runs(f"sqlite:///{tmp_path / 'text.db'}", own) is None
    assert runs(f"sqlite:///{tmp_path / 'nowhere.db'}", own) is None
    assert not (tmp_path / "nowhere.db").exists(), "nothing is made by reading"
    monkeypatch.setattr(tracking_sqlite, "KNOWN", frozenset({"another"}))
    assert runs(tracker.uri, own) is experiment(tracker.uri, "own") is None
    assert len(tracker.read("own")) == 5, "MLflow is asked instead"


def test_a_table_that_is_not_as_known_is_no_error(filled: tuple[Tracker, str]) -> None:
    tracker, own = filled
    with sqlite3.connect(tracker.uri.removeprefix("sqlite:///")) as store:
        store.execute("ALTER TABLE latest_metrics RENAME COLUMN is_nan TO not_a_number")
    assert runs(tracker.uri, own) is None


def test_reading_turns_the_pages_and_takes_no_other_experiment(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        tracker.write(replace(ENTRY, cell=f"cell{number}"), journal(1), "done")
    tracker.write(replace(ENTRY, experiment="another"), journal(1), "done")
    search_runs = tracker.connect().search_runs
    pages: list[int] = []

    def small(*arguments: Any, **options: Any) -> Any:
        pages.append(1)
        return search_runs(*arguments, **{**options, "max_results": 2})

    monkeypatch.setattr(tracking_sqlite, "KNOWN", frozenset())
    monkeypatch.setattr(tracker.connect(), "search_runs", small)
    assert [record.cell for record in tracker.read("study")] == [f"cell{number}" for number in range(5)]
    assert len(pages) == 3


def test_pythons_collector_rests_while_the_record_is_read_and_not_after_it_even_where_that_fails(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.write(ENTRY, journal(1), "done")
    search_runs = tracker.connect().search_runs
    during: list[bool] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        during.append(gc.isenabled())
        if len(during) == 2:
            raise ConnectionError
        return search_runs(*arguments, **options)

    monkeypatch.setattr(tracking_sqlite, "KNOWN", frozenset())
    monkeypatch.setattr(tracker.connect(), "search_runs", watched)
    tracker.read("study")
    assert gc.isenabled()
    with pytest.raises(ConnectionError):
        tracker.read("study")
    assert gc.isenabled()
    assert during == [False, False]
