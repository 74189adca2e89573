"""Real searches that are killed and interrupted: the total is exact, nothing counts twice, nothing is left running."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from search_support import ARMS, trials_of, write_study

from harness.run.celldir import CellDir
from harness.run.layout import Layout

TRIALS = 6
STUDY = """\
name: killed
suite: tiny.yaml
trials: 6
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
fresh: {top: 1, choose: [], report: [201, 202]}
set: {train.steps: 60, train.validate_every: 15, evaluation.tasks: []}
"""


def start(study: Path, results: Path, *options: str) -> subprocess.Popen[str]:
    """`harness search` in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "harness",
        "search",
        str(study),
        "--jobs",
        "2",
        "--results",
        str(results),
        *options,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_trials(results: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many cells have been begun."""
    deadline = time.monotonic() + 120
    while len(list(results.glob("cells/*/journal.jsonl"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def held_to_the_total(results: Path) -> None:
    for arm in ARMS:
        trials = trials_of(Layout(results), "killed", arm)
        assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}, "none is left running"
        counting = [trial for trial in trials if trial.state.name != "FAIL"]
        assert len(counting) == TRIALS
        assert all("harness.void" in trial.user_attrs for trial in trials if trial.state.name == "FAIL")
        assert len({trial.params["train.lr"] for trial in counting}) == TRIALS, "none counts twice"


def test_killed_three_times_at_random_moments_the_total_is_exact(
    tiny_suite: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_suite()
    study, results, chance = write_study(tmp_path, STUDY), tmp_path / "results", random.Random(8)
    for kill in range(3):
        process = start(study, results)
        wait_for_trials(results, 1 + 3 * kill, process)
        time.sleep(chance.uniform(0.0, 1.0))
        if kill == 1:
            process.kill()  # the parent alone: its workers save and end by themselves
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    process = start(study, results)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    held_to_the_total(results)
    document = json.loads((results / "search" / "killed" / "result.json").read_text())["document"]
    assert [len(arm["trials"]) for arm in document["arms"]] == [TRIALS, TRIALS]
    assert "6/6" in said


def test_interrupted_it_saves_and_goes_on_with_the_same_trials(tiny_suite: Callable[..., Path], tmp_path: Path) -> None:
    tiny_suite()
    study, results = write_study(tmp_path, STUDY.replace("train.steps: 60", "train.steps: 400")), tmp_path / "results"
    process = start(study, results, "trials=2", "arms=[residual]")
    wait_for_trials(results, 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on from here" in errors
    cells = [CellDir(path) for path in results.glob("cells/*")]
    assert not any(cell.busy() or cell.status()["state"] == "failed" for cell in cells)
    states = [trial.state.name for trial in trials_of(Layout(results), "killed", "residual")]
    assert "RUNNING" not in states
    before = {path.name for path in results.glob("cells/*")}
    process = start(study, results, "trials=2", "arms=[residual]")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    after = {path.name for path in results.glob("cells/residual-s1-*")}
    assert before <= after
    assert len(after) == 2, "what was begun is what was finished"


def test_two_parents_share_the_work_and_repeat_none_of_it(tiny_suite: Callable[..., Path], tmp_path: Path) -> None:
    tiny_suite()
    study, results = write_study(tmp_path, STUDY), tmp_path / "results"
    parents = [start(study, results) for _ in range(2)]
    for parent in parents:
        _, errors = parent.communicate(timeout=300)
        assert parent.returncode == 0, errors
    held_to_the_total(results)
    cells = [CellDir(path) for path in results.glob("cells/*")]
    assert len(cells) == 2 * (TRIALS + 2 + 2)
    assert [cell.status()["attempts"] for cell in cells] == [1] * len(cells)
