"""The command line as a person meets it: help without torch, one-line errors with exit code 2, frozen options."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.connections.settings import CONNECTIONS

Write = Callable[..., Path]


def harness(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_help_and_plan_import_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'lm_eval', 'numpy.random', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy - {'numpy.random'}, heavy"
    )
    for arguments in (["--help"], ["plan", "suites/quickstart.yaml"], ["status", "suites/quickstart.yaml"], ["list"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr)


def test_the_options_are_these_and_a_new_one_is_a_decision() -> None:
    found = {}
    for verb in ("plan", "run", "status", "evaluate", "compare", "report", "list", "doctor"):
        text = harness(verb, "--help").stdout
        found[verb] = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help", "--results"})
    assert found == {
        "plan": [
            "--budget-hours",
            "--budget-memory",
            "--device",
            "--devices",
            "--fsdp",
            "--jobs",
            "--json",
            "--mfu",
            "--smoke",
        ],
        "run": ["--budget-hours", "--budget-memory", "--fail-fast", "--force", "--jobs", "--retry-failed", "--smoke"],
        "status": ["--json", "--smoke"],
        "evaluate": ["--data", "--jobs", "--json", "--limit", "--shots", "--smoke", "--suite", "--tasks", "--tier"],
        "compare": [
            "--baseline",
            "--columns",
            "--documents",
            "--force",
            "--format",
            "--json",
            "--match",
            "--only-changed",
            "--plot",
            "--smoke",
            "--sort",
        ],
        "report": ["--baseline", "--force", "--output", "--smoke"],
        "list": ["--json"],
        "doctor": ["--json"],
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["plan", "nosuch"], "nosuch: no such suite file"),
        (["plan", "suites/quickstrat.yaml"], "did you mean 'suites/quickstart.yaml'?"),
        (["plan", "suites/quickstart.yaml", "train.lrr=1"], "command line: train.lrr: unknown key; did you mean 'lr'?"),
        (["plan", "suites/quickstart.yaml", "arms.dhc-n4.connection.rate=0"], "arms.dhc-n4.connection.rate"),
        (["plan", "suites/quickstart.yaml", "arms.dfc-m2.connection.rate=3"], "does not divide the width 64"),
        (["plan", "suites/quickstart.yaml", "arms.dfc-m2.connection.type=frak"], "did you mean 'frac'?"),
        (["plan", "suites/quickstart.yaml", "data.corpus=text"], "data.files"),
        (
            ["plan", "suites/quickstart.yaml", "evaluation.tasks=[clooze]"],
            "evaluation.tasks: no task is called 'clooze'",
        ),
        (["plan", "suites/quickstart.yaml", "evaluation.tasks=[piqqa]"], "did you mean 'piqa'?"),
        (["plan", "suites/quickstart.yaml", "evaluation.data=nowhere"], "evaluation.data: no such folder: nowhere"),
        (["plan", "suites/quickstart.yaml", "data.tokenizer=bpee"], "data.tokenizer.type: unknown tokenizer 'bpee'"),
        (["plan", "suites/quickstart.yaml", "data.corpus=stdlibb"], "data.corpus: unknown corpus 'stdlibb'"),
        (["plan", "suites/quickstart.yaml", "data.corpus=text", "data.files=[none.txt]"], "no such file: none.txt"),
        (["run", "suites/quickstart.yaml", "-k", "nothing"], "no cell of 'quickstart' matches"),
        (["run", "suites/quickstart.yaml", "-k", "( residual"], "unexpected or missing"),
        (["run", "suites/quickstart.yaml", "--results", "README.md/x"], "is not writable"),
        (["compare", "suites/quickstart.yaml", "--baseline", "resid"], "did you mean 'residual'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["frobnicate"], ["run"], ["run", "quickstart", "--jobs", "0"], ["plan", "x", "-z"],
                                       ["run", "quickstart", "stray"], ["compare", "quickstart", "--format", "xml"]])  # fmt: skip
def test_argparse_errors_are_exit_code_2_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_settings_may_stand_before_and_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["plan", "quickstart", "train.steps=50", "--json", "seeds=2"],
        ["plan", "--json", "quickstart", "seeds=2", "train.steps=50"],
        ["plan", "quickstart", "-k", "seed=1 or seed=2", "seeds=[1,2]", "--json", "train.steps=50"],
    ):
        assert main(arguments) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["seeds"] == [1, 2]
        assert {arm["tokens_per_cell"] for arm in document["arms"]} == {50 * 8 * 64}


def test_an_empty_corpus_is_named(tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tiny_suite()
    (tmp_path / "corpus.txt").write_text("  \n")
    assert main(["plan", str(suite)]) == 2
    assert "corpus.txt is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.valid_files=[short.txt]", "data: the held-out text has 7 tokens, and model.context 64 needs 65"),
        ("data.tokenizer={type: file, file: words.json}", "data.tokenizer: it cannot encode the text: "),
    ],
)
def test_text_that_cannot_be_trained_on_is_said_before_anything_is_made(
    setting: str, message: str, tiny_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models

    path = tiny_suite()
    (path.parent / "short.txt").write_text("little")
    (path.parent / "words.json").write_text(Tokenizer(models.WordLevel({"a": 0})).to_str())
    assert main(["run", str(path), setting, "evaluation.tasks=[]"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]
    assert not list(tmp_path.rglob("cells"))


def test_compare_and_status_before_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "suites/quickstart.yaml"]) == 0
    assert "20 todo" in capsys.readouterr().out
    assert main(["compare", "suites/quickstart.yaml"]) == 3
    assert "no cell of 'quickstart' is finished" in capsys.readouterr().err


def test_list_names_everything_a_suite_may_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [c["type"] for c in found["connections"]] == list(CONNECTIONS)
    assert all("arXiv" in c["about"] for c in found["connections"] if c["type"] != "residual")
    assert "suites/quickstart.yaml" in [suite["file"] for suite in found["suites"]]
    assert main(["list"]) == 0
    assert "cloze" in capsys.readouterr().out


def test_doctor_is_content_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    names = {check["check"] for check in json.loads(capsys.readouterr().out)}
    assert {"packages", "results folder", "tracker", "corpus stdlib"} <= names


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m harness list | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr
