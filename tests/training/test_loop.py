"""What surrounds a training step: nothing slow in every one, and a device is waited for only where something is logged."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_support import CONNECTIONS, MemoryJournal, fixed_corpus

from harness.training import keeper
from harness.training.fit import fit
from harness.training.keeper import seed_generators

Make = Callable[..., Any]


def test_the_generator_is_seeded_as_torch_does_it() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2**40 + 7)
        expected = torch.rand(5)
        seed_generators(2**40 + 7, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected)


def test_no_step_writes_down_where_it_stands(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `torch.manual_seed` does for every backend that is not there."""
    written, format_stack = [], traceback.format_stack
    monkeypatch.setattr(traceback, "format_stack", lambda *a, **k: written.append(1) or format_stack(*a, **k))
    torch.manual_seed(1)
    assert written or torch.cuda.is_available()
    written.clear()
    fit(recipe(CONNECTIONS["residual"]), fixed_corpus(), MemoryJournal(), tmp_path)
    assert len(written) < 20, "of 20 steps"


def test_what_a_device_still_has_to_do_is_waited_for_before_a_pause_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"{device} is done"))
    monkeypatch.setattr(keeper, "time", SimpleNamespace(perf_counter=lambda: order.append("the clock")))
    keeper.settled(torch.device("cuda"))
    keeper.settled(torch.device("cpu"))
    assert order == ["cuda is done", "the clock", "the clock"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_between_two_logged_steps_the_device_is_never_waited_for(recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS["dhc-n4"], steps=20, log_every=20, validate_every=20, checkpoint_every=20, dropout=0.1)
    made = dataclasses.replace(made, train=made.train.model_copy(update={"device": "cuda"}))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        torch.cuda.set_sync_debug_mode("error" if 3 <= asked < 19 else "default")
        return False

    try:
        fit(made, fixed_corpus(), MemoryJournal(), tmp_path, stop)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert asked == 20
