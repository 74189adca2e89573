"""Every suite file that ships parses, makes cells and plans; the quickstart is what the issue asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.documents import Corpus
from harness.data.load import Data, inputs_of, load_data
from harness.errors import UsageError
from harness.suite.cells import cells
from harness.suite.file import SuiteFile, load_suite
from harness.suite.find import find_suite, known, known_text
from harness.suite.plan import plan, plan_text
from harness.suite.resize import resized
from harness.suite.smoke import smoke

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "suites").rglob("*.yaml") if path.parent.name != "search")  # those are studies
QUICKSTART = ROOT / "suites" / "quickstart.yaml"


def test_there_are_suite_files_to_check() -> None:
    assert QUICKSTART in FILES


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
@pytest.mark.parametrize("shrunk", [False, True], ids=["full", "smoke"])
def test_every_suite_file_parses_and_plans(path: Path, shrunk: bool, corpus: Corpus) -> None:
    suite = smoke(load_suite(path)) if shrunk else load_suite(path)
    data: Data = corpus if suite.data.KIND == "text" else load_data(suite.data)
    inputs = inputs_of(data)
    SuiteFile(path, []).check_inputs(suite, inputs)
    suite = resized(suite, inputs)
    made = cells(suite, data)
    document = plan(suite, inputs, data, made, {cell.identity: "todo" for cell in made})
    assert document["todo"] == len(made) == len(suite.arms) * len(suite.seeds)
    assert len({cell.identity for cell in made}) == len(made), "two arms of a shipped suite are the same"
    assert all(arm in plan_text(document) for arm in suite.arms)


def test_no_two_suite_files_share_a_name() -> None:
    names = [load_suite(path).name for path in FILES]
    assert sorted(set(names)) == sorted(names)


def test_the_quickstart_is_five_arms_by_four_seeds(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    assert suite.baseline == "residual"
    assert suite.seeds == (1, 2, 3, 4)
    assert {name: arm.connection.tag() for name, arm in suite.arms.items()} == {
        name: name for name in ("residual", "shc-n2", "dhc-n4", "sfc-m2", "dfc-m2")
    }
    assert len(cells(suite, corpus)) == 20
    assert suite.data.corpus == "stdlib"
    assert set(suite.evaluation.tasks) == {"corpus_perplexity", "cloze", "minimal_pairs"}


def test_the_quickstart_trains_every_arm_at_toy_scale_with_one_recipe() -> None:
    for arm in load_suite(QUICKSTART).arms.values():
        model, train = arm.model, arm.train
        assert (model.layers, model.width, model.heads, model.context) == (12, 64, 4, 64)
        assert (train.steps, train.batch_size, train.lr, train.warmup_steps) == (400, 8, 2e-3, 20)
        assert (train.threads, train.precision) == (1, "fp32")


def test_a_suite_is_found_by_path_and_by_name_and_a_near_miss_is_named() -> None:
    assert find_suite("suites/quickstart.yaml") == find_suite("quickstart") == Path("suites/quickstart.yaml")
    with pytest.raises(UsageError, match=r"quickstrat: no such suite file; did you mean 'suites/quickstart\.yaml'\?"):
        find_suite("quickstrat")


def test_the_list_names_suites_connections_scales_corpora_and_tasks() -> None:
    found = known()
    assert {"residual", "hyper", "frac"} <= {connection["type"] for connection in found["connections"]}
    assert "suites/quickstart.yaml" in {suite["file"] for suite in found["suites"]}
    assert list(found["corpora"])[:7] == ["stdlib", "python", "text", "hf", "digits", "cifar10", "image_folder"]
    assert list(found["models"]) == ["decoder", "vit", "dit"]
    text = known_text(found)
    for word in ("quickstart", "rate", "toy", "stdlib", "cloze", "bytes"):
        assert word in text
