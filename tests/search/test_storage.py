"""What holds the trials: kinds of storage, files of other programs, studies begun otherwise, totals, and passwords."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_support import STUDY, Planted
from tiny_support import ROOT, TINY

from harness.cli import main
from harness.errors import UsageError
from harness.run import runner
from harness.search import run
from harness.search.storage import FileLock, masked, open_storage

ARMS = ("residual", "dhc-n2")
KEPT = STUDY.replace("name: planted", "name: kept").replace("trials: 12", "trials: 4").replace("top: 2", "top: 1")
JOURNAL = Path("results/search/kept/optuna-journal.log")
Contents = dict[str, Any]


@contextmanager
def nothing_is_trained() -> Iterator[pytest.MonkeyPatch]:
    """Cells are planted, and no tracker of the user's is spoken to."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (run, runner):
            patched.setattr(module, "LocalExecutor", lambda layout, jobs, relative_to: Planted(layout, jobs))
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield patched


@pytest.fixture(autouse=True)
def patched() -> Iterator[pytest.MonkeyPatch]:
    with nothing_is_trained() as found:
        yield found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A study of two arms with four trials each, in the journal of its results folder."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "corpus.txt").write_bytes(
        b"".join(path.read_bytes() for path in sorted((ROOT / "harness/data").rglob("*.py")))
    )
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "study.yaml").write_text(KEPT)
    (folder / "results").mkdir()
    shutil.copy(empty_store, folder / "results" / "mlflow.db")
    with nothing_is_trained():
        assert search(folder) == 0
    return folder


@pytest.fixture
def folder(finished: Path, empty_store: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    found = tmp_path / "copy"
    shutil.copytree(finished, found, ignore=shutil.ignore_patterns("mlflow.db"))
    shutil.copy(empty_store, found / "results" / "mlflow.db")
    return found


def search(folder: Path, *words: str) -> int:
    return main(["search", str(folder / "study.yaml"), *words, "--results", str(folder / "results")])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """The one line that is said."""
    capsys.readouterr()
    assert search(folder, *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err.strip()


def opened(place: Path | str) -> Any:
    """As any program opens it."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return str(place) if "://" in str(place) else JournalStorage(JournalFileBackend(str(place)))


def contents(place: Path | str) -> Contents:
    """All studies in a storage with all that is known of their trials."""
    storage = opened(place)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return {one.study_name: (one.directions, one.user_attrs, one.get_trials()) for one in studies}


def told(place: Path | str, arm: str) -> list[tuple[Any, ...]]:
    """Of the arm's trials, what does not depend on clock and storage."""
    return [(trial.params, trial.values, trial.state.name) for trial in contents(place)[f"kept/{arm}"][2]]


def sqlite_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'trials.db'}"


@pytest.mark.parametrize(
    "torn", [b"{", b'{"op_code":5,"worker_id":"1-2', b'{"op_code":5,"worker_id":"1","trial_id":0}', b"\0" * 20]
)
def test_a_torn_last_line_is_cut_and_all_whole_lines_stay(folder: Path, torn: bytes) -> None:
    journal = folder / JOURNAL
    before, whole = contents(journal), journal.read_bytes()
    journal.write_bytes(whole + torn)
    open_storage(None, journal.parent)
    assert journal.read_bytes() == whole
    assert contents(journal) == before
    journal.write_bytes(whole + torn)
    assert search(folder, "--trials", "5") == 0
    assert [len(told(journal, arm)) for arm in ARMS] == [5, 5]


@pytest.mark.parametrize("torn", [b"{", b'{"op_code":0,"worker_id":"1', b""])
def test_a_journal_whose_first_line_was_torn_is_begun_anew(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "journal").write_bytes(torn)
    optuna.create_study(storage=open_storage(str(tmp_path / "journal"), tmp_path), study_name="new")
    assert list(contents(tmp_path / "journal")) == ["new"]


def test_a_line_that_its_writer_is_still_at_is_not_torn(folder: Path) -> None:
    journal = folder / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    lock = FileLock(journal)
    lock.acquire()
    reader = threading.Thread(target=open_storage, args=(None, journal.parent))
    reader.start()
    reader.join(timeout=0.3)
    assert reader.is_alive()
    with journal.open("ab") as file:
        file.write(whole[-20:])
    lock.release()
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert journal.read_bytes() == whole


def test_the_lock_of_a_killed_writer_holds_nobody_up(folder: Path) -> None:
    journal = folder / JOURNAL
    journal.write_bytes(journal.read_bytes() + b"{")
    code = (
        "import sys, time; from pathlib import Path; from harness.search.storage import FileLock\n"
        "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(journal)], stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"held\n"
        writer.send_signal(signal.SIGKILL)
    reader = threading.Thread(target=open_storage, args=(None, journal.parent), daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert not reader.is_alive()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage", b"garbage\n", b"garbage\nof two lines\n", b"garbage\n{", b"\n", b"\xff\xfe\n", b'{"a": 1}',
        b'{\n  "a": 1\n}', b'{"a": 1}\n', b'{"a": 1}\n{"a"', b"[]\n", b"1\n", b'{"op_code":0}\n',
    ],
)  # fmt: skip
def test_a_file_that_is_no_journal_is_refused_in_a_line_and_stays_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    place = folder / "foreign"
    place.mkdir()
    (place / "file").write_bytes(data)
    assert "file is no journal of Optuna's" in refused(capsys, folder, "--storage", str(place / "file"))
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file", data)]


def test_a_database_whose_path_is_given_as_a_journals_stays_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "results" / "mlflow.db"
    before = place.read_bytes()
    assert "mlflow.db is no journal of Optuna's" in refused(capsys, folder, "--storage", str(place))
    assert place.read_bytes() == before


def test_mlflows_database_is_refused_by_what_is_in_it_and_stays_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "results" / "mlflow.db"
    before = place.read_bytes()
    assert "tables of another program, such as MLflow" in refused(capsys, folder, "--storage", f"sqlite:///{place}")
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("", "--storage: names no storage"),
        ("{folder}/results", "results cannot be opened: Is a directory"),
        ("{folder}/tiny.yaml/below/journal", "journal cannot be opened: Not a directory"),
        ("{folder}/" + "x" * 300, "cannot be opened: File name too long"),
        ("sqlite:///{folder}/results", "unable to open database file"),
        ("sqlite:///{folder}/nowhere/trials.db", "unable to open database file"),
        ("sqlite:///{folder}/tiny.yaml", "file is not a database"),
        ("redis://me:hunter2@host/0", "redis://me:***@host/0 cannot be opened: Can't load plugin"),
        ("mysql+nodriver://me:hunter2@host/db", "mysql+nodriver://me:***@host/db cannot be opened"),
        ("postgresql://me:hunter2@host:port/db", "postgresql://me:***@host:port/db cannot be opened"),
        ("://", ":// cannot be opened"),
        ("redis://host/two\nlines", "redis://host/two\\nlines cannot be opened"),
    ],
)
def test_a_place_that_is_no_storage_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], storage: str, message: str
) -> None:
    before = sorted(folder.iterdir()), (folder / "tiny.yaml").read_bytes()
    said = refused(capsys, folder, "--storage", storage.format(folder=folder))
    assert message in said
    assert "hunter2" not in said
    assert (sorted(folder.iterdir()), (folder / "tiny.yaml").read_bytes()) == before


