"""Prices are told, and budgets held, before anything is run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import fixed_corpus

from harness.cli import main
from harness.run import calibrate
from harness.suite.estimate import makespan
from harness.training import step
from harness.training.objective import LanguageModelling

Write = Callable[..., Path]


def test_a_plan_measures_a_step_of_every_arm_here(tiny_suite: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny_suite())
    assert main(["plan", path, "--json"]) == 0
    unknown = json.loads(capsys.readouterr().out)
    assert unknown["hours_todo"] is None
    assert unknown["machine"] is None
    assert main(["plan", path, "--json", "--device", "here", "--jobs", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    seconds = [arm["seconds_per_cell"] for arm in document["arms"]]
    assert all(0 < each < 60 for each in seconds)
    at_once = min(2, os.cpu_count() or 1)
    assert document["hours_todo"] == pytest.approx(makespan(2 * seconds, at_once) / 3600), "seed by seed"
    assert document["machine"]["name"] == "this machine"
    largest = max(arm["memory_bytes"]["total"] for arm in document["arms"])
    assert document["memory_bytes"] == 2 * largest, "both seeds of the largest arm may be there at once"
    assert main(["plan", path, "--device", "h200", "--devices", "2", "--fsdp"]) == 0
    text = capsys.readouterr().out
    assert "H200 × 2 (FSDP)" in text
    assert "DDP" in text


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("option", "least", "enough"), [("--budget-hours", "1e-9", "5"), ("--budget-memory", "1e-6", "5")]
)
def test_a_budget_that_is_too_small_refuses_before_anything_is_made(
    verb: str,
    option: str,
    least: str,
    enough: str,
    tiny_suite: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, results = str(tiny_suite()), tmp_path / "somewhere"
    assert main([verb, path, "--results", str(results), option, least]) == 2
    printed = capsys.readouterr()
    assert f"harness: {option}: about " in printed.err
    assert printed.out == ""
    assert not results.exists()
    if verb == "plan":
        assert main([verb, path, "--results", str(results), option, enough]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "h20"], "--device: no chip 'h20' in the table, and 'here' is this machine; did you mean"),
        (["--devices", "8"], "--devices, --fsdp and --mfu are for a chip of the table"),
        (["--device", "h200", "--fsdp"], "--fsdp: there is one device to share among"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    arguments: list[str], message: str, tiny_suite: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tiny_suite()), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "many"])
def test_a_budget_is_a_number_above_zero(value: str, tiny_suite: Write, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", str(tiny_suite()), "--budget-hours", value])
    assert stop.value.code == 2
    assert "is not a number above 0" in capsys.readouterr().err


def test_making_a_batch_is_counted_once_a_step(recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes a tenth of a second, in sixteen parts."""

    class Slow(LanguageModelling):
        def batch(self, step: int) -> tuple[Any, ...]:
            time.sleep(0.1)
            return super().batch(step)

    monkeypatch.setattr(step, "make_objective", Slow)
    made = recipe({"type": "residual"}, batch_size=16, micro_batch_size=1)
    assert 0.1 < calibrate.step_seconds(made, fixed_corpus(), torch.device("cpu")) < 1.0
