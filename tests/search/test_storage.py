"""What holds the trials: kinds of storage, torn lines, locks, and files of other programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from stored_support import (
    ARMS,
    JOURNAL,
    contents,
    refused,
    search_in,
    sqlite_of,
    told,
)
from tiny_support import ROOT

from harness.search.storage import FileLock, open_storage


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
    assert search_in(folder, "--trials", "5") == 0
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
    assert search_in(folder, "--trials", "2", "--storage", database) == 0
    assert [told(database, arm) for arm in ARMS] == [told(journal, arm)[:2] for arm in ARMS]
    assert search_in(folder, "--storage", database) == 0
    assert [told(database, arm) for arm in ARMS] == [told(journal, arm) for arm in ARMS]


def test_a_journal_elsewhere_is_gone_on_with_from_any_results_folder(folder: Path) -> None:
    moved = folder / "elsewhere" / "journal"
    moved.parent.mkdir()
    (folder / JOURNAL).rename(moved)
    before = contents(moved)
    shutil.rmtree(folder / "results" / "search")
    assert search_in(folder, "--storage", str(moved)) == 0
    assert contents(moved) == before
    assert not (folder / JOURNAL).exists()
