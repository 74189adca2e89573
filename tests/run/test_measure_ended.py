"""Asked to end while costs are measured: nothing is lost, and the next run measures."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.run import executors
from harness.run.costs import FILE

Write = Callable[..., Path]


def test_interrupted_while_measuring_nothing_is_lost_and_the_next_run_measures(
    tiny_suite: Write, tmp_path: Path
) -> None:
    suite = tiny_suite()
    slow = ["seeds=[1]", "evaluation.tasks=[]", "train.steps=3", "model.width=64", "model.layers=4"]
    command = [sys.executable, "-m", "harness", "run", str(suite), *slow]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # jobs of a shell may ignore it
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring the costs"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted; the same command goes on from here" in errors
    assert "Traceback" not in errors
    kept = tmp_path / "results" / "suites" / "tiny" / FILE
    assert not kept.exists()
    results = list((tmp_path / "results" / "cells").glob("*/result.json"))
    assert len(results) == 2
    before = [path.stat().st_mtime_ns for path in results]
    assert main(["run", str(suite), *slow]) == 0
    assert [path.stat().st_mtime_ns for path in results] == before
    assert kept.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_to_end_that_comes_in_a_finalizer_is_not_lost(number: signal.Signals) -> None:
    class Closes:
        def __del__(self) -> None:  # Python drops what rises here
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with executors.asked_to_end() as asked:
        assert not asked()
        Closes()
        assert asked()
    assert signal.getsignal(number) is before
