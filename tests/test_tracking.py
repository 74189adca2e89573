"""The record in a real sqlite MLflow: every journal line once, whatever was down, killed, or written twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_support import ENTRY, Line, journal, play
from sqlalchemy.engine import make_url

from harness.data.documents import Corpus, Document
from harness.run.celldir import write_json
from harness.run.layout import Layout
from harness.run.recording import Recorder, catch_up, entry, replay
from harness.suite.cells import Cell, cells
from harness.suite.file import load_suite
from harness.tracking import BATCH, TAG_BORN, TAG_SCORED, TAG_SEEN, TAG_STATE, Tracker, tracking_uri

CORPUS = Corpus("fake", (Document("a", b"train"),), (Document("b", b"valid"),))


@pytest.fixture
def made(tiny_suite: Callable[..., Path]) -> list[Cell]:
    return cells(load_suite(tiny_suite()), CORPUS)


def history(tracker: Tracker, run: str, metric: str = "loss") -> list[tuple[int, float, int]]:
    """Every stored point, doubles included, which Tracker.history would hide."""
    return sorted((p.step, p.value, p.timestamp) for p in tracker.connect().get_metric_history(run, metric))


def points(lines: list[Line]) -> list[tuple[int, float, int]]:
    return [(line["step"], line["values"]["loss"], line["time"]) for line in lines]


def test_writing_the_same_lines_twice_changes_nothing(layout: Layout) -> None:
    lines = journal(5)
    for _ in range(2):
        layout.tracker().write(ENTRY, lines, "running")
        tracker = layout.tracker()
        tracker.write(ENTRY, lines, "running")
        [record] = tracker.read("study")
        assert history(tracker, record.run_id) == points(lines)
        assert record.tags[TAG_SEEN] == '{"train": 5}'


def test_a_run_goes_on_after_the_lines_that_it_has_seen_and_never_looks_at_them_again(layout: Layout) -> None:
    layout.tracker().write(ENTRY, journal(4), "running")
    forged = [{**line, "time": 9, "values": {"loss": -1.0}} for line in journal(4)]
    tracker = layout.tracker()
    tracker.write(ENTRY, forged + journal(3, first=4), "running")
    tracker.write(ENTRY, journal(9), "done")
    [record] = tracker.read("study")
    assert history(tracker, record.run_id) == points(journal(9))
    assert tracker.history(record.run_id, "loss") == [(step, value) for step, value, _ in points(journal(9))]
    assert record.metrics["loss"] == pytest.approx(4.2)


def test_a_kill_between_metrics_and_their_count_leaves_no_doubles(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = layout.tracker()
    tracker.write(ENTRY, journal(2), "running")
    log_batch = tracker.connect().log_batch

    def killed(run_id: str, **what: Any) -> None:
        if "tags" in what:
            raise KeyboardInterrupt
        log_batch(run_id, **what)

    monkeypatch.setattr(tracker.connect(), "log_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        tracker.write(ENTRY, journal(6), "running")
    again = layout.tracker()
    again.write(ENTRY, journal(6), "done")
    [record] = again.read("study")
    assert history(again, record.run_id) == points(journal(6))


def test_scores_of_every_evaluation_join_the_cells_one_run_each_once(tracker: Tracker, layout: Layout) -> None:
    lines = [*journal(2), *journal(1, 2, "scores", evaluation="e1")]
    more = [*lines, *journal(1, 3, "scores", evaluation="e2-d")]
    tracker.write(ENTRY, lines, "done")
    for _ in range(2):
        layout.tracker().write(ENTRY, more, "done")
    [record] = tracker.read("study")
    assert record.evaluations == ("e1", "e2-d")
    assert history(tracker, record.run_id) == points(more)
    assert [record.was_asked(key) for key in ("e1", "e2-d", "e2", "e2-x", "e")] == [True, True, True, False, False]


def test_samples_are_kept_with_the_evaluation_that_they_are_of_and_stamps_as_tags(
    tracker: Tracker, tmp_path: Path
) -> None:
    from mlflow.artifacts import download_artifacts

    (tmp_path / "piqa.jsonl.gz").write_bytes(b"samples")
    entry = replace(
        ENTRY,
        samples={"e1": (tmp_path / "piqa.jsonl.gz",), "e2": ()},
        tags={f"{TAG_SCORED}task{i}:100": "{}" for i in range(150)},
    )
    tracker.write(entry, journal(1, 2, "scores", evaluation="e1"), "done")
    [record] = tracker.read("study")
    assert sum(name.startswith(TAG_SCORED) for name in record.tags) == 150
    path = download_artifacts(run_id=record.run_id, artifact_path="samples-e1/piqa.jsonl.gz", tracking_uri=tracker.uri)
    assert Path(path).read_bytes() == b"samples"


def test_a_cell_trained_anew_gets_a_run_of_its_own_and_the_oldest_is_read_first(tracker: Tracker) -> None:
    tracker.write(ENTRY, journal(2), "done")
    tracker.write(replace(ENTRY, born="2"), journal(3), "done")
    tracker.write(replace(ENTRY, cell="other"), journal(1), "failed")
    records = tracker.read("study")
    assert [(record.cell, record.tags[TAG_BORN]) for record in records] == [
        ("c0ffee", "1"),
        ("c0ffee", "2"),
        ("other", "1"),
    ]
    assert [len(history(tracker, record.run_id)) for record in records] == [2, 3, 1]


def test_a_run_has_its_name_tags_parameters_state_and_artifacts(
    layout: Layout, tracker: Tracker, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    files = (tmp_path / "config.json", tmp_path / "missing.json")
    rich = replace(ENTRY, params={"lr": "0.1", "long": "x" * 9000}, tags={"long": "y" * 9000}, artifacts=files)
    for state, status in (("running", "RUNNING"), ("done", "FINISHED"), ("failed", "FAILED")):
        tracker.write(replace(rich, born=state), journal(1), state)
        run = tracker.connect().get_run(tracker.read("study")[-1].run_id)
        assert (run.info.run_name, run.info.status, run.data.tags[TAG_STATE]) == ("dhc-s1", status, state)
        assert (run.data.params["lr"], len(run.data.params["long"])) == ("0.1", 6000)
    found = [path.name for path in (layout.root / "artifacts").rglob("*.json")]
    assert found == ["config.json"] * 2, "kept beside the database, and only of what is finished"


def test_more_lines_than_a_request_takes_are_all_written(tracker: Tracker) -> None:
    lines = journal(BATCH + 1)
    tracker.write(ENTRY, lines, "running")
    assert history(tracker, tracker.read("study")[0].run_id) == points(lines)


def test_an_unknown_experiment_has_no_records_and_reading_does_not_make_it(tracker: Tracker) -> None:
    assert tracker.read("nowhere") == []
    assert tracker.connect().get_experiment_by_name("nowhere") is None


def test_runs_of_other_programs_in_the_experiment_are_left_out(tracker: Tracker) -> None:
    tracker.write(ENTRY, journal(1), "done")
    client = tracker.connect()
    client.create_run(client.get_experiment_by_name("study").experiment_id)
    assert [record.cell for record in tracker.read("study")] == ["c0ffee"]


def test_the_store_is_a_file_in_the_results_unless_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert tracking_uri(tmp_path) == Layout(tmp_path).tracker().uri == "http://tracker:5000"


def test_finished_cells_are_caught_up_from_their_journals_once(
    layout: Layout, tracker: Tracker, made: list[Cell]
) -> None:
    play(layout, made[0], loss=3.0)
    play(layout, made[1], loss=2.5)
    play(layout, made[2], state="stopped")
    caught_up, missing = catch_up(layout, tracker, "tiny", made)
    assert (caught_up, missing) == (tracker.read("tiny"), 2)
    assert catch_up(layout, layout.tracker(), "tiny", made) == (caught_up, 0)
    records = {record.cell: record for record in caught_up}
    assert records.keys() == {made[0].identity, made[1].identity}
    found = records[made[1].identity]
    assert found.metrics == {"train/loss": 3.5, "validation/loss": 2.5, "eval/cloze/acc": 0.5}
    assert (found.tags[TAG_STATE], found.tags["harness.digest.batches"], found.tags["harness.seed"]) == (
        "done",
        "b1",
        "1",
    )
    params = tracker.connect().get_run(found.run_id).data.params
    assert (params["connection.rate"], params["train.lr"], found.tags["harness.arm"], params["seed"]) == (
        "2",
        "0.001",
        "dhc-n2",
        "1",
    )
    assert catch_up(layout, tracker, "another suite", made)[1] == 2, "every suite has a record of its own"


def test_a_cell_that_was_half_recorded_is_completed_and_not_doubled(
    layout: Layout, tracker: Tracker, made: list[Cell]
) -> None:
    play(layout, made[0], state="stopped")
    replay(layout, tracker, "tiny", made[0])
    assert [record.tags[TAG_STATE] for record in tracker.read("tiny")] == ["stopped"]
    layout.cell(made[0]).journal.rewind(2)
    play(layout, made[0])
    assert catch_up(layout, layout.tracker(), "tiny", made)[1] == 1
    [record] = tracker.read("tiny")
    assert record.tags[TAG_STATE] == "done"
    assert record.metrics["eval/cloze/acc"] == 0.5
    assert catch_up(layout, tracker, "tiny", made)[1] == 0
    play(layout, made[0], born=8)
    assert catch_up(layout, tracker, "tiny", made)[1] == 1, "trained anew"
    assert len(tracker.read("tiny")) == 2


def test_a_cell_that_was_never_started_is_not_recorded(layout: Layout, tracker: Tracker, made: list[Cell]) -> None:
    replay(layout, tracker, "tiny", made[0])
    assert tracker.read("tiny") == []


def test_the_recorder_writes_everything_submitted_before_it_closes(
    layout: Layout, tracker: Tracker, made: list[Cell]
) -> None:
    warnings: list[str] = []
    recorder = Recorder(tracker, lambda cell: replay(layout, tracker, "tiny", cell), warnings.append)
    for cell in made[:2]:
        play(layout, cell)
        recorder.submit(cell)
    recorder.close()
    assert warnings == []
    assert [record.cell for record in layout.tracker().read("tiny")] == [cell.identity for cell in made[:2]]


def test_a_tracker_that_is_down_is_said_once_stops_nothing_and_loses_nothing(
    layout: Layout, made: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    down = Tracker("http://127.0.0.1:9")
    recorder = Recorder(down, lambda cell: replay(layout, down, "tiny", cell), warnings.append)
    for cell in made:
        play(layout, cell)
        recorder.submit(cell)
    recorder.close()
    recorder.submit(made[0])
    assert len(warnings) == 1
    assert warnings[0].startswith("MLflow at http://127.0.0.1:9 does not answer")
    assert "\n" not in warnings[0]
    assert recorder.error is not None
    assert catch_up(layout, layout.tracker(), "tiny", made)[1] == len(made)


@pytest.mark.parametrize("change", ["threads", "log_every", "arm"])
def test_a_half_done_cell_can_be_resumed_with_what_is_not_its_identity_changed(
    layout: Layout, tracker: Tracker, made: list[Cell], change: str
) -> None:
    play(layout, made[0], state="stopped")
    replay(layout, tracker, "tiny", made[0])
    train = {**made[0].config["train"], change: 7}
    other = {"arm": "renamed"} if change == "arm" else {"config": {**made[0].config, "train": train}}
    replay(layout, tracker, "tiny", replace(made[0], **other))
    assert len(tracker.read("tiny")) == 1, "the same run goes on"


def test_a_cell_resumed_with_fewer_lines_than_the_record_has_seen_still_records_its_end(
    layout: Layout, tracker: Tracker, made: list[Cell]
) -> None:
    directory = layout.cell(made[0])
    directory.path.mkdir(parents=True)
    directory.update_status(state="stopped", attempts=1, born=7)
    for step in range(1, 30):
        directory.journal.write("train", step, {"train/loss": 4.0})
    directory.journal.close()
    replay(layout, tracker, "tiny", made[0])
    directory.journal.rewind(0)  # back to its checkpoint, then on with a larger log_every
    play(layout, made[0], loss=2.0)
    replay(layout, tracker, "tiny", made[0])
    [record] = tracker.read("tiny")
    assert (record.tags[TAG_STATE], record.metrics["validation/loss"]) == ("done", 2.0)


def test_a_failure_that_the_tracker_missed_is_caught_up(layout: Layout, tracker: Tracker, made: list[Cell]) -> None:
    play(layout, made[0], state="failed")
    catch_up(layout, tracker, "tiny", made)
    assert [record.tags[TAG_STATE] for record in tracker.read("tiny")] == ["failed"]


@pytest.mark.parametrize(
    "folder",
    ["with space", "50%", "naïve"],
)
def test_the_store_is_found_in_a_folder_of_any_name(folder: str, tmp_path: Path) -> None:
    assert make_url(tracking_uri(tmp_path / folder)).database == str(tmp_path / folder / "mlflow.db")


def test_the_entry_of_a_cell_tells_where_it_came_from(layout: Layout, made: list[Cell]) -> None:
    play(layout, made[1])
    write_json(layout.cell(made[1]).path / "environment.json", {"python": "3.11"})
    found = entry(layout, "tiny", made[1])
    assert (found.experiment, found.name, found.cell, found.born) == ("tiny", "dhc-n2-s1", made[1].identity, "7")
    assert (found.tags["harness.env.python"], found.tags["harness.digest.data"]) == ('"3.11"', CORPUS.digest)
    assert found.params["evaluation.tasks"] == '["corpus_perplexity", "cloze", "minimal_pairs"]'
