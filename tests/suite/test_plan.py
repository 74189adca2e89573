"""`plan` says what will run and what it costs, adds up, and needs neither torch nor a tracker to do so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.data.documents import Corpus
from harness.data.inputs import TextInputs
from harness.suite.cells import cells
from harness.suite.estimate import Machine, table_machine
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
        ["plan", "suites/diagnostics/mqar.yaml"],
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
        "corpus": "fake", "digest": corpus.digest, "train_bytes": 21, "valid_bytes": 18, "test_bytes": 0,
        "tokenizer": "bytes", "vocabulary": 257, "report": {},
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


def test_memory_disk_and_hours_are_of_what_is_to_run_at_a_time_and_each_cell_once(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    twin = suite.model_copy(update={"arms": {**suite.arms, "again": suite.arms["dhc-n4"]}})
    made = cells(twin, corpus)
    states = {cell.identity: "done" if cell.seed <= 3 else "todo" for cell in made}
    machine = Machine(name="here", cores=8, step_seconds=dict.fromkeys(twin.arms, 1.0))
    one, three = (plan(twin, TEXT, corpus, made, states, machine, jobs) for jobs in (1, 3))
    arms = {arm["arm"]: arm for arm in one["arms"]}
    todo = [arms[name] for name in suite.arms]  # the twin is the same cell
    kept, saved = (sum(arm["disk_bytes_per_cell"] for arm in todo), max(arm["disk_bytes_in_training"] for arm in todo))
    assert one["disk_bytes_todo"] == kept + saved
    assert three["disk_bytes_todo"] == kept + 3 * saved
    sizes = sorted((arm["memory_bytes"]["total"] for arm in todo), reverse=True)
    assert one["memory_bytes"] == sizes[0]
    assert three["memory_bytes"] == sum(sizes[:3])
    assert one["tokens_todo"] == 5 * 400 * 8 * 64
    seconds = arms["residual"]["seconds_per_cell"]
    assert seconds == 400.0, "a step a second; so short a held-out text has no window"
    assert one["hours_todo"] == pytest.approx(5 * seconds / 3600)
    assert three["hours_todo"] == pytest.approx(2 * seconds / 3600), "three, then two"


def test_a_selection_is_planned_alone_with_ratios_to_its_baseline(corpus: Corpus) -> None:
    suite = load_suite(QUICKSTART)
    made = [cell for cell in cells(suite, corpus) if cell.arm == "dhc-n4" and cell.seed < 3]
    document = plan(suite, TEXT, corpus, made, {cell.identity: "todo" for cell in made})
    assert [arm["arm"] for arm in document["arms"]] == ["dhc-n4"]
    assert document["arms"][0]["flops_ratio"] == pytest.approx(1.102, abs=1e-3)
    assert "2 cells = 1 arms × 2 seeds" in plan_text(document)


@pytest.mark.parametrize(
    ("name", "device", "days", "ddp", "fsdp"),
    [("olmo_1b", "h100", (1.5, 2.5), (30, 60), (18, 45)), ("olmoe", "h200", (1.7, 2.4), (125, 150), (15, 35))],
)
def test_paper_scale_is_planned_on_paper(
    name: str,
    device: str,
    days: tuple[float, float],
    ddp: tuple[float, float],
    fsdp: tuple[float, float],
    corpus: Corpus,
) -> None:
    """500B tokens at 40% of 64 chips' peak: 6 x 1.28B x 500B operations take 1.7 days or more; AdamW's 16 bytes a
    parameter are 17.5 GiB and 103 GiB."""
    suite = load_suite(ROOT / "suites" / "paper" / f"{name}.yaml")
    made = cells(suite, corpus)
    document = plan(
        suite, TEXT, corpus, made, {c.identity: "todo" for c in made}, table_machine(device, 64, True, None)
    )
    for arm in document["arms"]:
        if arm["arm"] not in ("residual", "dhc-n4"):
            continue
        assert arm["tokens_per_cell"] == pytest.approx(500e9, rel=1e-4)
        assert days[0] < arm["seconds_per_cell"] / 86400 < days[1]
        assert ddp[0] < arm["memory_per_device_bytes"]["ddp"] / 2**30 < ddp[1]
        assert fsdp[0] < arm["memory_per_device_bytes"]["fsdp"] / 2**30 < fsdp[1]
