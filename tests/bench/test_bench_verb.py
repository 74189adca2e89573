"""`harness bench` on its smallest preset: what it prints and writes, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench_support import TOY, quick

from harness.bench import machine, measure
from harness.bench.arms import Entry
from harness.bench.work import make_stepper
from harness.cli import main

pytestmark = pytest.mark.xdist_group("bench_verb")  # what is run once for all tests is run in one process

QUICK = ["bench", "--preset", "bench-toy", "--threads", "1", "--rounds", "5"]


@dataclass(frozen=True)
class Ran:
    code: int
    said: str
    """On standard output."""
    complained: str
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.said))


def run(*words: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*QUICK, *words])
    return Ran(code, out.getvalue(), err.getvalue(), Path())


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Once, with everything but compiling."""
    folder = tmp_path_factory.mktemp("bench") / "made" / "for it"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        found = run("--arms", "dhc-n2,mudd", "--kernels", "both", "--peer", "--json", "--output", str(folder))
    return Ran(found.code, found.said, found.complained, folder)


def test_json_is_one_document_with_the_keys_that_are_promised(ran: Ran) -> None:
    assert ran.code == 0, ran.complained
    found = ran.document
    assert found["preset"] == "bench-toy"
    assert found["device"] == "cpu"
    assert [row["arm"] for row in found["arms"]][:2] == ["residual", "dhc-n2"]
    assert {row["arm"] for row in found["arms"]} == {"residual", "dhc-n2", "mudd"}
    assert [row["arm"] for row in found["peer"]] == [
        f"hyper-connections/{form}" for form in ("hc-n4", "hc-n2", "mhc-n4", "frac-m4")
    ]
    rows = [*found["arms"], *found["peer"]]
    assert all(row.keys() == rows[0].keys() for row in rows)
    for row in rows:
        low, high = row["time_ratio_ci"]
        assert 0 < low <= row["time_ratio"] <= high
        assert row["saved_bytes_ratio"] > 0
        assert row["peak_bytes"] > 0
        assert row["peak_memory_ratio"] == row["peak_bytes"] / rows[0]["peak_bytes"]
        assert row["tokens_per_second"] == pytest.approx(TOY.tokens / row["step_seconds"])
        assert len(row["seconds"]) == found["rounds"] == 5
    assert (rows[0]["time_ratio"], rows[0]["saved_bytes_ratio"], rows[0]["floor_ratio"]) == (1.0, 1.0, 1.0)
    assert found["failed"] == {}
    assert found["copy_bandwidth"] > 0
    assert found["product_rate"] > 0
    assert found["shape"]["batch"] == TOY.batch
    assert found["machine"]["torch"]


def test_rows_say_which_kernels_ran_and_only_rows_of_streams_have_a_floor(ran: Ran) -> None:
    rows = ran.document["arms"]
    ways = {arm: [row["kernels"] for row in rows if row["arm"] == arm] for arm in ("residual", "dhc-n2", "mudd")}
    assert ways["residual"] == [None]
    assert ways["mudd"] == ["plain"]
    assert ways["dhc-n2"] in (["plain"], ["plain", "native"])
    floors = {row["arm"]: row["floor_ratio"] for row in [*rows, *ran.document["peer"]]}
    assert floors["mudd"] is None
    assert floors["hyper-connections/hc-n2"] == floors["dhc-n2"] > 1
    plain = next(row for row in rows if row["arm"] == "dhc-n2")
    assert plain["saved_bytes_ratio"] > 1


def test_files_are_what_was_printed_a_table_and_a_picture(ran: Ran) -> None:
    assert {path.name for path in ran.folder.iterdir()} == {
        "bench.json", "bench.md", "bench.png", "bench.svg", "bench.csv",
    }  # fmt: skip
    assert json.loads((ran.folder / "bench.json").read_text()) == ran.document
    page = (ran.folder / "bench.md").read_text()
    command = "harness bench --preset bench-toy --arms dhc-n2,mudd --peer --kernels both --rounds 5 --threads 1"
    assert command in page
    assert "| hyper-connections/hc-n4" in page
    assert "hyper-connections/frac-m4 is not the paper's FC" in page
    assert (ran.folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    names = [line.split(",")[0].strip('"') for line in (ran.folder / "bench.csv").read_text().splitlines()[1:]]
    assert any(name.startswith("dhc-n2") for name in names)
    assert "residual" not in names


def test_an_arm_that_fails_is_named_and_the_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(entry: Entry, *rest: Any) -> Any:
        if entry.arm == "dfc-m2":
            raise RuntimeError("out of memory\nhere")
        return make_stepper(entry, *rest)

    monkeypatch.setattr(measure, "make_stepper", broken)
    monkeypatch.setattr(measure, "peak_bytes", lambda *_: 1)
    found = run("--arms", "dhc-n2,dfc-m2")
    assert found.code == 1
    assert "harness bench: dfc-m2 could not be measured: RuntimeError: out of memory\n" in found.complained
    assert "dfc-m2 could not be measured" in found.said
    assert "| dhc-n2 " in found.said
    assert "| dfc-m2 " not in found.said


def test_others_that_use_the_machine_are_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "peak_bytes", lambda *_: 1)
    for busy, spoken in ((0.0, False), (1.31, True), (None, False)):
        monkeypatch.setattr(machine, "busy_cores", lambda busy=busy: busy)
        assert ("others use 1.3 of" in run("--arms", "residual").complained) == spoken


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "bench-d25"], "--preset: no preset is called 'bench-d25'; did you mean 'bench-d256'?"),
        (["--arms", "dhc-n44"], "--arms: no connection is called 'dhc-n44'; did you mean 'dhc-n4'?"),
        (["--rounds", "4"], "--rounds: 4 are too few for an interval; at least 5"),
        (["--output", "LICENSE"], "--output: cannot write into LICENSE: File exists"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_code_2(words: list[str], said: str) -> None:
    found = run(*words)
    assert found.code == 2
    assert found.complained.startswith(f"harness: {said}")
    assert found.complained.count("\n") == 1
    assert found.said == ""


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line_and_code_2() -> None:
    found = run("--device", "cuda")
    assert (found.code, found.complained) == (2, "harness: --device: torch sees no CUDA device here; cpu, or auto\n")


def test_nothing_is_imported_that_a_borrowed_machine_lacks() -> None:
    """lm-eval, MLflow, Optuna, and without files matplotlib: an import of any of them would fail here."""
    lacking = (
        "import sys; sys.modules.update(dict.fromkeys(['lm_eval', 'mlflow', 'optuna', 'matplotlib', 'datasets']))\n"
    )
    code = lacking + f"from harness.cli import main; sys.exit(main({[*QUICK, '--arms', 'dhc-n2', '--json']}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [row["arm"] for row in json.loads(done.stdout)["arms"]] == ["residual", "dhc-n2"]


@pytest.mark.slow
def test_compiled_models_are_a_second_table_beside_a_compiled_residual() -> None:
    found = run("--arms", "dhc-n2", "--kernels", "plain", "--compile", "--json")
    assert found.code == 0, found.complained
    rows = found.document["compiled"]
    assert [(row["arm"], row["compiled"]) for row in rows] == [("residual", True), ("dhc-n2", True)]
    assert rows[0]["time_ratio"] == 1.0
    assert all(row["compile_seconds"] > 5 * row["step_seconds"] for row in rows)
    assert rows[1]["saved_bytes_ratio"] > 1
