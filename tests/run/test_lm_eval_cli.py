"""lm-eval's own command line asks our cells, and gets the numbers of `harness evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asking_support import evaluate, folders
from evaluation_support import MAKERS, write_rows


def test_lm_evals_own_command_gives_the_same_numbers(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process and on an index of the tasks in question: the whole of lm-eval's takes ten seconds (test_lm_eval_cli)."""
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from harness.lm_eval_cli import local_tasks, register

    found = evaluate(capsys, "dhc-n2", "--tasks", "piqa", "wikitext", "--data", str(documents), "--tier", "full")[
        "dhc-n2-s1"
    ]["scores"]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setenv("HARNESS_EVAL_DATA", str(documents))
    (tmp_path / "yaml").mkdir()
    assert local_tasks(["piqa", "wikitext"], tmp_path / "yaml")
    register()
    results = simple_evaluate(
        model="harness", model_args={"cell": str(folders(tmp_path)["dhc-n2"])}, tasks=["piqa", "wikitext"],
        task_manager=TaskManager(include_defaults=False, include_path=str(tmp_path / "yaml")), bootstrap_iters=0,
    )["results"]  # fmt: skip
    assert results["piqa"]["acc,none"] == found["piqa/acc"]
    assert results["piqa"]["acc_norm,none"] == found["piqa/acc_norm"]
    assert results["wikitext"]["bits_per_byte,none"] == pytest.approx(found["wikitext/bits_per_byte"], rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "harness", "--tasks", "cloze"], "--tasks: cloze: of the harness, not of lm-eval; harness evaluate"),
        (["--model", "harness", "--tasks=piqa", "--num_fewshot", "2"], "the examples of 'piqa' are from its split 'train', and"),
        (["--model", "harness", "--tasks", "blimp_adjunct_is*", "winograndee"], "'winograndee'; did you mean 'winogrande'?"),
    ],
)  # fmt: skip
def test_what_lm_evals_own_command_line_cannot_ask_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from harness import lm_eval_cli

    write_rows(tmp_path / "piqa" / "validation.jsonl", [MAKERS["piqa"][1](i) for i in range(3)])
    monkeypatch.setenv("HARNESS_EVAL_DATA", str(tmp_path))
    assert lm_eval_cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_pattern_stands_for_the_tasks_that_match(
    documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.lm_eval_cli import _tasks_of, local_tasks

    names = list(_tasks_of(["--tasks", "blimp_adjunct_is*,piqa"]))
    assert names == ["blimp_adjunct_island", "piqa"]
    monkeypatch.setenv("HARNESS_EVAL_DATA", str(documents))
    assert local_tasks(names, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.yaml")} == set(names)


@pytest.mark.slow
def test_lm_evals_own_command_line_asks_a_cell(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os
    import subprocess
    import sys

    asked = evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(documents), "--tier", "full")
    found = asked["dhc-n2-s1"]["scores"]
    environment = {
        **os.environ,
        "HARNESS_EVAL_DATA": str(documents),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    cell = f"cell={folders(tmp_path)['dhc-n2']}"
    command = [
        sys.executable,
        "-m",
        "harness.lm_eval_cli",
        "--model",
        "harness",
        "--model_args",
        cell,
        "--tasks",
        "piqa",
    ]
    done = subprocess.run(
        [*command, "--output_path", str(tmp_path / "out"), "--device", "cpu"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [results] = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["piqa"]["acc,none"] == found["piqa/acc"]
    wrong = subprocess.run([*command[:-1], "piqqa"], env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert (
        wrong.stderr.splitlines()[-1]
        == "harness-lm-eval: evaluation.tasks: no task is called 'piqqa'; did you mean 'piqa'?"
    )
