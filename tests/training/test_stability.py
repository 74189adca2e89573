"""Spikes: counted against a plain loop over the whole series, whatever the logging, and exactly so after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import CONNECTIONS, MemoryJournal, fixed_corpus

from harness.training import stability
from harness.training.fit import StoppedError, fit
from harness.training.stability import LEAST, WINDOW, Spikes


def counted(series: list[float]) -> tuple[int, int]:
    """(spikes, judged) from the definition."""
    spikes = judged = 0
    for step, value in enumerate(series):
        before = [one for one in series[:step] if np.isfinite(one)][-WINDOW:]
        if len(before) >= LEAST:
            middle = np.median(before)
            sigma = 1.4826 * np.median(np.abs(np.array(before) - middle))
            judged += 1
            spikes += not value <= middle + stability.SIGMAS * sigma
    return spikes, judged


def test_spikes_are_values_far_above_the_median_of_those_before() -> None:
    draw = np.random.default_rng(1)
    series = (3 + 0.1 * draw.standard_normal(400)).tolist()
    for step in (5, 60, 61, 200, 399):
        series[step] += 2.0
    series[100] -= 2.0  # below is no spike
    series[150] = float("inf")
    series[151] = float("nan")
    spikes = Spikes()
    for value in series:
        spikes.add(value)
    assert (spikes.spikes, spikes.judged) == counted(series) == (6, 400 - LEAST)
    assert spikes.share() == 6 / (400 - LEAST)


def test_a_share_of_no_step_is_none_and_the_state_is_the_whole_of_it() -> None:
    spikes, other = Spikes(), Spikes()
    assert spikes.share() is None
    for value in np.random.default_rng(2).standard_cauchy(150).tolist():
        spikes.add(value)
    other.restore(spikes.state())
    for value in np.random.default_rng(3).standard_cauchy(150).tolist():
        spikes.add(value)
        other.add(value)
    assert other.state() == spikes.state()
    assert 0 < spikes.spikes < spikes.judged == 300 - LEAST


def run(recipe: Any, folder: Path, stops: tuple[int, ...] = ()) -> list[tuple[str, int, dict[str, float]]]:
    folder.mkdir()
    journal = MemoryJournal()
    for last in stops:
        start, seen = journal.lines[-1][1] if journal.lines else 0, iter(range(1, 1000))
        with pytest.raises(StoppedError):
            fit(recipe, fixed_corpus(), journal, folder, lambda s=start: s + next(seen) == last)  # noqa: B023
    fit(recipe, fixed_corpus(), journal, folder)
    return journal.lines


def test_shares_and_the_largest_gradient_are_those_of_every_step_whatever_is_logged(
    recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability, "SIGMAS", 1.5)  # so that there are some
    budget = {"steps": 60, "warmup_steps": 30, "validate_every": 25, "lr": 2e-2}
    every = run(recipe(CONNECTIONS["residual"], log_every=1, **budget), tmp_path / "1")
    rare = run(recipe(CONNECTIONS["residual"], log_every=7, **budget), tmp_path / "7")
    losses = [values["train/loss"] for kind, _, values in every if kind == "train"]
    norms = [values["train/grad_norm"] for kind, _, values in every if kind == "train"]
    assert norms == [values["train/grad_norm_max"] for kind, _, values in every if kind == "train"]
    for kind, step, values in rare:
        if kind == "train":
            first = 56 if step == 60 else step - 7
            assert values["train/grad_norm_max"] == max(norms[first:step])
        elif kind == "diagnostics":
            for name, series in (("loss", losses), ("gradient", norms)):
                spikes, judged = counted(series[:step])
                assert values[f"stability/{name}_spikes"] == spikes / judged
    assert counted(norms)[0] > 0


def test_spikes_survive_a_stop_between_logged_steps(recipe: Callable[..., Any], tmp_path: Path) -> None:
    made = recipe(
        CONNECTIONS["residual"], steps=60, warmup_steps=30, validate_every=25, lr=2e-2, log_every=8, dropout=0.1
    )
    whole, parts = run(made, tmp_path / "whole"), run(made, tmp_path / "parts", stops=(19, 26, 53))

    def lines(found: Any) -> list[Any]:
        return [
            (kind, step, {name: value for name, value in values.items() if "second" not in name})
            for kind, step, values in found
        ]

    assert lines(parts) == lines(whole)


def test_the_gradient_norms_by_depth_are_those_of_the_step_before_clipping(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    from harness.training.objective import make_objective
    from harness.training.recipe import build_model

    for name, micro in (("dhc-n4", None), ("dhc-n4", 3)):
        made = recipe(CONNECTIONS[name], steps=5, validate_every=1, warmup_steps=1, clip=1e-3, micro_batch_size=micro)
        journal, folder = MemoryJournal(), tmp_path / f"{name}-{micro}"
        folder.mkdir()
        fit(made, fixed_corpus(), journal, folder)
        model, objective = build_model(made), make_objective(made, fixed_corpus())
        objective.losses(model, *map(torch.from_numpy, objective.batch(0))).mean().backward()
        expected = [sum(float(p.grad.square().sum()) for p in branch.parameters()) ** 0.5 for branch in model.branches]
        found = journal.extras["diagnostics", 1]["depth"]["gradient_norm"]
        assert found == pytest.approx(expected, rel=1e-4)
        first, last = np.hypot(*expected[:2]), np.hypot(*expected[-2:])
        values = next(values for kind, step, values in journal.lines if (kind, step) == ("diagnostics", 1))
        assert values["connection/gradient_ratio"] == pytest.approx(first / last, rel=1e-4)
