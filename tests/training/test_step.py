"""The step that is timed is the step that trains, and its time counts everything once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_support import MemoryJournal, fixed_corpus

from harness.training import step
from harness.training.fit import fit
from harness.training.meters import saved_activation_bytes
from harness.training.objective import make_objective
from harness.training.recipe import build_model
from harness.training.step import Stepper

Make = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_that_are_timed_leave_the_weights_that_training_leaves(
    recipe: Make, precision: str, tmp_path: Path
) -> None:
    made = recipe({"type": "hyper", "rate": 2}, steps=6, warmup_steps=2, precision=precision)
    trained = fit(made, fixed_corpus(), MemoryJournal(), tmp_path).model.state_dict()
    stepper = Stepper.of(made, fixed_corpus(), CPU)
    stepper.saved_bytes()
    stepper.seconds(4)
    stepper.seconds(2)
    weights = stepper.model.state_dict()
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)


def test_what_is_kept_is_counted_for_one_micro_batch(recipe: Make) -> None:
    made = recipe({"type": "frac", "rate": 2}, batch_size=4, micro_batch_size=2)
    objective, model = make_objective(made, fixed_corpus()), build_model(made)
    batch = [torch.from_numpy(array[:2]) for array in objective.batch(0)]
    expected = saved_activation_bytes(model, batch, objective.losses)
    assert Stepper.of(made, fixed_corpus(), CPU).saved_bytes() == expected > 0


@pytest.mark.parametrize(
    ("micro", "expected"), [(None, 1 + 10 + 100), (1, 1 + 4 * 10 + 100), (3, 1 + 4 / 3 * 10 + 100)]
)
def test_a_step_is_its_batch_all_its_micro_batches_and_one_update(
    recipe: Make, monkeypatch: pytest.MonkeyPatch, micro: int | None, expected: float
) -> None:
    now = 0.0

    def takes(seconds: float, name: str) -> None:
        work = getattr(Stepper, name)

        def slow(self: Stepper, *arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return work(self, *arguments)

        monkeypatch.setattr(Stepper, name, slow)

    monkeypatch.setattr(step, "time", SimpleNamespace(perf_counter=lambda: now))
    takes(10, "_pass")
    takes(100, "_update")
    stepper = Stepper.of(recipe({"type": "residual"}, batch_size=4, micro_batch_size=micro), fixed_corpus(), CPU)
    batch = stepper.objective.batch
    asked = []

    def slow_batch(number: int) -> Any:
        nonlocal now
        now += 1
        asked.append(number)
        return batch(number)

    monkeypatch.setattr(stepper.objective, "batch", slow_batch)
    assert stepper.seconds(1) == pytest.approx(expected)
    assert stepper.seconds(3) == pytest.approx(expected)
    assert asked == [0, 1, 2, 3], "one after another"
