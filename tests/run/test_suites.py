"""The shipped suites of images, of experts and of recall on one seed at full length: what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_arm_of_the_classifier_reads_nine_of_ten_held_out_digits(capsys: pytest.CaptureFixture[str]) -> None:
    suite = [str(ROOT / "suites" / "vision.yaml"), "seeds=[1]", "-k", "model=vit"]
    assert main(["run", *suite, "--jobs", "2"]) == 0
    capsys.readouterr()
    assert main(["compare", *suite, "--json"]) == 0
    accuracy = {arm["arm"]: arm["accuracy"] for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert len(accuracy) == 5
    assert min(accuracy.values()) > 0.9, accuracy


@pytest.mark.slow
def test_no_expert_of_the_sparse_suite_is_idle(capsys: pytest.CaptureFixture[str]) -> None:
    suite = [str(ROOT / "suites" / "moe.yaml"), "seeds=[1]", "-k", "residual or dhc"]
    assert main(["run", *suite, "--jobs", "2"]) == 0
    capsys.readouterr()
    assert main(["compare", *suite, "--json"]) == 0
    for arm in json.loads(capsys.readouterr().out)["arms"]:
        assert arm["loss"] < 2.6
        assert 1 < arm["expert_load"] < 4, "eight would be all tokens on one"


@pytest.mark.slow
def test_hyper_connections_recall_what_the_residual_does_not_yet(capsys: pytest.CaptureFixture[str]) -> None:
    suite = [str(ROOT / "suites" / "diagnostics" / "mqar.yaml"), "seeds=[1]", "-k", "residual or dhc"]
    assert main(["run", *suite, "--jobs", "2"]) == 0
    capsys.readouterr()
    assert main(["compare", *suite, "--json"]) == 0
    right = {arm["arm"]: arm["scores"]["mqar/acc"] for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert right["residual"] > 1 / 3, "what choosing among the values seen would be worth"
    assert right["dhc-n4"] > right["residual"] + 0.15
