"""Study files: what is wrong is one line that names file, line, key and the nearest valid choice, with exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import STUDY
from tiny_support import ROOT

from harness.cli import main
from harness.search.file import StudyFile
from harness.search.settings import IntParameter, Outside

Study = Callable[..., Path]

LR = "train.lr: {type: float, low: 1e-5, high: 1e-1, log: true}"
WRONG = [
    ({"trials: 12": "trails: 12"}, "trails: unknown key; did you mean 'trials'?"),
    ({"name: planted": "name: a/b"}, "name: 'a/b' names no folder: letters, digits"),
    ({"trials: 12": "trials: 0"}, "trials: input should be greater than or equal to 1, got 0"),
    ({"trials: 12": "trials: 12\nbaseline: residual"}, "baseline: unknown key; this is a suite: harness run"),
    ({"suite: tiny.yaml": "suite: tyni.yaml"}, "suite: tyni.yaml: no such suite file; did you mean 'tiny.yaml'?"),
    ({"arms: [residual, dhc-n2]": "arms: [residul]"}, "arms.0: no arm is called 'residul'; did you mean 'residual'?"),
    ({"arms: [residual, dhc-n2]": "arms: [residual, residual]"}, "arms.1: 'residual' stands there twice"),
    ({"trials: 12": "trials: 12\nobjective: los"}, "objective.0: unknown objective 'los'; did you mean 'loss'?"),
    ({"trials: 12": "trials: 12\nset: {train.stps: 3}"}, "set: train.stps: unknown key; did you mean 'steps'?"),
    ({"trials: 12": "trials: 12\nsampler: TPE"}, "sampler.type: Optuna has no sampler 'TPE'"),
    ({"trials: 12": "trials: 12\nsampler: {n_startup: 3}"}, "TPESampler has no setting 'n_startup'; did you mean 'n_startup_trials'?"),
    ({"trials: 12": "trials: 12\nsampler: {seed: 3}"}, "'seed' of the study is the sampler's"),
    ({"trials: 12": "trials: 12\nsampler: CmaEsSampler"}, "CmaEsSampler needs a package that is not installed: pip install cmaes"),
    ({"trials: 12": "trials: 12\npruner: MedianPrunner"}, "Optuna has no pruner 'MedianPrunner'; did you mean 'MedianPruner'?"),
    ({"trials: 12": "trials: 12\npruner: {n_warmup_steps: 3}"}, "pruner.type: missing; known: MedianPruner"),
    ({"trials: 12": "trials: 12\npruner: {type: MedianPruner, n_startup_trials: -1}"}, "pruner: MedianPruner: "),
    ({"trials: 12": "trials: 12\npruner: MedianPruner\nobjective: [loss, flops]"}, "with several objectives nothing can be pruned"),
    ({"choose: [101, 102]": "choose: [1]"}, "fresh.choose: seed 1 is not fresh: it stands under seeds already"),
    ({"choose: [101, 102]": "choose: [201]"}, "fresh.report: seed 201 is not fresh: it stands under fresh.choose already"),
    ({"choose: [101, 102]": "choose: []"}, "fresh.choose: the best of the 2 best trials is chosen on seeds; name some"),
    ({"choose: [101, 102]": "chose: [101]"}, "fresh.chose: unknown key; did you mean 'choose'?"),
    ({LR: "lr: {type: float, low: 1e-5, high: 1e-1}"}, "space.lr: a parameter is a setting below connection, model or train; did you mean 'train.lr'?"),
    ({LR: "train.rl: {type: float, low: 1e-5, high: 1e-1}"}, "train has no setting 'rl'; did you mean 'lr'? (arm 'residual')"),
    ({LR: "train.lr: {type: flaot, low: 1e-5, high: 1e-1}"}, "space.train.lr.type: a parameter is a float, an int or categorical"),
    ({LR: "train.lr: {type: float, low: 1e-5, hihg: 1e-1}"}, "space.train.lr.hihg: unknown key; did you mean 'high'?"),
    ({LR: "train.lr: {type: float, low: 1e-1, high: 1e-5}"}, "space.train.lr.low: 0.1 is above the high end 1e-05"),
    ({LR: "train.lr: {type: float, low: 0, high: 1e-1, log: true}"}, "space.train.lr.low: a logarithmic range begins above 0, got 0"),
    ({LR: "train.lr: {type: float, low: 0.1, high: 1, log: true, step: 0.1}"}, "space.train.lr.step: a logarithmic range has none"),
    ({LR: "train.lr: {type: float, low: -1, high: 1}"}, "space.train.lr: input should be greater than 0, got -1"),
    ({LR: "train.lr: {type: float, low: '1', high: 1}"}, "space.train.lr.low: input should be a valid number, got '1'"),
    ({LR: "train.lr: {type: float, low: 1}"}, "space.train.lr.high: missing"),
    ({LR: "train.lr: {type: categorical, choices: [1e-3, 1e-3]}"}, "space.train.lr.choices: 0.001 stands there twice"),
    ({LR: "train.log_every: {type: int, low: 1, high: 3}"}, "does not change what is learnt, so there is nothing to search"),
    ({LR: "train.validation_tokens: {type: int, low: 100, high: 300}"}, "is how trials are judged, which must be the same for all"),
    ({LR: "model.type: {type: categorical, choices: [decoder, vit]}"}, "losses of another kind of model do not compare"),
    ({LR: "train.warmup_steps: {type: int, low: 0, high: 12}"}, "12 warm-up steps leave none of the 12 steps (arm 'residual'"),
    ({LR: "connection.rate: {type: int, low: 2, high: 4}"}, "no setting 'rate'; 'arms' or 'when' limits a parameter to those"),
    ({LR: "train.lr: {type: categorical, choices: [1, 1.0]}"}, "space.train.lr.choices: 1.0 stands there twice"),
    ({LR: "train.lr: {type: categorical, choices: [[1]]}"}, "space.train.lr.choices: is no value of a setting, got [1]"),
    ({LR: "model.context: {type: categorical, choices: [32, 64]}"}, "is how trials are judged"),
    ({LR: "connection.rate: {type: int, low: 2, high: 4, arms: [dhc-n2]}\n  connection.type: {type: categorical, choices: [frac], arms: [dhc-n2]}"},
     "frac-rate 3 does not divide the width 16"),
    ({"trials: 12": "trials: 12\nset: {train.lr: 2020-01-01}"}, "set.train.lr: is no value of a suite"),
    ({"trials: 12": "trials: 12\nobjective: time\npruner: MedianPruner"}, "nothing can be pruned by 'time'"),
    ({"trials: 12": "trials: 12\nsampler: BruteForceSampler"}, "BruteForceSampler draws no trials of 'residual': ValueError"),
    ({"trials: 12": "trials: 12\nsampler: {n_ei_candidates: 0}"}, "TPESampler draws no trials of 'residual'"),
    ({"trials: 12": "trials: 12\nobjective: peak_memory"}, "peak_memory is measured on GPUs"),
    ({LR: "connection.type: {type: categorical, choices: [residual, hypr]}"}, "unknown connection 'hypr'; did you mean 'hyper'?"),
    ({LR: "train.lr: {type: float, low: 1, high: 2, arms: [dhc]}"}, "no arm of this search is called 'dhc'; did you mean 'dhc-n2'?"),
    ({LR: "train.lr: {type: float, low: 1, high: 2, when: {train.weight_decay: 0.1}}"}, "stands below; a condition is on what stands above"),
    ({LR: "train.lr: {type: float, low: 1, high: 2, when: {conection.type: hyper}}"}, "no parameter and no setting; did you mean 'connection.type'?"),
    ({LR: "train.lr: {type: float, low: 1, high: 2, when: {connection.type: frac}}"}, "the condition holds for no trial of any arm"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_wrong_is_one_line_with_its_place(
    change: dict[str, str], message: str, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(**change)
    assert main(["search", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert said.startswith(f"harness: {path}")
    assert not list((tmp_path / "results").glob("search/*/optuna*")), "nothing is begun"


SHIPPED = sorted((ROOT / "suites" / "search").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("shrunk", [False, True], ids=["full", "smoke"])
def test_every_study_that_ships_is_one_and_treats_its_arms_alike(path: Path, shrunk: bool) -> None:
    found = StudyFile(path, []).resolve(shrunk)
    assert found.settings.name == path.stem
    spaces = {arm: found.space.parameters(arm) for arm in found.space.arms}
    assert all(space == next(iter(spaces.values())) for space in spaces.values())
    assert all(found.space.own(arm) is not None for arm in found.space.arms)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trails=3", "command line: trails: unknown key; did you mean 'trials'?"),
        ("trials", "command line: 'trials' is not of the form key=value"),
        ("space.train.rl.low=3", "command line: space.train.rl.low: no such parameter; did you mean 'train.lr'?"),
        ("space.train.lr.low=1", "command line: space.train.lr.low: 1 is above the high end 0.1"),
        ("set.train.steps=-3", "command line: set: train.steps: input should be greater than or equal to 1, got -3"),
        ("arms.residual=3", "command line: arms.residual: 'arms' is not a section"),
    ],
)
def test_a_wrong_override_is_one_line_too(
    override: str, message: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(study()), override]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_overrides_reach_dotted_names(study: Study) -> None:
    found = StudyFile(study(), ["set.train.steps=20", "space.train.lr.high=0.5", "trials=3", "fresh.top=1"]).resolve()
    assert found.suite.arms["residual"].train.steps == 20
    assert found.settings.space["train.lr"].ends() == (1e-5, 0.5)
    assert (found.settings.trials, found.settings.fresh.top) == (3, 1)


def test_a_run_of_a_study_and_a_search_of_a_suite_say_which_verb_is_meant(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study()
    assert main(["run", str(path)]) == 2
    assert "this is a study: harness search" in capsys.readouterr().err
    assert main(["search", str(tmp_path / "tiny.yaml")]) == 2
    assert "this is a suite: harness run" in capsys.readouterr().err


def test_the_plan_names_cells_steps_and_the_first_trial_and_trains_nothing(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(study()), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "12 trials for every arm" in said
    assert "train.lr=0.001, train.weight_decay=0.1" in said
    # Of two arms: 12 trials, 2 of them on 2 seeds that choose, 2 settings on 3 that are quoted; 12 steps each.
    assert f"{2 * (12 + 4 + 6)} cells, {2 * (12 + 4 + 6) * 12:,} steps at most" in said
    assert not (tmp_path / "results").exists()


def test_smoke_shrinks_the_study_with_its_suite(study: Study) -> None:
    text = STUDY.replace("space:\n", "space:\n  train.warmup_steps: {type: int, low: 0, high: 10}\n")
    found = StudyFile(study(text), ["set.train.steps=400"]).resolve(shrunk=True)
    assert found.settings.trials == 3
    assert list(found.settings.space) == ["train.lr", "train.weight_decay"]
    assert found.suite.arms["residual"].train.steps == 20


def test_the_last_value_that_steps_reach_is_an_end() -> None:
    parameter = IntParameter(type="int", low=0, high=10, step=4)
    assert parameter.ends() == (0, 4, 8), "few enough to look at every one"
    assert [value for value in range(12) if parameter.match(value) is not Outside] == [0, 4, 8]
    assert parameter.match(True) is Outside
    assert IntParameter(type="int", low=0, high=1000, step=3).ends() == (0, 999)
