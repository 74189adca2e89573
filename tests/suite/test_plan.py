"""`plan` says what will run and what it costs, adds up, and needs neither torch nor a tracker to do so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.data.corpora import Corpus
from harness.data.inputs import TextInputs
from harness.suite.cells import cells
from harness.suite.file import load_suite
from harness.suite.plan import plan, plan_text

TEXT = TextInputs(257, 256)
ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "suites" / "quickstart.yaml"
HEAVY = ("torch", "lightning", "mlflow", "lm_eval", "scipy", "pandas", "matplotlib", "sklearn", "PIL")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "suites/quickstart.yaml"],
        ["plan", "suites/vision.yaml", "--json"],
        ["plan", "suites/paper/olmoe.yaml", "--device", "h100", "--devices", "256", "--fsdp"],
        ["--help"],
        ["plan", "--help"],
        ["list"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_to_plan_to_list_or_to_help(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try:\n"
        f"    code = main({arguments!r})\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        f"print(code or 0, [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_totals_of_a_half_done_suite_add_up(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    made = cells(suite, corpus)
    states = {cell.identity: "done" if cell.seed <= 2 else "todo" for cell in made}
    states[made[-1].identity] = "failed"
    document = plan(suite, TEXT, corpus, made, states)
    arms = {arm["arm"]: arm for arm in document["arms"]}
    assert document["todo"] == 10, "what is failed is still to be done"
    assert document["training_flops_todo"] == 2 * sum(arm["training_flops_per_cell"] for arm in arms.values())
    for arm in arms.values():
        assert arm["cells"] == 4
        assert arm["tokens_per_cell"] == 400 * 8 * 64
        assert arm["training_flops_per_cell"] == 3 * arm["flops_per_token"] * arm["tokens_per_cell"]
        parts = arm["embedding_parameters"], arm["backbone_parameters"], arm["connection_parameters"]
        assert arm["parameters"] == sum(parts)
    assert arms["residual"]["connection_parameters"] == 0
    # 24 sub-layers of n(n+2) static numbers, and per dynamic one a LayerNorm, D(n+2) and two scales besides.
    assert arms["shc-n2"]["connection_parameters"] == 24 * 8
    assert arms["dhc-n4"]["connection_parameters"] == 24 * (24 + 128 + 64 * 6 + 2)
    assert [cell["cell"] for cell in document["cells"]] == [cell.name for cell in made]
    assert [cell["state"] for cell in document["cells"]] == ["done"] * 10 + ["todo"] * 9 + ["failed"]
    assert json.loads(json.dumps(document)) == document


def test_the_plan_names_the_data_and_says_how_much_there_is(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    made = cells(suite, corpus)
    document = plan(suite, TEXT, corpus, made, {cell.identity: "todo" for cell in made})
    assert document["data"] == {
        "corpus": "fake", "digest": corpus.digest, "train_bytes": 21, "valid_bytes": 18, "tokenizer": "bytes",
    }  # fmt: skip


def test_the_text_says_cells_arms_seeds_prices_and_what_is_done(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    made = cells(suite, corpus)
    states = {cell.identity: "done" if cell.seed == 1 else "running" for cell in made}
    text = plan_text(plan(suite, TEXT, corpus, made, states))
    assert "20 cells = 5 arms × 4 seeds; 15 to run" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.endswith("1/4")}
    assert list(rows) == list(suite.arms)
    assert rows["residual"][4] == "1.000"
    assert float(rows["dhc-n4"][4]) > 1