@pytest.mark.parametrize(
    "storage", ["{place}/new", "{place}/journal", "sqlite:///{place}/new.db", "sqlite:///{place}/trials.db"]
)
def test_an_unwritable_place_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], storage: str
) -> None:
    place = folder / "place"
    place.mkdir()
    shutil.copy(folder / JOURNAL, place / "journal")
    open_storage(sqlite_of(place), place)
    for path in (place / "journal", place / "trials.db"):
        path.chmod(0o444)
    place.chmod(0o555)
    try:
        if os.access(place, os.W_OK):
            pytest.skip("nothing is unwritable for root")
        assert "cannot be opened" in refused(capsys, folder, "--storage", storage.format(place=place))
    finally:
        place.chmod(0o755)


def test_sqlite_keeps_the_same_trials_as_the_journal_and_is_gone_on_with(folder: Path) -> None:
    journal, database = folder / JOURNAL, sqlite_of(folder)
    assert search(folder, "--trials", "2", "--storage", database) == 0
    assert [told(database, arm) for arm in ARMS] == [told(journal, arm)[:2] for arm in ARMS]
    assert search(folder, "--storage", database) == 0
    assert [told(database, arm) for arm in ARMS] == [told(journal, arm) for arm in ARMS]


def test_a_journal_elsewhere_is_gone_on_with_from_any_results_folder(folder: Path) -> None:
    moved = folder / "elsewhere" / "journal"
    moved.parent.mkdir()
    (folder / JOURNAL).rename(moved)
    before = contents(moved)
    shutil.rmtree(folder / "results" / "search")
    assert search(folder, "--storage", str(moved)) == 0
    assert contents(moved) == before
    assert not (folder / JOURNAL).exists()


def test_asked_again_it_changes_no_trial_and_asked_for_more_it_adds_exactly_these(folder: Path) -> None:
    journal = folder / JOURNAL
    before = contents(journal)
    assert search(folder) == 0
    assert contents(journal) == before
    assert search(folder, "--trials", "6") == 0
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
    assert search(folder) == 0
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
    assert search(folder, "--trials", "1", "--storage", database) == 0
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
    assert search(folder, "--trials", "1", "--storage", database) == 0
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
    assert search(folder, "--trials", "5", "--storage", url) == 0
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
