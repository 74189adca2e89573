"""Optuna's samplers and pruners by their names: all of them work, draw the same twice, and keep to the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import STUDY, Search, told

from harness.run.layout import Layout
from harness.search.samplers import PRUNERS, SAMPLERS

Study = Callable[..., Path]
GRID = "space:\n  train.lr: {type: categorical, choices: [1e-4, 1e-3, 1e-2]}\n  train.beta2: {type: categorical, choices: [0.9, 0.95, 0.99]}\n"
SETTINGS = {"PercentilePruner": ", percentile: 50, n_startup_trials: 3", "ThresholdPruner": ", upper: 4.0"}


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "CmaEsSampler"])
def test_every_sampler_keeps_to_the_budget_and_draws_the_same_twice(
    sampler: str, study: Study, search: Search, layout: Layout, tmp_path: Path
) -> None:
    text = STUDY.replace("trials: 12", f"trials: 8\nsampler: {sampler}").replace("top: 2", "top: 1")
    if sampler == "BruteForceSampler":
        text = text.split("space:")[0] + GRID + "fresh:" + text.split("fresh:")[1]
    path = study(text)
    search(path)
    once = told(layout, "planted", "residual")
    assert len(once) == 8
    assert len({str(params) for params, *_ in once}) == 8
    (layout.root / "search").rename(tmp_path / "once")
    search(path)
    assert told(layout, "planted", "residual") == once


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_keeps_to_the_budget(pruner: str, study: Study, search: Search, layout: Layout) -> None:
    more = f"\npruner: {{type: {pruner}{SETTINGS.get(pruner, '')}}}\nset: {{train.steps: 27, train.validate_every: 1}}"
    search(study(STUDY.replace("trials: 12", f"trials: 12{more}").replace("top: 2", "top: 1")))
    found = told(layout, "planted", "residual")
    assert len(found) == 12
    states = [state for _, _, state, _ in found]
    assert ("PRUNED" in states) == (pruner not in ("NopPruner", "WilcoxonPruner"))
