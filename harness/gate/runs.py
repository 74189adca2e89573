"""The runs that a gate is judged on: cells of the suite, trained by the code at hand or by another commit's
(`there.py`), each code with a results folder of its own, so that nothing is trained twice by one, and nothing is taken
for another's."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.load import Data
from harness.errors import INTERRUPTED
from harness.run.celldir import CellDir
from harness.run.costs import documents
from harness.run.environment import DECIDING, cpu_model, gpus, source_digest, versions
from harness.run.layout import Layout
from harness.run.measure import measure_costs
from harness.run.runner import RunOptions, run_suite
from harness.suite.cells import Cell, cells, digest
from harness.suite.schema import Suite

Key = tuple[str, int]
"""(arm, seed)."""

ArmSettings = dict[str, dict[str, Any]]
PARTS = ("connection", "model", "train")


@dataclass(frozen=True)
class Question:
    """What is gated, as it was asked for."""

    suite: Suite
    data: Data
    path: Path
    """The suite file."""
    overrides: tuple[str, ...]
    results: Path
    jobs: int

    @property
    def relative_to(self) -> Path:
        return self.path.parent.resolve()


def golden_keys(steps: int, warmup: int) -> dict[str, int]:
    """Training settings of a golden run: short, every step logged, nothing saved on the way."""
    return {
        "steps": steps,
        "warmup_steps": min(warmup, steps // 2),
        "log_every": 1,
        "validate_every": steps,
        "checkpoint_every": steps,
    }


def cost_rows(layout: Layout, suite: str) -> dict[str, dict[str, Any]]:
    """By arm, what was measured last (`costs.json`)."""
    kept = documents(layout, suite)
    return dict(kept[-1]["arms"]) if kept else {}


class Here:
    """Cells of the code that is running: their directories, trained where they are missing, finished or failed."""

    def __init__(self, asked: Question):
        self.asked = asked
        self.root = asked.results / "gate" / gate_folder(asked.suite.name) / _code_key(asked.suite)

    def settings(self) -> dict[str, ArmSettings]:
        """By arm, what the suite resolves to: connection, model and train, defaults included."""
        return {
            name: {part: getattr(arm, part).model_dump(mode="json") for part in PARTS}
            for name, arm in self.asked.suite.arms.items()
        }

    def golden(self) -> dict[str, CellDir]:
        """By arm: the first seed's short run."""
        found = self._run(self._golden_suite, "golden", None)
        return {arm: directory for (arm, _), directory in found.items()}

    def seeds(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, CellDir]:
        """The suite's own runs of these seeds."""
        return self._run(self.asked.suite.model_copy(update={"seeds": tuple(seeds)}), "full", arms)

    def streams(self, seeds: Sequence[int], arm: str, fixed: Mapping[str, int]) -> dict[Key, CellDir]:
        """Runs of an arm with some of the random streams fixed for all seeds."""
        streams = self.asked.suite.streams.model_copy(update=dict(fixed))
        suite = self.asked.suite.model_copy(update={"seeds": tuple(seeds), "streams": streams})
        return self._run(suite, "full", [arm])

    def throughput(self) -> dict[str, dict[str, Any]]:
        """By arm, measured anew every time: of all that is kept under this code's name, it alone is not a function of
        the code. Empty where it could not be measured."""
        layout, suite = Layout(self.root / "golden"), self._golden_suite
        made = cells(suite, self.asked.data, self.asked.relative_to)
        measured = measure_costs(layout, suite, made, str(self.asked.relative_to), smoke=False, force=True)
        return cost_rows(layout, suite.name) if measured else {}

    @property
    def _golden_suite(self) -> Suite:
        suite = self.asked.suite
        arms = {}
        for name, arm in suite.arms.items():
            short = golden_keys(suite.gate.golden_steps, arm.train.warmup_steps)
            arms[name] = arm.model_copy(update={"train": arm.train.model_copy(update=short)})
        return suite.model_copy(update={"arms": arms, "seeds": suite.seeds[:1]})

    def _run(self, suite: Suite, place: str, arms: Sequence[str] | None) -> dict[Key, CellDir]:
        layout = Layout(self.root / place)
        wanted = [cell for cell in self._cells(suite) if arms is None or cell.arm in arms]
        choice = RunOptions(jobs=self.asked.jobs, retry_failed=True)  # what a machine did to a run is no verdict
        outcome = run_suite(suite.name, wanted, layout, choice, str(self.asked.relative_to))
        if outcome.code == INTERRUPTED:
            raise KeyboardInterrupt
        return {(cell.arm, cell.seed): layout.cell(cell) for cell in wanted}

    def _cells(self, suite: Suite) -> list[Cell]:
        return cells(suite, self.asked.data, self.asked.relative_to)


def gate_folder(suite: str) -> str:
    """Below `results/gate`."""
    return Layout(Path()).suite_place(suite).name


def _code_key(suite: Suite) -> str:
    """Names the code that decides the numbers, and what it runs on. Connections of other packages are not looked into:
    runs of these are never taken from before."""
    foreign = any(type(arm.connection).__module__.split(".")[0] != "harness" for arm in suite.arms.values())
    fresh = [os.urandom(8).hex()] if foreign else []
    return digest([source_digest((*DECIDING, "run")), *surroundings(suite), *fresh])


def surroundings(suite: Suite) -> list[Any]:
    """What bit-equality depends on besides the code and the settings that are part of a cell's identity."""
    where = [[name, arm.train.threads, arm.train.device] for name, arm in suite.arms.items()]
    instructions = os.environ.get("ATEN_CPU_CAPABILITY")
    return [versions(), platform.python_version(), cpu_model(), instructions, gpus(), where]
