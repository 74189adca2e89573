"""Cells of images, of experts and of synthetic diagnostics, all the way: trained, scored, drawn, recorded, compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main

Write = Callable[..., Path]

IMAGES = """\
name: kinds
baseline: vit
seeds: [1, 2]
data: {corpus: digits, valid_share: 0.2}
model: {type: vit, layers: 2, width: 16, heads: 2, patch: 4}
train: {steps: 6, batch_size: 8, lr: 1e-3, warmup_steps: 1, validate_every: 3, validation_images: 50, log_every: 3}
evaluation: {images: 20, samples_per_class: 2, sampling_steps: 3}
arms:
  vit: {connection: residual}
  vit-dhc: {connection: {type: hyper, rate: 2}}
  dit: {connection: residual, baseline: dit, model: {type: dit, timesteps: 20}}
  dit-dfc: {connection: {type: frac, rate: 2}, baseline: dit, model: {type: dit, timesteps: 20}}
"""


def recorded(results: Path, suite: str) -> dict[str, Any]:
    """Run name -> (metrics, names of artifacts) of the cells, as MLflow has them."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{results}/mlflow.db")
    experiment = client.get_experiment_by_name(suite)
    assert experiment is not None
    return {
        run.info.run_name: (run.data.metrics, {file.path for file in client.list_artifacts(run.info.run_id)})
        for run in client.search_runs([experiment.experiment_id])
        if "harness.cell" in run.data.tags
    }


