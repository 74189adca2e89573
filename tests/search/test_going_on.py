"""A study gone on with: totals, studies begun otherwise or by other programs, and passwords."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import optuna
import pytest
from stored_support import (
    ARMS,
    JOURNAL,
    contents,
    opened,
    refused,
    search_in,
    sqlite_of,
)
from tiny_support import ROOT

from harness.errors import UsageError
from harness.search import run
from harness.search.storage import masked, open_storage


def test_asked_again_it_changes_no_trial_and_asked_for_more_it_adds_exactly_these(folder: Path) -> None:
    journal = folder / JOURNAL
    before = contents(journal)
    assert search_in(folder) == 0
    assert contents(journal) == before
    assert search_in(folder, "--trials", "6") == 0
    after = contents(journal)
    for arm in ARMS:
        assert after[f"kept/{arm}"][2][:4] == before[f"kept/{arm}"][2]
        assert {trial.state.name for trial in after[f"kept/{arm}"][2][4:]} <= {"COMPLETE", "PRUNED"}
        assert len(after[f"kept/{arm}"][2]) == 6


@pytest.mark.parametrize("words", [["--trials", "3"], ["trials=3"]])
def test_fewer_trials_than_there_are_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    before = contents(folder / JOURNAL)
    said = refused(capsys, folder, *words)
    assert "command line: trials: 'kept/residual' has 4 finished trials already" in said
    assert "an arm is to have 3" in said
    assert contents(folder / JOURNAL) == before


def test_a_trial_too_many_whose_parent_was_killed_is_given_up_and_refuses_nothing(folder: Path) -> None:
    journal = folder / JOURNAL
    optuna.load_study(study_name="kept/residual", storage=opened(journal)).ask()
    assert search_in(folder) == 0
    states = [trial.state.name for trial in contents(journal)["kept/residual"][2]]
    assert states == ["COMPLETE"] * 4 + ["FAIL"]


@pytest.mark.parametrize(
    ("word", "place", "message"),
    [
        ("space.train.lr.high=0.2", "space", "train.lr.high was 0.1, is 0.2"),
        ("space.train.lr.log=false", "space", "train.lr.log was True, is not there"),
        ("objective=saved_bytes", "objective", "objective was ['loss'], is ['saved_bytes']"),
        ("objective=[loss,saved_bytes]", "objective", "objective was ['loss'], is ['loss', 'saved_bytes']"),
        ("seeds=[2]", "seeds", "seeds was [1], is [2]"),
        ("seed=1", "seed", "seed was 0, is 1"),
        ("sampler=RandomSampler", "sampler", "type was TPESampler, is RandomSampler"),
        ("pruner=NopPruner", "pruner", "type was MedianPruner, is NopPruner"),
        ("set.train.steps=24", "suite", "train.steps was 12, is 24"),
        ("set.model.width=32", "suite", "model.width was 16, is 32"),
    ],
)
def test_a_study_begun_otherwise_is_refused_with_what_was_and_what_is(
    folder: Path, capsys: pytest.CaptureFixture[str], word: str, place: str, message: str
) -> None:
    before = contents(folder / JOURNAL)
    said = refused(capsys, folder, word)
    assert message in said
    assert f"'kept/residual' was begun otherwise in {folder / JOURNAL}" in said
    assert f"{place}:" in said
    assert contents(folder / JOURNAL) == before


def test_another_text_is_another_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "corpus.txt").write_bytes((ROOT / "LICENSE").read_bytes() * 3)
    before = contents(folder / JOURNAL)
    assert "was begun otherwise" in refused(capsys, folder)
    assert contents(folder / JOURNAL) == before


def test_a_study_begun_otherwise_in_a_database_is_refused_as_well(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = sqlite_of(folder)
    assert search_in(folder, "--trials", "1", "--storage", database) == 0
    before = contents(database)
    said = refused(capsys, folder, "set.train.steps=24", "--storage", database)
    assert f"was begun otherwise in {database}: train.steps was 12, is 24" in said
    assert contents(database) == before


def foreign(place: Path | str, name: str, direction: str = "minimize", trials: int = 1) -> None:
    study = optuna.create_study(storage=opened(place), study_name=name, direction=direction)
    for _ in range(trials):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0.0, 1.0)}), 1.0)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("direction", "trials"), [("minimize", 1), ("maximize", 1), ("maximize", 0)], ids=["small", "great", "empty"]
)
@pytest.mark.parametrize("kind", ["journal", "database"])
def test_another_programs_study_of_the_same_name_is_refused_and_nothing_is_made_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, direction: str, trials: int, arm: str
) -> None:
    place = sqlite_of(folder) if kind == "database" else folder / "foreign"
    foreign(place, f"kept/{arm}", direction, trials)
    before = contents(place)
    said = refused(capsys, folder, "--storage", str(place))
    assert f"a study 'kept/{arm}' that another program made" in said
    assert "study.yaml:1: name: " in said
    assert contents(place) == before


def test_another_programs_study_of_another_name_is_no_hindrance(folder: Path) -> None:
    database = sqlite_of(folder)
    foreign(database, "theirs", "maximize")
    before = contents(database)
    assert search_in(folder, "--trials", "1", "--storage", database) == 0
    after = contents(database)
    assert after["theirs"] == before["theirs"]
    assert sorted(after) == ["kept/dhc-n2", "kept/residual", "theirs"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:hunter2@host:5432/db?x=1", "postgresql+psycopg://me:***@host:5432/db?x=1"),
        ("postgresql://me:hunter%402@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun:ter/2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun@ter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun ter 2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:hunter2@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?sslpassword=hunter2&x=1", "postgresql://host/db?sslpassword=***&x=1"),
        ("no route to mysql://me:hunter2@host, really", "no route to mysql://me:***@host, really"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("sqlite:////a/b@c/trials.db", "sqlite:////a/b@c/trials.db"),
        ("a/journal:1@home", "a/journal:1@home"),
    ],
)
def test_the_password_of_an_address_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_message_about_an_address_is_masked_whichever_way_it_quotes_the_password() -> None:
    url = "postgresql://me:hunter%402@host/db?sslpassword=swordfish"
    said = masked("hunter%402, hunter@2 and swordfish do not open host", url)
    assert said == "***, *** and *** do not open host"


def test_a_password_is_nowhere_in_what_a_search_says_and_leaves(
    folder: Path, capsys: pytest.CaptureFixture[str], patched: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg://me:hunter%402@db.example/trials"
    journal = folder / JOURNAL
    patched.setattr(run, "open_storage", lambda given, place: open_storage(str(journal), place))
    assert search_in(folder, "--trials", "5", "--storage", url) == 0
    said = capsys.readouterr()
    assert "hunter" not in said.out + said.err
    assert "optuna-dashboard postgresql+psycopg://me:***@db.example/trials" in said.out
    files = [path for path in (folder / "results").rglob("*") if path.is_file()]
    assert {"report.html", "result.json", "table.md", "best.yaml", "mlflow.db"} <= {path.name for path in files}
    assert [path for path in files if b"hunter" in path.read_bytes()] == []
    assert "me:***@db.example" in (folder / "results/search/kept/report.html").read_text()
    with sqlite3.connect(folder / "results" / "mlflow.db") as store:
        assert store.execute("SELECT count(*) FROM runs").fetchone()[0] > 10


def test_a_refusal_names_no_password(
    folder: Path, capsys: pytest.CaptureFixture[str], patched: pytest.MonkeyPatch
) -> None:
    journal = folder / JOURNAL
    patched.setattr(run, "open_storage", lambda given, place: open_storage(str(journal), place))
    said = refused(capsys, folder, "seed=1", "--storage", "postgresql://me:hunter2@host/db")
    assert "'kept/residual' was begun otherwise in postgresql://me:***@host/db: seed was 0, is 1" in said


def test_a_storage_is_opened_by_many_at_the_same_moment(tmp_path: Path) -> None:
    barrier, failed = threading.Barrier(4), []

    def begin() -> None:
        barrier.wait()
        try:
            open_storage(sqlite_of(tmp_path), tmp_path)
        except UsageError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == []
