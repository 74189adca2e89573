"""The runner on real cells: skip, resume, failure, retry, force, scoring again, a tracker that is down, two runners.

Cells run in worker processes forked from one server, as in real life; the server is shared by the tests of a process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.run.celldir import CellDir

Write = Callable[..., Path]


def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def cell_dirs(tmp_path: Path) -> dict[str, CellDir]:
    """By name without the hash, such as residual-s1."""
    folders = sorted((results(tmp_path) / "cells").iterdir())
    return {folder.name.rsplit("-", 1)[0]: CellDir(folder) for folder in folders}


def times(tmp_path: Path) -> dict[str, int]:
    return {name: (cell.path / "result.json").stat().st_mtime_ns for name, cell in cell_dirs(tmp_path).items()}


def compare(suite: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compare", str(suite), "--format", "json", *options]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_suite_runs_once_and_then_only_answers(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite()
    assert main(["run", str(suite), "--jobs", "2"]) == 0
    out = capsys.readouterr()
    assert re.search(r"\| residual +\| +2 \|", out.out)
    assert "loss.png" in out.out
    before = times(tmp_path)
    assert len(before) == 4
    assert main(["run", str(suite), "--jobs", "2"]) == 0
    assert times(tmp_path) == before
    again = capsys.readouterr()
    assert again.out == out.out, "the same answer"

    document = compare(suite, capsys)
    assert set(document) == {"suite", "baseline", "match", "margin", "remarks", "measured_on", "hardware", "arms"}
    keys = {"arm", "n", "loss", "loss_ci", "delta", "delta_ci", "p", "bpb", "ppl", "tokens_per_second_ratio",
            "saved_bytes_ratio", "params", "scores"}  # fmt: skip
    for arm in document["arms"]:
        assert keys <= set(arm)
        assert {"cloze:4/acc", "minimal_pairs:4/acc", "corpus_perplexity:4/byte_perplexity"} <= set(arm["scores"])
    cells = cell_dirs(tmp_path)
    losses = [cells[f"dhc-n2-s{s}"].result()["metrics"]["validation/loss"] for s in (1, 2)]  # type: ignore[index]
    assert document["arms"][1]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-12)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{results(tmp_path)}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    names = {"residual-s1", "residual-s2", "dhc-n2-s1", "dhc-n2-s2"}
    assert {run.info.run_name for run in runs} == {*names, "costs"}
    for run in runs:
        if run.info.run_name == "costs":
            continue
        assert [p.step for p in client.get_metric_history(run.info.run_id, "train/loss")] == [3, 6, 9, 12]
        assert [p.step for p in client.get_metric_history(run.info.run_id, "validation/loss")] == [6, 12]
        assert {"train/lr", "train/grad_norm", "cost/saved_activation_bytes", "cost/peak_rss_bytes"} <= set(
            run.data.metrics
        )
        assert run.data.params["train.steps"] == "12"
        assert len(run.data.tags["harness.digest.batches"]) == 64
        assert "harness.env.packages" in run.data.tags
        assert run.info.status == "FINISHED"
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {
            "config.json", "environment.json", "diagnostics.json", "held_out.json",
        }  # fmt: skip
        assert [p.step for p in client.get_metric_history(run.info.run_id, "connection/cosine_median")] == [6, 12]
        assert ("connection/gain_forward_max" in run.data.metrics) == run.info.run_name.startswith("dhc")
    for cell in cells.values():
        found = json.loads((cell.path / "diagnostics.json").read_text())
        assert [step["step"] for step in found["steps"]] == [6, 12]
        assert len(found["steps"][0]["gradient_norm"]) == 4
        assert len(found["end"]["matrix"]) == 5
        held = json.loads((cell.path / "held_out.json").read_text())
        loss = cell.result()["metrics"]["validation/loss"]  # type: ignore[index]
        assert sum(held["losses"]) / sum(held["sizes"]) == pytest.approx(loss, rel=1e-6)


def test_more_seeds_train_only_what_is_new_and_a_selection_only_its_cells(tiny_suite: Write, tmp_path: Path) -> None:
    suite = tiny_suite()
    assert main(["run", str(suite), "seeds=[1]", "-k", "residual"]) == 0
    assert set(times(tmp_path)) == {"residual-s1"}
    before = times(tmp_path)
    assert main(["run", str(suite), "seeds=[1]"]) == 0
    after = times(tmp_path)
    assert set(after) == {"residual-s1", "dhc-n2-s1"}
    assert after["residual-s1"] == before["residual-s1"]


def test_another_evaluation_scores_again_without_training(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite()
    assert main(["run", str(suite), "seeds=[1]"]) == 0
    before = times(tmp_path)
    assert main(["run", str(suite), "seeds=[1]", "evaluation.limit=6", "evaluation.tasks=[cloze]"]) == 0
    assert times(tmp_path) == before
    assert (
        compare(suite, capsys, "seeds=[1]", "evaluation.limit=6", "evaluation.tasks=[cloze]")["arms"][0]["scores"][
            "cloze:6/documents"
        ]
        == 6
    )
    first = compare(suite, capsys, "seeds=[1]")["arms"][0]["scores"]
    assert first["cloze:4/documents"] == 4
    assert "minimal_pairs:4/acc" in first


def test_a_failed_cell_is_recorded_with_class_step_and_log_while_the_others_go_on(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hot = "  hot: {connection: {type: frac, rate: 2}, train: {lr: 1.0e+18, clip: 0, warmup_steps: 0}}\nmodel:"
    suite = tiny_suite(**{"model:": hot})
    assert main(["run", str(suite), "seeds=[1]"]) == 1
    assert "hot-s1" in capsys.readouterr().err
    cells = cell_dirs(tmp_path)
    assert cells["residual-s1"].result()
    assert cells["dhc-n2-s1"].result()
    failure = cells["dfc-m2-s1"].status()["failure"]
    assert failure["class"] == "diverged"
    assert 1 <= failure["step"] <= 12
    assert "DivergedError" in failure["tail"]

    assert main(["status", str(suite), "seeds=[1]", "--json"]) == 0
    states = {cell["cell"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert states["hot-s1"]["state"] == "failed"
    assert states["residual-s1"]["state"] == "done"
    attempts = cells["dfc-m2-s1"].status()["attempts"]
    assert main(["run", str(suite), "seeds=[1]"]) == 1, "a failed cell is not forgotten"
    assert cells["dfc-m2-s1"].status()["attempts"] == attempts
    assert main(["run", str(suite), "seeds=[1]", "--retry-failed"]) == 1
    assert cells["dfc-m2-s1"].status()["attempts"] == attempts + 1
    row = compare(suite, capsys, "seeds=[1]")["arms"][2]
    assert (row["arm"], row["n"], row["failed_seeds"], row["loss"]) == ("hot", 0, [1], None)


def test_fail_fast_starts_nothing_after_a_failure(tiny_suite: Write, tmp_path: Path) -> None:
    suite = tiny_suite(**{"{connection: residual}": "{connection: residual, train: {lr: 1.0e+18, clip: 0}}"})
    assert main(["run", str(suite), "--fail-fast"]) == 1
    assert set(cell_dirs(tmp_path)) == {"residual-s1", "residual-s2", "dhc-n2-s1", "dhc-n2-s2"}
    assert [cell.result() for cell in cell_dirs(tmp_path).values()] == [None] * 4


def test_force_moves_aside_and_deletes_nothing(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite()
    assert main(["run", str(suite), "seeds=[1]", "-k", "residual"]) == 0
    loss = compare(suite, capsys, "seeds=[1]")["arms"][0]["loss"]
    assert main(["run", str(suite), "seeds=[1]", "-k", "residual", "--force"]) == 0
    folders = [folder.name for folder in (results(tmp_path) / "cells").iterdir()]
    assert len(folders) == 2
    assert sum(".old-" in name for name in folders) == 1
    again = compare(suite, capsys, "seeds=[1]")["arms"][0]
    assert again["loss"] == loss, "the same cell gives the same number"
    assert again["n"] == 1


def test_a_tracker_that_is_down_stops_nothing_and_is_caught_up_later(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tiny_suite()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["run", str(suite), "seeds=[1]"]) == 0
    said = capsys.readouterr().err
    assert said.count("does not answer") == 1
    assert len(times(tmp_path)) == 2
    assert main(["compare", str(suite), "seeds=[1]"]) == 3
    assert "127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert compare(suite, capsys, "seeds=[1]")["arms"][1]["n"] == 1


def test_a_changed_text_is_another_cell(tiny_suite: Write, tmp_path: Path) -> None:
    suite = tiny_suite()
    assert main(["run", str(suite), "seeds=[1]", "-k", "residual"]) == 0
    text = tmp_path / "corpus.txt"
    text.write_bytes(text.read_bytes() + b"one more line at the end of the text\n")
    assert main(["run", str(suite), "seeds=[1]", "-k", "residual"]) == 0
    assert len(list((results(tmp_path) / "cells").iterdir())) == 2


def test_smoke_keeps_its_results_apart(tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tiny_suite(**{"steps: 12": "steps: 40"})
    assert main(["run", str(suite), "--smoke", "-k", "seed=1"]) == 0
    assert not (results(tmp_path) / "cells").exists()
    capsys.readouterr()
    assert main(["status", str(suite), "--smoke", "--json"]) == 0
    states = json.loads(capsys.readouterr().out)["cells"]
    assert {cell["steps"] for cell in states} == {20}
    assert {cell["state"] for cell in states if cell["seed"] == 1} == {"done"}
    assert main(["compare", str(suite)]) == 3, "the suite itself has not run"


def test_arms_judged_on_other_windows_are_not_paired(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "{connection: {type: hyper, rate: 2}, train: {validation_tokens: 64}}"
    suite = tiny_suite(**{"{connection: {type: hyper, rate: 2}}": other})
    assert main(["run", str(suite), "evaluation.tasks=[]"]) == 0
    row = compare(suite, capsys, "evaluation.tasks=[]")["arms"][1]
    assert (row["n"], row["delta"], row["unpaired_seeds"]) == (2, None, [1, 2])


@pytest.mark.parametrize("kind", ["chinese", "digits", "lists"])
def test_texts_without_words_or_like_python_literals_are_scored(
    kind: str, tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite()
    lines = {
        "chinese": ["".join(chr(0x4E00 + (7 * i + 31 * j) % 2000) for j in range(120)) for i in range(400)],
        "digits": ["".join(str((i * j * j + j) % 10) for j in range(200)) for i in range(400)],
        "lists": [f"[{i}, 2, 'x', ({i % 7})] " * 9 for i in range(400)],
    }[kind]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    options = ["seeds=[1]", "train.lr=1e-6", "evaluation.tasks=[corpus_perplexity,cloze]"]
    assert main(["run", str(suite), "-k", "residual", *options]) == 0
    scores = compare(suite, capsys, "-k", "residual", *options)["arms"][0]["scores"]
    assert scores["corpus_perplexity:4/byte_perplexity"] > 1
    assert 0 <= scores["cloze:4/acc"] <= 1


def test_tasks_that_the_text_cannot_fill_are_refused_before_anything_is_trained(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite()
    (tmp_path / "corpus.txt").write_text(("x" * 200 + "\n") * 400)
    assert main(["run", str(suite)]) == 2
    said = capsys.readouterr().err
    assert "evaluation" in said
    assert "minimal_pairs" in said or "cloze" in said
    assert not (results(tmp_path) / "cells").exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_trained(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main(["run", str(tiny_suite()), "train.device=cuda"]) == 2
    assert "train.device" in capsys.readouterr().err
    assert not list((results(tmp_path) / "cells").iterdir())


def test_the_answer_of_a_selection_does_not_replace_the_suites(tiny_suite: Write, tmp_path: Path) -> None:
    suite, folder = tiny_suite(), results(tmp_path) / "suites" / "tiny"
    assert main(["run", str(suite), "evaluation.tasks=[]"]) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"table.md", "table.csv", "table.json", "loss.png", "answer.json", "cells.json", "costs.json"}
    assert main(["run", str(suite), "evaluation.tasks=[]", "-k", "seed=1"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert main(["run", str(suite), "evaluation.tasks=[]", "train.steps=13"]) == 0
    picture = (folder / "loss.png").read_bytes()
    assert picture != before["loss.png"]
    assert main(["run", str(suite), "evaluation.tasks=[]"]) == 0
    assert (folder / "loss.png").read_bytes() != picture, "the picture is that of the table beside it"


def test_the_last_answer_stands_only_while_every_cell_is_as_it_was(
    tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, options = tiny_suite(), ["seeds=[1]", "evaluation.tasks=[]"]
    assert main(["run", str(suite), *options]) == 0
    saved = results(tmp_path) / "suites" / "tiny" / "answer.json"
    saved.write_text(json.dumps({**json.loads(saved.read_text()), "text": "as the last time"}))
    capsys.readouterr()
    assert main(["run", str(suite), *options]) == 0
    assert capsys.readouterr().out == "as the last time\n"
    assert main(["run", str(suite), *options, "margin=0.5"]) == 0
    assert "within ±0.5" in capsys.readouterr().out, "another margin makes another table of the same cells"
    cell = cell_dirs(tmp_path)["dhc-n2-s1"]
    (scores,) = cell.path.glob("scores-*.json")
    scores.unlink()
    cell.update_status(state="failed", failure={"class": "killed", "message": "killed by SIGKILL"})
    assert main(["run", str(suite), *options]) == 1
    assert "dhc-n2: failed with seed 1" in capsys.readouterr().out