def test_a_suite_of_images_ends_in_two_tables_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, results = tmp_path / "kinds.yaml", tmp_path / "results"
    path.write_text(IMAGES)
    assert main(["run", str(path), "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("###")] == ["### Against vit", "### Against dit"]
    assert "held-out nats per image" in out
    assert "held-out squared error per pixel" in out
    assert "samples of every denoiser, such as" in out
    assert main(["compare", str(path), "--json"]) == 0
    arms = {arm["arm"]: arm for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert {name: arm["baseline"] for name, arm in arms.items()} == {
        "vit": "vit", "vit-dhc": "vit", "dit": "dit", "dit-dfc": "dit",
    }  # fmt: skip
    runs = recorded(results, "kinds")
    assert len(runs) == 8
    for name, (metrics, files) in runs.items():
        drawn = [file for file in files if file.startswith("samples-")]
        if name.startswith("vit"):
            assert metrics["eval/classification/documents"] > 300
            right = metrics["eval/classification/acc"]
            count = metrics["eval/classification/documents"]
            assert metrics["eval/classification/acc_stderr"] == pytest.approx(
                (right * (1 - right) / (count - 1)) ** 0.5
            )
            assert not drawn
        else:
            assert metrics["eval/denoising/documents"] == 20
            assert {f"validation/noise_{level}5" for level in range(10)} <= set(metrics)
            assert drawn
        assert metrics["train/tokens"] == 6 * 8 * (5 if name.startswith("vit") else 4), "a class token and four patches"
    whole = [runs[f"vit-s{seed}"][0]["eval/classification/acc"] for seed in (1, 2)]
    assert arms["vit"]["accuracy"] == pytest.approx(sum(whole) / 2), (
        "of the whole held-out side, not of the curve's part"
    )
    assert arms["dit"]["accuracy"] is None
    assert arms["dit-dfc"]["pairs"] == arms["vit-dhc"]["pairs"] == 2

    # Another guidance draws again, beside what was drawn, and trains nothing; classifiers are left alone.
    before = {file: file.read_bytes() for file in (results / "cells").glob("*/samples-*.png")}
    assert len(before) == 4
    weights = {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")}
    assert main(["run", str(path), "--jobs", "2", "evaluation.guidance=4.0", "--budget-hours", "1e-9"]) == 0
    assert all(file.read_bytes() == data for file, data in before.items())
    assert len(list((results / "cells").glob("*/samples-*.png"))) == 8
    assert len(list((results / "cells").glob("*/scores-*.json"))) == 12
    assert {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")} == weights


def test_a_suite_of_experts_records_their_loads(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, results = tiny_suite(), tmp_path / "results"
    assert main(["run", str(path), "--jobs", "2", "model.experts=4", "seeds=[1]"]) == 0
    out = capsys.readouterr().out
    assert "| expert load |" in out
    assert "experts.png" in out
    assert (results / "suites" / "tiny" / "selection").exists() or (
        results / "suites" / "tiny" / "experts.png"
    ).exists()
    runs = recorded(results, "tiny")
    assert len(runs) == 2
    for metrics, files in runs.values():
        assert "experts.json" in files
        assert {"train/balance_loss", "train/router_z_loss", "router/entropy", "router/unused"} <= set(metrics)
        assert metrics["cost/active_parameters"] < metrics["cost/parameters"]
    loads = [json.loads(file.read_text())["layers"] for file in (results / "cells").glob("*/experts.json")]
    assert len(loads) == 2
    for cell in loads:
        assert [len(layer) for layer in cell] == [4, 4]
        assert [sum(layer) for layer in cell] == pytest.approx([1.0, 1.0])
    assert main(["compare", str(path), "--json", "model.experts=4", "seeds=[1]"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert sorted(arm["expert_load"] for arm in arms) == pytest.approx(
        sorted(4 * max(max(layer) for layer in cell) for cell in loads)
    )


SYMBOLS = """\
name: asked
baseline: residual
seeds: [1, 2]
data: {corpus: mqar, pairs: [1, 3]}
model: {layers: 2, width: 16, heads: 2, context: 16}
train: {steps: 6, batch_size: 4, micro_batch_size: 3, lr: 1e-3, warmup_steps: 1, validate_every: 3, log_every: 3,
        validation_tokens: 320}
evaluation: {limit: 6}
arms:
  residual: {connection: residual}
  dhc: {connection: {type: hyper, rate: 2}}
"""


def test_a_suite_of_a_diagnostic_records_what_is_answered_in_all_and_in_slices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, results = tmp_path / "asked.yaml", tmp_path / "results"
    path.write_text(SYMBOLS)
    assert main(["run", str(path), "--jobs", "2"]) == 0
    capsys.readouterr()
    assert main(["compare", str(path), "--json"]) == 0
    arms = {arm["arm"]: arm for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert arms["dhc"]["pairs"] == 2, "the same batches and held-out sequences"
    runs = recorded(results, "asked")
    assert len(runs) == 4
    for metrics, _ in runs.values():
        assert metrics["eval/mqar/documents"] == 60
        assert {"eval/mqar/acc_stderr", "eval/mqar/acc_pairs_1", "eval/mqar/acc_pairs_3"} <= set(metrics)
        assert 0 <= metrics["eval/mqar/acc"] <= 1
        assert 0 <= metrics["validation/accuracy"] <= 1
        assert metrics["train/tokens"] == 6 * 4 * 16, "all that are read, not only what is asked"
    scored = [runs[f"dhc-s{seed}"][0]["eval/mqar/acc"] for seed in (1, 2)]
    assert arms["dhc"]["scores"]["mqar/acc"] == pytest.approx(sum(scored) / 2)
    cells = {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")}
    assert main(["run", str(path), "evaluation.limit=7"]) == 0
    assert {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")} == cells
    assert main(["evaluate", "dhc-s1", "--limit", "2"]) == 0
    capsys.readouterr()
    assert main(["compare", str(path), "--json"]) == 0
    again = {arm["arm"]: arm["scores"] for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert again == {name: arm["scores"] for name, arm in arms.items()}, "fewer sequences, asked of one cell only"
    assert main(["plan", str(path), "--device", "here"]) == 0, "a step is measured on sequences too"
    for name in ("induction", "brackets"):
        short = [f"data={{corpus: {name}}}", "model.context=24", "seeds=[1]"]
        assert main(["run", str(path), "--smoke", "--jobs", "2", *short]) == 0


def test_a_budget_holds_for_what_is_forced_and_not_for_what_is_left_alone(tiny_suite: Write, tmp_path: Path) -> None:
    path, results = str(tiny_suite()), tmp_path / "results"
    assert main(["run", path, "seeds=[1]"]) == 0
    small = ["--budget-hours", "1e-9", "--budget-memory", "1e-6"]
    weights = {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")}
    assert main(["run", path, "seeds=[1]", *small]) == 0, "nothing is left to pay for"
    assert main(["run", path, "seeds=[1]", "--force", *small]) == 2
    assert main(["run", path, "seeds=[1]", "--force", "--budget-hours", "1e-9"]) == 2
    assert {file: file.stat().st_mtime_ns for file in (results / "cells").glob("*/weights.pt")} == weights
    assert main(["run", path, "seeds=[1]", "train.lr=1e30", "-k", "residual"]) == 1
    assert main(["run", path, "seeds=[1]", "train.lr=1e30", "-k", "residual", *small]) == 1, (
        "failed cells are left alone"
    )
    assert main(["run", path, "seeds=[1]", "train.lr=1e30", "-k", "residual", "--retry-failed", *small]) == 2


def test_a_device_that_is_not_there_is_one_line_before_anything_is_measured(
    tiny_suite: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    for arguments in (["plan", "--device", "here"], ["run", "--budget-hours", "5"]):
        verb, *options = arguments
        assert main([verb, str(tiny_suite()), "train.device=cuda", *options]) == 2
        assert "train.device: 'cuda' is asked for" in capsys.readouterr().err
