"""Searches over a planted objective with a known optimum: it is found, pruning saves, and budgets are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import BEST_LR, STUDY, Lost, Planted, Search, planted, result_of, told, trials_of

from harness.run.layout import Layout
from harness.search import run
from harness.search.file import StudyFile
from harness.suite.cells import Cell

Study = Callable[..., Path]
ARMS = ("residual", "dhc-n2")
MORE = {"trials: 12": "trials: 40"}


def void(layout: Layout, arm: str = "residual") -> list[str]:
    return [t.user_attrs["harness.void"] for t in trials_of(layout, "planted", arm) if "harness.void" in t.user_attrs]


def running(layout: Layout) -> list[str]:
    states = [trial.state.name for arm in ARMS for trial in trials_of(layout, "planted", arm)]
    return [state for state in states if state in ("RUNNING", "WAITING")]


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


def test_a_trial_that_diverges_counts_is_learnt_from_and_never_wins(
    study: Study, search: Search, layout: Layout
) -> None:
    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.config["train"]["lr"] > 1e-2 else None

    answer, _ = search(study(), fate=fate)
    assert answer.code == 0, "a bad setting is an answer"
    arms = result_of(layout, "planted")["arms"]
    ended = [trial["ended"] for arm in arms for trial in arm["trials"]]
    assert "diverged" in ended
    assert [len(arm["trials"]) for arm in arms] == [12, 12]
    assert all(arm["best"]["params"]["train.lr"] <= 1e-2 for arm in arms)
    assert "diverged" in answer.text


def test_a_cell_that_fails_is_tried_again_and_then_counts_as_failed(
    study: Study, search: Search, layout: Layout
) -> None:
    def fate(cell: Cell, attempt: int) -> int | str | None:
        if cell.name == "residual-t3-s1":
            return "error"
        return -9 if cell.name == "dhc-n2-t2-s1" and attempt == 1 else None

    answer, executor = search(study(), fate=fate)
    assert answer.code == 1
    assert executor.started.count("residual-t3-s1") == 2
    assert executor.started.count("dhc-n2-t2-s1") == 2
    arms = {arm["arm"]: arm for arm in result_of(layout, "planted")["arms"]}
    assert [trial["ended"] for trial in arms["residual"]["trials"]].count("failed") == 1
    assert len(arms["residual"]["trials"]) == 12
    assert "failed" not in [trial["ended"] for trial in arms["dhc-n2"]["trials"]]


def test_a_cell_without_memory_beside_others_is_tried_again_alone(study: Study, search: Search, layout: Layout) -> None:
    beside: list[int] = []

    def fate(cell: Cell, attempt: int) -> str | None:
        if cell.name != "dhc-n2-t3-s1":
            return None
        beside.append(len(executor.workers))
        return "memory" if len(executor.workers) > 1 else None

    path = study()
    executor = Planted(layout, 3, fate=fate)
    file = StudyFile(path, [])
    answer = run.search(file, file.resolve(), layout, run.SearchOptions(jobs=3), "again", lambda: executor)
    assert beside[0] > 1
    assert set(beside[1:]) == {1}
    assert "failed" not in {trial["ended"] for arm in answer.document["arms"] for trial in arm["trials"]}


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


def test_an_arm_without_a_complete_trial_is_said_and_drawn(study: Study, search: Search, layout: Layout) -> None:
    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.config["connection"]["type"] == "hyper" else None

    answer, _ = search(study(), fate=fate)
    arms = {arm["arm"]: arm for arm in answer.document["arms"]}
    assert arms["dhc-n2"]["best"]["trial"] is None
    assert (arms["dhc-n2"]["delta"], arms["dhc-n2"]["verdict"]) == (None, None)
    assert arms["residual"]["best"]["trial"] is not None
    assert (layout.root / "search" / "planted" / "report.html").exists()


def test_a_best_setting_that_diverges_on_a_quoted_seed_is_named_and_not_judged(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run import runner

    def fate(cell: Cell, attempt: int) -> str | None:
        return "diverged" if cell.name == "dhc-n2-s202" else None

    path = study()
    file = StudyFile(path, ["trials=24"])
    monkeypatch.setattr(runner, "LocalExecutor", lambda _, jobs, relative_to: Planted(layout, jobs, fate=fate))
    answer = run.search(file, file.resolve(), layout, run.SearchOptions(), "again", lambda: Planted(layout))
    arm = next(arm for arm in answer.document["arms"] if arm["arm"] == "dhc-n2")
    assert answer.code == 1
    assert arm["best"]["lost"] == [202]
    assert arm["verdict"] is None
    assert "not judged, for seeds were lost" in answer.text
    assert "the best found of dhc-n2 has no value on seed 202" in answer.text
    assert "(2 of 3)" in answer.text


def test_trials_that_fail_one_after_another_end_the_search_and_are_tried_again_when_asked(
    study: Study, search: Search, layout: Layout
) -> None:
    from harness.errors import HarnessError

    path = study()
    with pytest.raises(HarnessError, match="3 trials failed one after another, the last: error: planted error"):
        search(path, fate=lambda cell, attempt: "error")
    assert running(layout) == []
    healed, _ = search(path, retry_failed=True)
    assert healed.code == 0
    assert all(len(arm["trials"]) == 12 for arm in healed.document["arms"])
    assert "failed" not in {trial["ended"] for arm in healed.document["arms"] for trial in arm["trials"]}


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


def test_a_parent_that_was_taken_for_dead_leaves_the_trial_to_the_other(
    study: Study, search: Search, layout: Layout
) -> None:
    from harness.search.source import SearchSource

    path = study()
    taken: list[int] = []

    class Suspended(Planted):
        def finished(self, timeout: float) -> list[tuple[Cell, int]]:
            if self.looks == 4:
                trial = trials_of(layout, "planted", "residual")[-1]
                taken.append(trial.number)
                (source,) = SOURCES
                active = source._active[0]
                active.arm.give_up(active.arm.all()[active.trial.number], "its parent died", again=True)
            return super().finished(timeout)

    SOURCES: list[SearchSource] = []
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(run, "SearchSource", lambda *arguments: SOURCES.append(SearchSource(*arguments)) or SOURCES[0])
        file = StudyFile(path, [])
        answer = run.search(file, file.resolve(), layout, run.SearchOptions(), "again", lambda: Suspended(layout))
    assert taken
    assert answer.code == 0
    assert [len(told(layout, "planted", arm)) for arm in ARMS] == [12, 12]


def test_a_storage_that_stops_answering_is_said_in_a_line_and_the_search_goes_on_from_there(
    study: Study, search: Search, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    from harness.errors import HarnessError
    from harness.search.trials import ArmTrials

    def gone(*_: object) -> None:
        raise optuna.exceptions.StorageInternalError("the server closed the connection\nand more")

    path = study()
    with monkeypatch.context() as patched:
        patched.setattr(run, "try_out", lambda *_: None)
        patched.setattr(ArmTrials, "tell", gone)
        patched.setattr(ArmTrials, "give_up", gone)
        with pytest.raises(HarnessError, match="does not answer any more") as caught:
            search(path)
    assert "\n" not in str(caught.value)
    assert search(path)[0].code == 0
    assert running(layout) == []
    assert [len(told(layout, "planted", arm)) for arm in ARMS] == [12, 12]
