"""A cell's files survive a kill at any byte, and its state is what the files say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.run.celldir import CellDir, CellJournal, read_json, write_json


def test_a_torn_last_line_does_not_count_and_is_cut_off_on_the_next_write(tmp_path: Path) -> None:
    journal = CellJournal(tmp_path / "journal.jsonl")
    for step in (1, 2, 3):
        journal.write("train", step, {"train/loss": 1.0 / step})
    journal.close()
    whole = journal.path.read_bytes()
    for cut in range(len(whole)):
        journal.path.write_bytes(whole[:cut])
        lines = CellJournal(journal.path).lines()
        assert [line["step"] for line in lines] == [1, 2, 3][: whole[:cut].count(b"\n")]
    journal.path.write_bytes(whole[:-5])
    again = CellJournal(journal.path)
    again.write("train", 9, {})
    again.close()
    assert [line["step"] for line in again.lines()] == [1, 2, 9]


def test_rewind_keeps_what_the_checkpoint_knew(tmp_path: Path) -> None:
    journal = CellJournal(tmp_path / "journal.jsonl")
    for step in (2, 4, 6):
        journal.write("train", step, {})
    for step in (3, 6):
        journal.write("validation", step, {})
        journal.write("diagnostics", step, {"connection/cosine_median": 0.5}, depth={"cosine": None})
    journal.write("summary", 6, {})
    journal.write("scores", 6, {}, evaluation="x")
    journal.rewind(4)
    journal.write("train", 6, {})
    journal.close()
    assert sorted((line["kind"], line["step"]) for line in journal.lines()) == [
        ("diagnostics", 3), ("train", 2), ("train", 4), ("train", 6), ("validation", 3),
    ]  # fmt: skip
    assert [line["depth"] for line in journal.lines() if line["kind"] == "diagnostics"] == [{"cosine": None}]


def test_the_last_line_of_a_kind_is_found_near_the_end(tmp_path: Path) -> None:
    journal = CellJournal(tmp_path / "journal.jsonl")
    assert journal.last("train") is None
    for step in range(500):
        journal.write("train", step, {"train/loss": 1.0})
    journal.write("validation", 500, {"validation/loss": 2.0})
    journal.close()
    last = journal.last("train")
    assert last is not None
    assert last["step"] == 499


def test_a_kill_during_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"value": [0] * 20_000})
    code = (
        "import sys; from pathlib import Path; from harness.run.celldir import write_json\n"
        "for i in range(10**9): write_json(Path(sys.argv[1]), {'value': [i] * 20_000})"
    )
    for pause in (0.3, 0.35, 0.4, 0.45):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        value = read_json(path)["value"]
        assert len(value) == 20_000
        assert len(set(value)) == 1


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{ torn")
    with pytest.raises(UsageError, match=r"result\.json"):
        CellDir(tmp_path).result()


def test_the_state_follows_from_the_files_and_the_lease(tmp_path: Path) -> None:
    cell = CellDir(tmp_path)
    assert cell.state("e1") == "todo"
    cell.update_status(state="running", attempts=1)
    assert cell.state("e1") == "stopped", "running without a lease is what a kill leaves"
    with cell.lease() as ours:
        assert ours
        assert cell.state("e1") == "running"
        with cell.lease() as second:
            assert not second
    cell.update_status(state="failed")
    assert cell.state("e1") == "failed"
    write_json(tmp_path / "result.json", {"metrics": {}})
    write_json(tmp_path / "scores-e1.json", {"metrics": {}, "stamps": {}, "time": 1.0})
    assert cell.state("e1") == "done"
    assert cell.state("e2") != "done", "trained, but not scored like this"
    cell.update_status(state="failed", failure={"class": "error", "evaluation": "e2"})
    assert cell.state("e2") == "failed"
    assert cell.state("e3") == "stopped", "a failure of one evaluation does not block another"


def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    cell = CellDir(tmp_path)
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lease")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert cell.busy()
    holder.kill()
    holder.wait()
    assert not cell.busy()
