"""`costs.json` and its record: measured once on every machine, never lost, caught up, and read where it is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.data.documents import Corpus, Document
from harness.errors import UsageError
from harness.run import celldir, costs, measure
from harness.run.costs import FILE, Wanted, documents, keep, made_document, read_costs, wanted_arms
from harness.run.layout import Layout
from harness.run.recording import catch_up
from harness.suite.cells import Cell, cells
from harness.suite.file import load_suite
from harness.suite.schema import Suite
from harness.tracking import TAG_COSTS, Tracker

Write = Callable[..., Path]
CORPUS = Corpus("fake", (Document("a", b"train"),), (Document("b", b"valid"),))
HERE = {"cpu": "Z80", "gpus": [], "torch": "2.13.0"}
UNASKED = "evaluation.tasks=[]"


@pytest.fixture
def suite(tiny_suite: Write) -> Suite:
    more = "  dfc+m2: {connection: {type: frac, rate: 2}}\n  again: {connection: residual, train: {steps: 3}}\nmodel:"
    return load_suite(tiny_suite(**{"model:": more}))


@pytest.fixture
def made(suite: Suite) -> list[Cell]:
    return cells(suite, CORPUS)


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "fingerprint", lambda wanted: HERE)


def measured(
    wanted: dict[str, Wanted], machine: dict[str, Any] = HERE, when: str = "2026-01-02", slow: float = 2.0
) -> dict[str, Any]:
    """A document as measuring makes it, of two rounds; every arm but the baseline is `slow` times as slow."""
    first: dict[str, str] = {}
    stands_for = {name: first.setdefault(arm.key, name) for name, arm in wanted.items()}
    own = list(first.values())
    group = {
        "arms": own,
        "rounds": 2,
        "steps": 1,
        "seconds": {name: [1.0, 1.0] if name == "residual" else [slow, slow] for name in own},
        **{key: dict.fromkeys(own, 7) for key in ("first_step_seconds", "saved_bytes", "parameters")},
        **{key: dict.fromkeys(own) for key in ("peak_bytes", "compile_seconds")},
        "positions_per_step": dict.fromkeys(own, 128),
    }
    return made_document({"groups": [group], "skipped": {}, "machine": {}}, wanted, stands_for, machine, when)


def test_what_is_wanted_are_arms_with_their_baseline_and_something_to_compare(suite: Suite, made: list[Cell]) -> None:
    def names(*arms: str) -> list[str]:
        return list(wanted_arms(suite, [cell for cell in made if cell.arm in arms]))

    assert list(wanted_arms(suite, made)) == ["residual", "dhc-n2", "dfc+m2", "again"]
    assert names("residual", "dhc-n2") == ["residual", "dhc-n2"]
    assert names("dhc-n2", "dfc+m2") == names("residual") == []


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("train.steps=9", True), ("train.lr=1e-2", True), ("seeds=[9]", True), ("evaluation.limit=2", True),
        ("train.batch_size=3", False), ("train.threads=2", False), ("model.width=32", False),
        ("train.precision=bf16", False), ("data.tokenizer={type: bpe, vocabulary: 300}", False),
    ],
)  # fmt: skip
def test_a_key_changes_with_what_a_step_costs_and_with_nothing_else(
    override: str, same: bool, tiny_suite: Write
) -> None:
    def keys(*overrides: str) -> list[str]:
        suite = load_suite(tiny_suite(), list(overrides))
        corpus = CORPUS
        if any("tokenizer" in one for one in overrides):
            from harness.data.load import load_data

            corpus = load_data(suite.data, tiny_suite().parent)  # type: ignore[assignment]
        return [arm.key for arm in wanted_arms(suite, cells(suite, corpus)).values()]

    assert (keys() == keys(override)) == same


def test_arms_with_equal_settings_share_what_was_measured(suite: Suite, made: list[Cell]) -> None:
    document = measured(wanted_arms(suite, made))
    assert document["arms"]["again"]["same_as"] == "residual"
    assert document["arms"]["again"]["throughput_ratio"] == 1.0
    assert document["arms"]["dhc-n2"]["throughput_ratio"] == 0.5
    assert document["groups"] == [{"arms": ["residual", "dhc-n2", "dfc+m2"], "rounds": 2, "steps": 1}]


def test_machines_and_sets_of_arms_stand_beside_each_other_and_this_machine_is_read_first(
    layout: Layout, tracker: Tracker, suite: Suite, made: list[Cell]
) -> None:
    wanted = wanted_arms(suite, made)
    other = {**HERE, "cpu": "6502"}
    assert read_costs(layout, tracker, suite, made) is None
    keep(layout, suite.name, measured(wanted, other, "2026-03-01", slow=4.0))
    found = read_costs(layout, tracker, suite, made)
    assert found is not None
    assert found["machine"]["cpu"] == "6502", "better than nothing"
    keep(layout, suite.name, measured(wanted))
    some = {name: wanted[name] for name in ("residual", "dhc-n2")}
    keep(layout, suite.name, measured(some, when="2026-02-01", slow=3.0))
    assert len(documents(layout, suite.name)) == 3
    found = read_costs(layout, tracker, suite, made)
    assert found is not None
    assert (found["machine"]["cpu"], found["when"], len(found["arms"])) == ("Z80", "2026-01-02", 4), "with most arms"
    chosen = [cell for cell in made if cell.arm in some]
    found = read_costs(layout, tracker, suite, chosen)
    assert found is not None
    assert (found["when"], found["arms"]["dhc-n2"]["throughput_ratio"]) == ("2026-02-01", 1 / 3), "the newest"
    keep(layout, suite.name, measured(wanted, when="2026-04-01", slow=5.0))
    assert [one["when"] for one in documents(layout, suite.name)] == ["2026-03-01", "2026-02-01", "2026-04-01"]


def test_what_another_version_kept_stays_beside_and_what_is_no_costs_is_named(
    suite: Suite, layout: Layout, made: list[Cell]
) -> None:
    later = {"format": 2, "key": "later", "measurements": []}
    path = layout.suite(suite.name) / FILE
    path.write_text(json.dumps({"format": 1, "measured": [later]}))
    document = measured(wanted_arms(suite, made))
    keep(layout, suite.name, document)
    assert documents(layout, suite.name) == [document]
    assert json.loads(path.read_text())["measured"] == [later, document]
    for text in (
        "[]",
        '{"format": 2}',
        '{"measured": null}',
        '{"measured": [{}]}',
        '{"measured": [{"format": 1, "key": 1}]}',
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"costs\.json: holds something else than measured costs"):
            keep(layout, suite.name, document)
        assert path.read_text() == text


def test_rows_of_an_arm_that_has_changed_since_are_not_read(
    layout: Layout, tracker: Tracker, suite: Suite, made: list[Cell], tiny_suite: Write
) -> None:
    keep(layout, suite.name, measured(wanted_arms(suite, made)))
    changed = load_suite(tiny_suite(), ["arms.dhc-n2.connection.rate=4"])
    assert read_costs(layout, tracker, changed, cells(changed, CORPUS))["arms"].keys() == {"residual"}  # type: ignore[index]
    wider = load_suite(tiny_suite(), ["model.width=32"])
    assert read_costs(layout, tracker, wider, cells(wider, CORPUS)) is None


def test_costs_are_recorded_once_in_a_run_that_is_no_cells_and_again_when_measured_again(
    layout: Layout, tracker: Tracker, suite: Suite, made: list[Cell]
) -> None:
    wanted = wanted_arms(suite, made)
    keep(layout, suite.name, measured(wanted))
    for _ in range(2):
        assert catch_up(layout, layout.tracker(), suite.name, made)[1] == 0, "of cells"
    assert tracker.read(suite.name) == []
    client = tracker.connect()
    experiment = client.get_experiment_by_name(suite.name).experiment_id
    (run,) = client.search_runs([experiment])
    (document,) = documents(layout, suite.name)
    assert (run.info.run_name, run.info.status, run.data.tags[TAG_COSTS]) == ("costs", "FINISHED", document["key"])
    assert run.data.tags["harness.env.cpu"] == '"Z80"'
    assert run.data.metrics["cost/throughput_ratio/dhc-n2"] == 0.5
    assert run.data.metrics["cost/throughput_ratio/dfc.m2"] == 0.5
    assert not any("peak" in name or "compile" in name for name in run.data.metrics), "no number is not 0"
    assert tracker.read_costs(suite.name) == [document]

    keep(layout, suite.name, measured(wanted, when="2026-05-01", slow=4.0))
    keep(layout, suite.name, measured(wanted, {**HERE, "cpu": "6502"}))
    for _ in range(2):
        catch_up(layout, layout.tracker(), suite.name, made)
    runs = client.search_runs([experiment])
    assert sorted(run.data.metrics["cost/throughput_ratio/dhc-n2"] for run in runs) == [0.25, 0.5]
    (layout.suite(suite.name) / FILE).unlink()
    found = read_costs(layout, tracker, suite, made)
    assert found is not None
    assert (found["machine"]["cpu"], found["when"]) == ("Z80", "2026-05-01"), "from the record"


def test_costs_that_were_half_recorded_are_recorded_whole(
    layout: Layout, suite: Suite, made: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(layout, suite.name, measured(wanted_arms(suite, made)))
    tracker = layout.tracker()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker.connect(), "log_dict", killed)
    with pytest.raises(KeyboardInterrupt):
        catch_up(layout, tracker, suite.name, made)
    assert tracker.costs_measured(suite.name) == {}
    again = layout.tracker()
    catch_up(layout, again, suite.name, made)
    (document,) = again.read_costs(suite.name)
    assert again.costs_measured(suite.name) == {document["key"]: document["when"]}


def stored(tmp_path: Path, *, root: str = "results") -> list[dict[str, Any]]:
    path = tmp_path / root / "suites" / "tiny" / FILE
    found: list[dict[str, Any]] = json.loads(path.read_text())["measured"] if path.exists() else []
    return found


def test_a_run_ends_with_measuring_once_for_this_machine_and_these_arms(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = str(tiny_suite())
    said = "measuring the costs of 2 arms, interleaved\n"
    assert main(["run", suite, UNASKED, "-k", "dhc"]) == 0
    assert said not in capsys.readouterr().err, "its baseline is left out"
    assert main(["run", suite, UNASKED, "-k", "seed=1"]) == 0
    assert said in capsys.readouterr().err
    (first,) = stored(tmp_path)
    assert first["rounds"] >= 5
    assert [len(row["seconds"]) for row in first["arms"].values()] == [first["rounds"]] * 2
    assert first["arms"]["dhc-n2"]["saved_bytes_ratio"] > 1.1
    assert first["machine"]["packages"]["torch"]
    assert main(["run", suite, UNASKED]) == 0
    assert said not in capsys.readouterr().err
    assert stored(tmp_path) == [first]
    code = f"import sys\nfrom harness.cli import main\nprint(main(['run', {suite!r}, {UNASKED!r}]), 'torch' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[-1] == "0 False", "nothing to measure, and no torch to see that"

    assert main(["run", suite, UNASKED, "--force", "-k", "seed=1"]) == 0
    assert said in capsys.readouterr().err
    (anew,) = stored(tmp_path)
    assert (anew["key"], anew["machine_key"]) == (first["key"], first["machine_key"])
    assert anew["when"] > first["when"]

    monkeypatch.setattr(measure, "fingerprint", lambda wanted: {**HERE, "cpu": "6502"})
    assert main(["run", suite, UNASKED]) == 0
    assert said in capsys.readouterr().err, "another machine"
    assert [one["machine"]["cpu"] for one in stored(tmp_path)] == [anew["machine"]["cpu"], "6502"]
    assert stored(tmp_path)[0] == anew
    tracker = Layout(tmp_path / "results").tracker()
    assert len(tracker.read_costs("tiny")) == 2
    assert not (tmp_path / "results" / "suites" / "tiny" / "costs.log").exists()

    monkeypatch.setattr(measure, "fingerprint", lambda wanted: {**HERE, "cpu": "8080"})
    monkeypatch.setattr(measure, "_in_a_process", lambda *_: {"error": "MemoryError: none left"})
    assert main(["run", suite, UNASKED]) == 0, "no failure of the suite"
    assert "the costs of the arms could not be measured: MemoryError: none left; log: " in capsys.readouterr().err
    assert len(stored(tmp_path)) == 2


def test_a_worker_that_cannot_measure_says_why(tmp_path: Path, layout: Layout, suite: Suite, made: list[Cell]) -> None:
    """The data are not those of the cells: these were made of another corpus."""
    wanted = wanted_arms(suite, made)
    configs = {name: arm.config for name, arm in wanted.items()}
    found = measure._in_a_process(configs, [("residual", "residual")], str(tmp_path), 1.0, tmp_path / "log")
    assert found == {"error": "HarnessError: the data changed between planning and running; run again"}
    assert "Traceback" in (tmp_path / "log").read_text()
    found = measure._in_a_process(configs, [("residual", "residual")], str(tmp_path), 1.0, tmp_path / "no" / "log")
    assert found == {"error": "its process ended with code 1"}


def test_smoke_measures_for_itself_and_what_the_tracker_missed_is_caught_up(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sized = "  sized: {connection: residual, resize: {match: params, arm: dhc-n2}}\nmodel:"
    suite = str(tiny_suite(**{"model:": sized}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["run", suite, UNASKED, "--smoke"]) == 0
    assert "measuring the costs" in capsys.readouterr().err
    assert len(stored(tmp_path, root="results/smoke")) == 1
    assert stored(tmp_path) == []
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["compare", suite, UNASKED, "--smoke"]) == 0
    (document,) = stored(tmp_path, root="results/smoke")
    assert Layout(tmp_path / "results" / "smoke").tracker().read_costs("tiny") == [document]
    parameters = {name: row["parameters"] for name, row in document["arms"].items()}
    assert parameters["residual"] < parameters["sized"] == pytest.approx(parameters["dhc-n2"], rel=0.01), "resized"


def test_nothing_is_measured_while_another_run_measures_or_a_cell_runs(
    layout: Layout, suite: Suite, made: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_now() -> bool:
        return measure.measure_costs(layout, suite, made, None, smoke=True, force=False)

    with celldir.held(layout.root / "costs.lock") as alone:
        assert alone
        assert not measure_now()
    assert "being measured by another run" in capsys.readouterr().err
    directory = layout.cell(made[0])
    directory.path.mkdir(parents=True)
    with directory.lease() as ours:
        assert ours
        assert not measure_now()
    assert capsys.readouterr().err == ""
