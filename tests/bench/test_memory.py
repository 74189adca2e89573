"""Peak memory of a process that does nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_support import HERE, TOY, end

from harness.bench import memory
from harness.bench.arms import Entry, find
from harness.bench.work import make_stepper
from harness.errors import HarnessError


def test_the_peak_is_the_models_and_nobody_elses() -> None:
    """A wide vocabulary is weights, gradients and two moments of 16 bytes a number, and logits; a toy is next to
    nothing, though torch itself is hundreds of megabytes."""
    wide = replace(TOY, model=TOY.model.model_copy(update={"vocabulary": 100_000, "tied": True}))
    (entry,) = find("residual", TOY)
    small, large = (memory.peak_bytes(entry, preset, HERE) for preset in (TOY, wide))
    assert small is not None
    assert large is not None
    weights = 16 * 100_000 * TOY.model.width
    logits = 4 * TOY.tokens * 100_000
    assert 0 < small < 16 * 2**20
    assert weights + logits < large < 1.25 * (weights + 4 * logits)


def test_what_goes_wrong_there_is_said_here(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(arm="broken", connection=find("residual", TOY)[0].connection, peer="no/such-adapter")
    with pytest.raises(HarnessError, match=r"^KeyError: "):
        memory.peak_bytes(entry, TOY, HERE)


def test_a_process_that_is_killed_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_work", end)
    with pytest.raises(HarnessError, match=r"^the process that measures memory ended with code 9$"):
        memory.peak_bytes(find("residual", TOY)[0], TOY, HERE)


def test_where_the_system_does_not_say_there_is_no_peak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "RESET", tmp_path / "clear_refs")
    assert memory.peak_bytes(find("residual", TOY)[0], TOY, HERE) is None


def test_a_model_is_made_for_the_threads_that_are_asked_for() -> None:
    assert make_stepper(find("residual", TOY)[0], TOY, HERE).settings.threads == 1
