"""The gate's own suite and the files in git that belong to it: they must fit each other, or CI would judge nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_support import ROOT

from harness.data.load import digests_of, load_data
from harness.gate.baseline import Baseline, anchor_path, changed_settings, noise_path
from harness.gate.noise import Noise
from harness.gate.run import check_seeds, suite_digest
from harness.gate.runs import Here, Question
from harness.suite.file import SuiteFile

FILE = ROOT / "results/baselines/ci.json"


@pytest.fixture(scope="module")
def asked() -> Question:
    path = ROOT / "suites/ci.yaml"
    suite = SuiteFile(path, []).resolve()
    return Question(suite, load_data(suite.data, path.parent), path, (), Path("results"), 1)


@pytest.mark.parametrize("file", [FILE, anchor_path(FILE)], ids=["baseline", "anchor"])
def test_the_baseline_is_of_the_suite_as_it_is(file: Path, asked: Question) -> None:
    made = Baseline.read(file, "ci")
    assert made.suite_digest == suite_digest(asked), "the suite was changed: accept a baseline with the reason"
    assert made.digests == digests_of(asked.data), "the text is the same on every Python and machine"
    assert made.dirty is False
    here = Here(asked).settings()
    assert {arm: list(changed_settings(here[arm], made.arms[arm].settings)) for arm in here} == {
        arm: [] for arm in here
    }
    seeds = {str(seed) for seed in (*asked.suite.seeds, *asked.suite.gate.confirm)}
    assert all(
        set(arm.seeds) == seeds and None not in [run.loss for run in arm.seeds.values()] for arm in made.arms.values()
    )
    assert len({tuple(arm.golden.losses) for arm in made.arms.values()}) == len(made.arms)
    assert file.stat().st_size < 5 * 1024 * len(made.arms)


def test_seeds_of_looks_confirmation_and_calibration_are_apart(asked: Question) -> None:
    check_seeds(asked)


def test_the_calibration_is_of_the_suite_and_calm(asked: Question) -> None:
    noise = Noise.read(noise_path(FILE), "ci")
    assert noise is not None
    assert noise.suite_digest == suite_digest(asked)
    assert len(noise.losses["residual"]) == 20
    assert noise.paired.df >= 30
    assert max(pair.sd for pair in noise.pairs.values()) <= 0.004
    assert {row.harm: row.fail for row in noise.power}[0.015] >= 0.95
