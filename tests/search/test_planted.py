"""Searches over a planted objective with a known optimum: it is found, pruning saves, and budgets are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import ARMS, BEST_LR, STUDY, Lost, Search, planted, result_of, running, told

from harness.run.layout import Layout
from harness.search.file import StudyFile
from harness.suite.cells import Cell

Study = Callable[..., Path]
MORE = {"trials: 12": "trials: 40"}


def test_the_optimum_is_found_by_every_arm_and_their_difference_is_the_planted_one(
    study: Study, search: Search, layout: Layout
) -> None:
    answer, _ = search(study(**MORE))
    assert answer.code == 0
    arms = {arm["arm"]: arm for arm in result_of(layout, "planted")["arms"]}
    for arm, lr in zip(ARMS, BEST_LR.values(), strict=True):
        assert abs(math.log10(arms[arm]["best"]["params"]["train.lr"] / lr)) < 0.25
        assert arms[arm]["best"]["estimate"]["mean"] < arms[arm]["own"]["estimate"]["mean"]
    delta = arms["dhc-n2"]["delta"]
    assert delta["mean"] == pytest.approx(-0.1, abs=0.05)
    assert arms["dhc-n2"]["verdict"] == "better"


def test_pruning_saves_at_least_three_tenths_of_the_steps_and_finds_the_optimum_as_well(
    study: Study, search: Search, layout: Layout
) -> None:
    path = study(
        STUDY + "set: {train.validate_every: 1, train.steps: 20}\n"
        "pruner: {type: MedianPruner, n_startup_trials: 4, n_warmup_steps: 4}\n",
        **MORE,
    )
    _, pruned = search(path)
    best = [arm["best"]["params"]["train.lr"] for arm in result_of(layout, "planted")["arms"]]
    optimum = list(BEST_LR.values())
    full = 2 * 40 * 20
    searched = sum(arm["steps"] for arm in result_of(layout, "planted")["arms"])
    assert pruned.steps == searched, "what is told is what was trained"
    assert pruned.steps <= 0.7 * full
    assert all(abs(math.log10(lr / at)) < 0.3 for lr, at in zip(best, optimum, strict=True))
    assert sum(arm["full_steps"] for arm in result_of(layout, "planted")["arms"]) == full


def test_every_arm_gets_exactly_its_trials_whatever_the_jobs(study: Study, search: Search, layout: Layout) -> None:
    _, executor = search(study(), jobs=3)
    for arm in ARMS:
        assert len(told(layout, "planted", arm)) == 12
    assert running(layout) == []
    assert len(set(executor.started)) == len(executor.started) == 24


def test_random_draws_and_the_own_setting_are_the_same_for_all_arms(
    study: Study, search: Search, layout: Layout
) -> None:
    search(study())
    first, second = ([params for params, *_ in told(layout, "planted", arm)] for arm in ARMS)
    assert first[:5] == second[:5], "drawn before anything is known"
    assert first[0] == {"train.lr": 1e-3, "train.weight_decay": 0.1}, "the suite's own setting comes first"
    assert first[5:] != second[5:], "what was learnt differs"


def test_one_seed_gives_the_same_trials_bit_for_bit_and_another_gives_others(
    study: Study, search: Search, layout: Layout, tmp_path: Path
) -> None:
    path = study()
    search(path)
    once = [told(layout, "planted", arm) for arm in ARMS]
    (layout.root / "search").rename(tmp_path / "moved")
    search(path)
    assert [told(layout, "planted", arm) for arm in ARMS] == once, "all cells are trained already, and pruned the same"
    (layout.root / "search").rename(tmp_path / "moved too")
    search(path, "seed=1")
    assert [told(layout, "planted", arm) for arm in ARMS] != once


@pytest.mark.parametrize("look", [1, 7, 20, 33, 40])
def test_lost_at_any_moment_it_goes_on_to_the_same_trials(
    study: Study, search: Search, layout: Layout, tmp_path: Path, look: int
) -> None:
    path = study()
    search(path)
    undisturbed = [told(layout, "planted", arm) for arm in ARMS]
    layout.root.joinpath("search").rename(tmp_path / "undisturbed")
    layout.root.joinpath("cells").rename(tmp_path / "undisturbed cells")
    layout.prepare()
    monkey = pytest.MonkeyPatch()
    from harness.search.source import SearchSource

    with monkey.context() as patched:
        patched.setattr(SearchSource, "give_up", lambda self: None)  # a killed parent does not tidy up
        with pytest.raises(Lost):
            search(path, die_at=look)
    assert len(running(layout)) == 1
    search(path)
    assert [told(layout, "planted", arm) for arm in ARMS] == undisturbed
    assert running(layout) == []


def test_a_finished_cell_costs_nothing_and_gives_the_same_trial(study: Study, search: Search, layout: Layout) -> None:
    path = study()
    _, first = search(path)
    (layout.root / "search" / "planted" / "optuna-journal.log").unlink()
    _, again = search(path)
    assert len(first.started) == 24
    states = [state for arm in ARMS for _, _, state, _ in told(layout, "planted", arm)]
    assert "PRUNED" in states
    assert again.started == [], "pruned trials too: their cells have the curve that they were pruned by"


def test_asked_for_more_trials_it_adds_the_missing_ones(study: Study, search: Search, layout: Layout) -> None:
    path = study()
    search(path)
    before = [told(layout, "planted", arm) for arm in ARMS]
    _, more = search(path, "trials=15")
    assert len(more.started) == 6
    for arm, old in zip(ARMS, before, strict=True):
        assert told(layout, "planted", arm)[:12] == old
        assert len(told(layout, "planted", arm)) == 15


def test_the_value_of_a_trial_is_the_mean_over_its_seeds(study: Study, search: Search, layout: Layout) -> None:
    search(study(**{"seeds: [1]": "seeds: [1, 2, 3]", "trials: 12": "trials: 3"}))
    (params, values, *_), *_ = told(layout, "planted", "residual")
    bowl = math.log10(params["train.lr"] / BEST_LR["residual"]) ** 2
    expected = 2.0 + bowl + 3.0 * math.exp(-3.0) + 0.001 * 2
    assert values[0] == pytest.approx(expected)


def test_wilcoxon_prunes_seed_by_seed(study: Study, search: Search, layout: Layout) -> None:
    path = study(**{"seeds: [1]": "seeds: [1, 2, 3, 4, 5, 6, 7]", "trials: 12": "trials: 10"})
    _, executor = search(path)
    assert "WilcoxonPruner" in result_of(layout, "planted")["pruner"], "the default from six seeds"
    found = told(layout, "planted", "residual")
    pruned = [curve for _, _, state, curve in found if state == "PRUNED"]
    assert pruned
    assert all(set(curve) == set(range(len(curve))) and 4 <= len(curve) < 7 for curve in pruned)
    assert len(executor.started) < 2 * 10 * 7
    assert all(len(curve) == 6 for _, _, state, curve in found if state == "COMPLETE"), "the last seed is not judged"


def test_several_objectives_give_a_front_and_prune_nothing(study: Study, search: Search, layout: Layout) -> None:
    path = study(
        STUDY.replace("arms: [residual, dhc-n2]", "arms: [dhc-n2]").replace(
            "space:\n",
            "objective: [loss, saved_bytes]\nspace:\n  connection.rate: {type: categorical, choices: [1, 2, 4]}\n",
        )
    )

    def curve(cell: Cell, step: int) -> float:
        return planted(cell, step) - 0.05 * cell.config["connection"]["rate"]

    answer, _ = search(path, curve=curve)
    (arm,) = result_of(layout, "planted")["arms"]
    values = {trial["number"]: trial["values"] for trial in arm["trials"]}
    assert all(values.values())
    beaten = {
        number
        for number, value in values.items()
        if any(all(b <= a for a, b in zip(value, other, strict=True)) and other != value for other in values.values())
    }
    assert set(arm["front"]) == values.keys() - beaten
    assert f"{len(arm['front'])} of 12 trials are not beaten" in answer.text


def test_a_small_space_is_drawn_without_repeats_until_it_has_no_more(
    study: Study, search: Search, layout: Layout
) -> None:
    text = STUDY.split("space:")[0] + "space:\n  train.lr: {type: categorical, choices: [1e-4, 1e-3, 1e-2]}\n"
    text += "fresh: {top: 1, choose: [], report: [201, 202]}\n"
    _, executor = search(study(text, **{"trials: 12": "trials: 5"}))
    drawn = [params["train.lr"] for params, *_ in told(layout, "planted", "residual")]
    assert set(drawn[:3]) == {1e-4, 1e-3, 1e-2}
    assert len(drawn) == 5
    assert len(executor.started) == 6, "a setting that was trained costs nothing"


def test_arms_are_held_against_the_baselines_of_their_suite(
    tiny_suite: Callable[..., Path], tmp_path: Path, search: Search
) -> None:
    from search_support import write_study
    from tiny_support import TINY

    more = (
        "  small: {connection: residual, model: {layers: 1}, baseline: small}\n"
        "  small-dhc: {connection: {type: hyper, rate: 2}, model: {layers: 1}, baseline: small}\n"
    )
    tiny_suite(TINY.replace("model: {layers: 2", more + "model: {layers: 2"))
    text = STUDY.replace("arms: [residual, dhc-n2]", "arms: [dhc-n2, small, small-dhc]")
    answer, _ = search(write_study(tmp_path, text))
    arms = {arm["arm"]: arm for arm in answer.document["arms"]}
    assert arms["small-dhc"]["verdict"] in ("better", "worse")
    assert arms["dhc-n2"]["delta"] is None
    assert "no Δ for dhc-n2: what the suite compares them with is not searched" in answer.text
    assert "baseline: small" in (tmp_path / "results" / "search" / "planted" / "best.yaml").read_text()


def test_two_totals_on_one_storage_count_each_their_own(study: Study, search: Search, layout: Layout) -> None:
    path = study()
    search(path, "trials=9", "fresh.top=1")
    from harness.search.opening import open_arms
    from harness.search.parents import Parents
    from harness.search.storage import open_storage

    file = StudyFile(path, ["trials=9"])
    folder = layout.root / "search" / "planted"
    parents = Parents(folder, own_storage=True)
    (arm, _) = open_arms(file, file.resolve(), open_storage(None, folder), "there", parents)
    arm.total = 4
    assert [trial.number for trial in arm.ended()] == [0, 1, 2, 3]
    assert arm.claim() is None
