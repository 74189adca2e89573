"""Trained cells are asked again: nothing is trained, results join the record, and unlike ones never meet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking_support import evaluate, folders
from evaluation_support import MAKERS, write_rows

from harness.cli import main
from harness.evaluation import samples
from harness.run.celldir import CellDir

Write = Callable[..., Path]

pytestmark = pytest.mark.xdist_group("evaluate")  # what is run once for all tests is run in one process


def compared(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compare", str(path), "seeds=[1]", "evaluation.tasks=[cloze]", "--format", "json", *options]) == 0
    return {arm["arm"]: arm for arm in json.loads(capsys.readouterr().out)["arms"]}


def test_a_trained_cell_is_asked_other_tasks_without_training_and_the_answers_join_its_record(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").glob("cells/*/weights.pt")}
    runs = {arm: row["runs"] for arm, row in compared(capsys, suite).items()}
    found = evaluate(
        capsys,
        "residual",
        "dhc-n2-s1",
        "--tasks",
        "piqa,arc_easy",
        "wikitext",
        "--data",
        str(documents),
        "--tier",
        "full",
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found.keys() == {"residual-s1", "dhc-n2-s1"}
    table = compared(capsys, suite)
    assert {arm: row["runs"] for arm, row in table.items()} == runs, "the same run in the record, not another"
    for name, cell in found.items():
        assert cell["asked"]["piqa"]["documents"] == 7
        scores = table[name.removesuffix("-s1")]["scores"]
        assert {key: value for key, value in scores.items() if not key.startswith("cloze:4/")} == cell["scores"]
        assert "cloze:4/acc" in scores
    assert main(["compare", str(suite), "seeds=[1]", "evaluation.tasks=[cloze]"]) == 0
    heads = capsys.readouterr().out.splitlines()[0]
    assert [head in heads for head in ("cloze:4 acc", "piqa acc", "arc_easy acc", "wikitext byte_perplexity")] == [
        True
    ] * 4


def test_every_answer_is_kept_beside_the_cell_and_in_the_record(
    suite: Path, documents: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from mlflow.artifacts import download_artifacts

    found = evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(documents), "--tier", "full")["dhc-n2-s1"]
    head, kept = samples.read(Path(found["samples"]) / "piqa.jsonl.gz")
    assert head == {"format": 1, "label": "piqa", **found["asked"]["piqa"]}
    assert len(kept) == 7
    correct = sum(sample.metrics["acc"] for sample in kept.values())
    assert found["scores"]["piqa/acc"] == pytest.approx(correct / 7)
    run = compared(capsys, suite)["dhc-n2"]["runs"]["1"]
    uri = f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}"
    path = download_artifacts(
        run_id=run,
        artifact_path=f"samples-{found['evaluation']}/piqa.jsonl.gz",
        tracking_uri=uri,
        dst_path=str(tmp_path),
    )
    assert samples.read(Path(path)) == (head, kept)


def test_asked_the_same_again_nothing_is_done_and_the_answer_is_the_same(
    suite: Path, documents: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("residual", "--tasks", "piqa", "--data", str(documents))
    first = evaluate(capsys, *options)
    from harness.run import runner

    monkeypatch.setattr(runner, "LocalExecutor", None)  # nothing may be started
    assert evaluate(capsys, *options) == first
    monkeypatch.setenv("HARNESS_EVAL_DATA", str(documents))
    assert evaluate(capsys, "residual", "--tasks", "piqa") == first


def test_a_cell_is_asked_when_its_corpus_is_gone_but_not_what_is_made_from_it(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus.txt").write_text("another text altogether\n" * 4000)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "empty"))
    assert evaluate(capsys, "dhc-n2", "--tasks", "arc_easy", "--data", str(documents))["dhc-n2-s1"]["scores"]
    assert main(["evaluate", "dhc-n2", "--tasks", "minimal_pairs"]) == 2
    said = capsys.readouterr().err
    assert "its data are not those that it was trained on" in said
    assert said.count("\n") == 1


def test_unlike_questions_do_not_meet_in_one_table(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_rows(other / "piqa" / "validation.jsonl", [MAKERS["piqa"][1](100 + i) for i in range(7)])
    evaluate(capsys, "residual", "--tasks", "piqa", "--data", str(documents))
    evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(other))
    table = compared(capsys, suite)
    assert not any(name.startswith("piqa") for row in table.values() for name in row["scores"])
    main(["compare", str(suite), "seeds=[1]", "evaluation.tasks=[cloze]"])
    assert "left out, for not all cells were asked the same questions: piqa" in capsys.readouterr().out
    evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(documents), "--limit", "3")
    assert not any(name.startswith("piqa/") for name in compared(capsys, suite)["dhc-n2"]["scores"])
    assert "piqa:3/acc" in compared(capsys, suite)["dhc-n2"]["scores"]
    assert "piqa:3/acc" not in compared(capsys, suite)["residual"]["scores"]


def test_a_table_shows_what_all_were_asked_also_when_one_was_asked_other_things_later(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_rows(other / "piqa" / "validation.jsonl", [MAKERS["piqa"][1](100 + i) for i in range(7)])
    first = evaluate(capsys, "residual", "dhc-n2", "--tasks", "piqa", "--data", str(documents))
    evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(other))
    table = compared(capsys, suite)
    for name, cell in first.items():
        assert table[name.removesuffix("-s1")]["scores"]["piqa:4/acc"] == cell["scores"]["piqa:4/acc"]


def test_what_was_answered_is_shown_when_its_documents_are_gone(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(capsys, "residual")
    (tmp_path / "corpus.txt").rename(tmp_path / "elsewhere.txt")
    assert evaluate(capsys, "residual")["residual-s1"]["scores"]["cloze:4/acc"] >= 0


def test_a_suite_may_ask_stock_tasks_itself_and_is_found_in_a_shell_that_does_not_know_the_documents(
    tiny_suite: Write, documents: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_suite(
        **{"evaluation: {limit: 4}": "evaluation: {tasks: [piqa, blimp_adjunct_island, cloze], limit: 4}"}
    )
    monkeypatch.setenv("HARNESS_EVAL_DATA", str(documents))
    assert main(["run", str(path), "seeds=[1]", "-k", "residual"]) == 0
    table = capsys.readouterr().out
    assert all(head in table for head in ("piqa:4 acc", "blimp_adjunct_island:4 acc", "cloze:4 acc"))
    monkeypatch.delenv("HARNESS_EVAL_DATA")
    assert main(["status", str(path), "seeds=[1]", "-k", "residual"]) == 0
    assert "1 done" in capsys.readouterr().out
    assert main(["compare", str(path), "seeds=[1]", "-k", "residual"]) == 0
    assert "piqa:4 acc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["residul"], 2, "'residul': no cell and no arm is called so; did you mean 'residual'?"),
        (["residual", "--tasks", "piqqa"], 2, "--tasks: no task is called 'piqqa'; did you mean 'piqa'?"),
        (["residual", "--tasks", "piqa", "--data", "nowhere"], 2, "--data: no such folder: nowhere"),
        (["residual", "--tasks", "piqa", "piqa"], 2, "--tasks: a task is named twice"),
        (["residual", "--suite", "tinny"], 2, "--suite: no suite called 'tinny' was run in"),
        (["residual", "--tasks", "openbookqa", "--data", "{documents}"], 2, "--tasks: the documents of 'openbookqa'"),
        (["residual", "--tasks", "blimp_adjunct_island", "--data", "{broken}"], 2, "adjunct_island.jsonl:2: not JSON"),
        (["residual-s7"], 2, "did you mean 'residual-s1'?"),
        (["residual", "--tasks", ","], 2, "--tasks: names no task"),
        (["nowhere/residual-s1"], 2, "'nowhere/residual-s1' is no cell of the results in"),
        (["residual", "--tasks", "xyzzy"], 2, "--tasks: no task is called 'xyzzy'; lm-eval ls tasks lists all"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_half_recorded(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    from harness.data import hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.offline.cache_clear()
    broken = tmp_path / "broken" / "blimp"
    broken.mkdir(parents=True)
    (broken / "adjunct_island.jsonl").write_text('{"sentence_good": "a b", "sentence_bad": "b a"}\n{"sentence_good"\n')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cells").rglob("*")}
    capsys.readouterr()
    names = {"documents": str(documents), "broken": str(broken.parent)}
    assert main(["evaluate", *(word.format(**names) for word in arguments)]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cells").rglob("*")} == before
    hub.offline.cache_clear()


def test_cells_are_named_by_folder_identity_name_or_arm(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders(tmp_path)["dhc-n2"]
    expected = evaluate(capsys, "dhc-n2", "--tasks", "piqa", "--data", str(documents))
    for name in (str(folder), folder.name, folder.name.rsplit("-", 1)[1], "dhc-n2-s1"):
        assert evaluate(capsys, name, "--tasks", "piqa", "--data", str(documents)) == expected
    assert evaluate(capsys, "dhc-n2", "dhc-n2-s1", "--tasks", "piqa", "--data", str(documents)) == expected


def test_a_cell_that_is_not_trained_is_said_so(tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders(tmp_path)["residual"] / "result.json").unlink()
    capsys.readouterr()
    assert main(["evaluate", "residual"]) == 3
    assert "not trained yet: residual-s1" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "results" / "suites")
    assert main(["evaluate", "residual"]) == 3
    assert "nothing was run in" in capsys.readouterr().err


def test_a_cell_without_its_configuration_and_a_list_of_cells_that_is_none_are_one_line(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders(tmp_path)["residual"] / "config.json").unlink()
    assert main(["evaluate", "residual"]) == 2
    assert capsys.readouterr().err.endswith("is no folder of a trained cell\n")
    (folders(tmp_path)["dhc-n2"] / "weights.pt").unlink()
    assert main(["evaluate", "dhc-n2"]) == 2
    assert "is no folder of a trained cell\n" in capsys.readouterr().err
    cells = tmp_path / "results" / "suites" / "tiny" / "cells.json"
    cells.write_text(cells.read_text().replace('"tag"', '"label"'))
    assert main(["evaluate", "residual"]) == 2
    assert "cells.json: not the cells of a suite" in capsys.readouterr().err


def test_seeds_that_are_not_trained_are_named(tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = tmp_path / "results" / "suites" / "tiny" / "cells.json"
    members = json.loads(cells.read_text())
    missing = {**members[0], "seed": 2, "folder": "residual-s2-000000000000", "identity": "000000000000"}
    cells.write_text(json.dumps([*members, missing]))
    assert main(["evaluate", members[0]["arm"]]) == 0
    assert f"not trained yet and left out: {members[0]['arm']}-s2\n" in capsys.readouterr().err
    assert main(["evaluate", f"{members[0]['arm']}-s1", f"{members[0]['arm']}-s2"]) == 3


def test_a_killed_evaluation_leaves_what_was_there_and_goes_on(
    suite: Path, documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders(tmp_path)["residual"]
    expected = evaluate(capsys, "residual", "--tasks", "piqa", "--data", str(documents))["residual-s1"]
    key = expected["evaluation"]
    part = folder / f"samples-{key}.part"
    (folder / f"scores-{key}.json").unlink()
    (folder / f"samples-{key}").rename(part)
    (folder / "scoring.json").write_text('{"done": 3, "total": 14}')
    assert CellDir(folder).state(key) != "done"
    again = evaluate(capsys, "residual", "--tasks", "piqa", "--data", str(documents))["residual-s1"]
    assert again == expected
    assert not part.exists()
    assert not (folder / "scoring.json").exists()
