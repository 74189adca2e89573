"""What a finished suite asked again does not import: MLflow and torch take longer than all the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from harness.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted({"torch", "mlflow", "lightning", "lm_eval", "datasets", "matplotlib", "pandas"} & set(sys.modules)))
sys.exit(code)
"""


def asked(verb: str, suite: Path) -> str:
    """The heavy packages that it imported; the answer stands before them."""
    ours = ["seeds=[1]", "evaluation.tasks=[cloze]", "--results", str(suite.parent / "results")]
    done = subprocess.run([sys.executable, "-c", CODE, verb, str(suite), *ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, _, heavy = done.stdout.rpartition("heavy:")
    assert "dhc-n2" in answer
    return heavy.strip()


@pytest.mark.parametrize("verb", ["run", "compare", "status", "plan"])
def test_a_finished_suite_is_answered_from_files(verb: str, suite: Path) -> None:
    assert asked("run", suite) == ""
    for kept in (suite.parent / "results" / "suites" / "tiny").glob("answer.json"):
        kept.unlink()  # as after a change of the harness
    assert asked(verb, suite) == ""
