"""`benchmarks/run.py`: what is told apart, what is kept, and that it judges only what was measured on the same machine."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_support import ROOT


@pytest.fixture(scope="module")
def guard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_run", ROOT / "benchmarks" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(guard: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with one benchmark that finds what `found` says, on the machine `here`; returns what was printed."""
    monkeypatch.setattr(guard, "TABLE", tmp_path / "benchmarks.json")
    monkeypatch.setattr(guard, "ROOT", tmp_path)

    def run(found: dict[str, tuple[float, float, float]], *words: str, here: str = "one") -> str:
        figures = {name: guard.Figure(*numbers) for name, numbers in found.items()}
        monkeypatch.setattr(guard, "BENCHMARKS", {"quick": (lambda rounds: figures, 5)})
        monkeypatch.setattr(guard, "machine", lambda: here)
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        guard.main()
        return capsys.readouterr().out

    return run


def line(text: str, name: str) -> list[str]:
    (found,) = (one for one in text.splitlines() if one.startswith(f"| {name} "))
    return [cell.strip() for cell in found.split("|")[1:-1]]


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ((1.20, 1.18, 1.22), (1.10, 1.08, 1.12), "more"),
        ((1.00, 0.98, 1.02), (1.10, 1.08, 1.12), "less"),
        ((1.11, 1.09, 1.13), (1.10, 1.08, 1.12), "the same"),
        ((1.20, 1.05, 1.40), (1.10, 1.08, 1.12), "the same"),  # the old figure is within the new one's interval
        ((1.20, 1.18, 1.22), (1.10, 0.90, 1.30), "the same"),
    ],
)
def test_figures_are_told_apart_outside_of_both_intervals(guard: ModuleType, now: Any, then: Any, said: str) -> None:
    assert guard.verdict(guard.Figure(*now), guard.Figure(*then)) == said


def test_what_is_counted_differs_by_more_than_pages(guard: ModuleType) -> None:
    assert guard.verdict(guard._counted(1.301), guard._counted(1.300)) == "the same"
    assert guard.verdict(guard._counted(1.32), guard._counted(1.30)) == "more"


def test_nothing_is_compared_before_something_is_accepted_and_nothing_written_unasked(
    run: Any, guard: ModuleType
) -> None:
    said = run({"a/time": (1.1, 1.0, 1.2)})
    assert "nothing was accepted yet" in said
    assert line(said, "a/time") == ["a/time", "1.100 [1.000, 1.200]", "–", "–", "–"]
    assert not guard.TABLE.exists()


def test_the_next_run_is_held_against_what_was_accepted(run: Any, guard: ModuleType) -> None:
    run({"a/time": (1.1, 1.09, 1.11), "b/time": (1.5, 1.4, 1.6)}, "--accept")
    said = run({"a/time": (1.21, 1.20, 1.22), "c/time": (1.0, 1.0, 1.0)})
    assert line(said, "a/time")[2:] == ["1.100 [1.090, 1.110]", "1.100", "more"]
    assert line(said, "c/time")[2:] == ["–", "–", "–"]
    assert json.loads(guard.TABLE.read_text())["machines"]["one"]["figures"]["a/time"]["value"] == 1.1


def test_another_machine_is_shown_and_not_judged_and_keeps_its_figures(run: Any, guard: ModuleType) -> None:
    run({"a/time": (1.1, 1.09, 1.11)}, "--accept", here="one")
    said = run({"a/time": (1.9, 1.89, 1.91)}, "--accept", here="other")
    assert "on one, which says nothing of this machine" in said
    assert line(said, "a/time")[2:] == ["1.100 [1.090, 1.110]", "1.727", "–"]
    machines = json.loads(guard.TABLE.read_text())["machines"]
    assert {name: table["figures"]["a/time"]["value"] for name, table in machines.items()} == {"one": 1.1, "other": 1.9}
    assert line(run({"a/time": (1.1, 1.09, 1.11)}, here="other"), "a/time")[4] == "less"


def test_a_part_that_is_accepted_leaves_the_rest(run: Any, guard: ModuleType) -> None:
    run({"a/time": (1.1, 1.0, 1.2), "b/time": (1.5, 1.4, 1.6)}, "--accept")
    run({"a/time": (1.3, 1.2, 1.4)}, "--accept", "--only", "quick")
    figures = json.loads(guard.TABLE.read_text())["machines"]["one"]["figures"]
    assert {name: figure["value"] for name, figure in figures.items()} == {"a/time": 1.3, "b/time": 1.5}


def test_figures_of_a_bench_are_its_times_and_what_is_counted(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    residual = {"arm": "residual", "time_ratio": 1.0, "time_ratio_ci": [1.0, 1.0]}
    row = {
        "arm": "dhc-n4", "time_ratio": 1.1, "time_ratio_ci": [1.05, 1.15], "saved_bytes_ratio": 1.4,
        "peak_memory_ratio": None,
    }  # fmt: skip
    asked: list[tuple[str, ...]] = []

    def harness(*words: str) -> str:
        asked.append(words)
        return json.dumps({"preset": "bench-d256", "arms": [residual, row]})

    monkeypatch.setattr(guard, "_harness", harness)
    found = guard.connections(9)
    assert asked == [("bench", "--rounds", "9", "--json")]
    assert found.keys() == {"bench-d256/dhc-n4/time", "bench-d256/dhc-n4/saved_bytes"}
    assert found["bench-d256/dhc-n4/time"] == guard.Figure(1.1, 1.05, 1.15)


def test_figures_of_the_training_loop_are_those_with_an_interval(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"tiny/step": 1.01, "tiny/step/low": 1.0, "tiny/step/high": 1.02, "tiny/bare_ms": 600.0}

    def run(command: list[str]) -> str:
        assert command[1].endswith("training_loop.py")
        Path(command[command.index("--json") + 1]).write_text(json.dumps(written))
        return ""

    monkeypatch.setattr(guard, "_run", run)
    assert guard.training_loop(7) == {"loop/tiny/step": guard.Figure(1.01, 1.0, 1.02)}


def test_a_benchmark_that_breaks_says_why(guard: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"(?s)code 3\n.*it broke"):
        guard._run([sys.executable, "-c", "import sys; print('it broke', file=sys.stderr); sys.exit(3)"])
