"""The runs that a gate is judged on: cells of the suite, trained by the code at hand or by another commit's, each code
with a results folder of its own, so that nothing is trained twice by one, and nothing is taken for another's."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.load import Data
from harness.errors import FAILED, INTERRUPTED, OK, InconclusiveError
from harness.gate.baseline import Cost, Environment, Golden, SeedRun
from harness.run.celldir import CellDir, read_json
from harness.run.costs import documents
from harness.run.environment import DECIDING, cpu_model, gpus, source_digest, versions
from harness.run.layout import Layout
from harness.run.measure import measure_costs
from harness.run.runner import RunOptions, run_suite
from harness.suite.cells import Cell, cells, digest
from harness.suite.schema import Suite
from harness.suite.yaml_lines import load

Key = tuple[str, int]
"""(arm, seed)."""

ArmSettings = dict[str, dict[str, Any]]
PARTS = ("connection", "model", "train")

RESOLVE = """
import json, pathlib, sys
from harness.data.load import inputs_of, load_data
from harness.suite.file import SuiteFile
from harness.suite.resize import resized
path = pathlib.Path(sys.argv[1])
suite = SuiteFile(path, sys.argv[2:]).resolve()
arms = resized(suite, inputs_of(load_data(suite.data, path.parent))).arms
parts = "connection", "model", "train"
print(json.dumps({n: {p: getattr(a, p).model_dump(mode="json") for p in parts} for n, a in arms.items()}))
"""
"""What another commit's own code makes of its suite file."""

LOSS, BITS = "validation/loss", "validation/bits_per_byte"


class Interrupted(KeyboardInterrupt):
    """A run was stopped; the same command goes on from there."""


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


class Runs(ABC):
    """Directories of finished or failed cells, trained where they are missing."""

    root: Path

    @abstractmethod
    def settings(self) -> dict[str, ArmSettings]:
        """By arm, what the suite resolves to: connection, model and train, defaults included."""

    @abstractmethod
    def golden(self) -> dict[str, CellDir]:
        """By arm: the first seed's short run."""

    @abstractmethod
    def seeds(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, CellDir]:
        """The suite's own runs of these seeds."""

    @abstractmethod
    def throughput(self) -> dict[str, dict[str, Any]]:
        """By arm, a row of `costs.json`; empty where it could not be measured."""

    def _rows(self, layout: Layout, suite: str) -> dict[str, dict[str, Any]]:
        kept = documents(layout, suite)
        return dict(kept[-1]["arms"]) if kept else {}


class Here(Runs):
    """By the code that is running."""

    def __init__(self, asked: Question):
        self.asked = asked
        self.root = asked.results / "gate" / _folder(asked.suite.name) / _code_key(asked.suite)

    def settings(self) -> dict[str, ArmSettings]:
        return {
            name: {part: getattr(arm, part).model_dump(mode="json") for part in PARTS}
            for name, arm in self.asked.suite.arms.items()
        }

    def golden(self) -> dict[str, CellDir]:
        found = self._run(self._golden_suite, "golden", None)
        return {arm: directory for (arm, _), directory in found.items()}

    def seeds(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, CellDir]:
        return self._run(self.asked.suite.model_copy(update={"seeds": tuple(seeds)}), "full", arms)

    def streams(self, seeds: Sequence[int], arm: str, fixed: Mapping[str, int]) -> dict[Key, CellDir]:
        """Runs of an arm with some of the random streams fixed for all seeds."""
        streams = self.asked.suite.streams.model_copy(update=dict(fixed))
        suite = self.asked.suite.model_copy(update={"seeds": tuple(seeds), "streams": streams})
        return self._run(suite, "full", [arm])

    def throughput(self) -> dict[str, dict[str, Any]]:
        # Anew every time: of all that is kept under this code's name, it alone is not a function of the code.
        layout, suite = Layout(self.root / "golden"), self._golden_suite
        made = cells(suite, self.asked.data, self.asked.relative_to)
        measure_costs(layout, suite, made, str(self.asked.relative_to), smoke=False, force=True)
        return self._rows(layout, suite.name)

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
            raise Interrupted
        return {(cell.arm, cell.seed): layout.cell(cell) for cell in wanted}

    def _cells(self, suite: Suite) -> list[Cell]:
        return cells(suite, self.asked.data, self.asked.relative_to)


class There(Runs):
    """By the code of a checkout of another commit, as a user would run it there."""

    def __init__(self, asked: Question, tree: Path, commit: str, suite: Path):
        self.asked, self.tree, self.suite, self.commit = asked, tree, suite, commit
        place = digest([*_surroundings(asked.suite), list(asked.overrides)])
        self.root = asked.results / "gate" / _folder(asked.suite.name) / f"{commit[:12]}-{place}"

    def settings(self) -> dict[str, ArmSettings]:
        found: dict[str, ArmSettings] = json.loads(self._python("-c", RESOLVE, str(self.suite), *self.asked.overrides))
        return found

    def golden(self) -> dict[str, CellDir]:
        suite = self.asked.suite
        raw = load(self.suite)[0]
        if any(str(axis).startswith("train.") for axis in raw.get("grid") or {}):
            raise InconclusiveError("--relative: the runs of a grid over train.* cannot be shortened to golden ones")
        own = {name for name, arm in (raw.get("arms") or {}).items() if "train" in (arm or {})}
        overrides = []
        for place, arm in {"": suite.baseline, **{f"arms.{name}.": name for name in own}}.items():
            warmup = suite.arms[arm if arm in suite.arms else suite.baseline].train.warmup_steps
            short = golden_keys(suite.gate.golden_steps, warmup)
            overrides += [f"{place}train.{key}={value}" for key, value in short.items()]
        found = self._run(suite.seeds[:1], None, "golden", overrides)
        return {arm: directory for (arm, _), directory in found.items()}

    def seeds(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, CellDir]:
        return self._run(seeds, arms, "full", [])

    def throughput(self) -> dict[str, dict[str, Any]]:
        return self._rows(Layout(self.root / "golden"), self.asked.suite.name)  # `run` has measured it

    def _run(
        self, seeds: Sequence[int], arms: Sequence[str] | None, place: str, overrides: Sequence[str]
    ) -> dict[Key, CellDir]:
        results = (self.root / place).resolve()
        chosen = ["-k", " or ".join(f"arm={arm}" for arm in arms)] if arms is not None else []
        words = [
            str(self.suite), *self.asked.overrides, *overrides, f"seeds=[{','.join(map(str, seeds))}]", *chosen,
            "--results", str(results),
        ]  # fmt: skip
        run = ["run", *words, "--retry-failed", "--jobs", str(self.asked.jobs)]
        self._python("-m", "harness", *run, shown=True)
        states = json.loads(self._python("-m", "harness", "status", *words, "--json"))["cells"]
        return {(one["arm"], one["seed"]): CellDir(Path(one["folder"])) for one in states}

    def _python(self, *words: str, shown: bool = False) -> str:
        """Standard output; standard error is `shown` or kept. Raises InconclusiveError with what the commit's own
        harness has to say."""
        others = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.tree), *others])}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.tree, env=environment, stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode == INTERRUPTED:
            raise Interrupted
        if done.returncode not in (OK, FAILED):
            said = (done.stderr or "").strip().splitlines()
            why = f": {said[-1]}" if said else "; what it says stands above"
            raise InconclusiveError(f"--relative: the harness of {self.commit[:12]} cannot run this suite{why}")
        return done.stdout


def _folder(suite: str) -> str:
    return Layout(Path()).suite_place(suite).name


def _code_key(suite: Suite) -> str:
    """Names the code that decides the numbers, and what it runs on. Connections of other packages are not looked into:
    runs of these are never taken from before."""
    foreign = any(type(arm.connection).__module__.split(".")[0] != "harness" for arm in suite.arms.values())
    fresh = [os.urandom(8).hex()] if foreign else []
    return digest([source_digest((*DECIDING, "run")), *_surroundings(suite), *fresh])


def _surroundings(suite: Suite) -> list[Any]:
    """What bit-equality depends on besides the code and the settings that are part of a cell's identity."""
    where = [[name, arm.train.threads, arm.train.device] for name, arm in suite.arms.items()]
    instructions = os.environ.get("ATEN_CPU_CAPABILITY")
    return [versions(), platform.python_version(), cpu_model(), instructions, gpus(), where]


def seed_run(cell: CellDir) -> SeedRun:
    """What is kept of a run, whatever became of it."""
    result, failure = cell.result(), cell.status().get("failure")
    if result is None:
        why = f"{failure['class']}: {failure['message']}" if failure else "did not end"
        return SeedRun(loss=None, failure=why)
    last = cell.journal.last("diagnostics")
    shares = [value for name, value in (last or {"values": {}})["values"].items() if name.startswith("stability/")]
    metrics, digests = result["metrics"], result["digests"]
    return SeedRun(
        loss=metrics[LOSS],
        bits_per_byte=metrics.get(BITS),
        spikes=max(shares, default=None),
        batches=digests["batches"][:16],
        start=digests["shared_weights"][:16],
    )


def golden_run(cell: CellDir) -> Golden:
    losses = tuple(line["values"]["train/loss"] for line in cell.journal.lines() if line["kind"] == "train")
    run, result = seed_run(cell), cell.result()
    held_out = result["digests"]["validation"][:16] if result else None
    return Golden(
        losses=losses,
        validation=run.loss,
        failure=run.failure,
        batches=run.batches,
        start=run.start,
        held_out=held_out,
    )


def cost_of(cell: CellDir, row: Mapping[str, Any] | None) -> Cost | None:
    """None of a run that failed before its costs were known."""
    result = cell.result()
    if result is None:
        return None
    metrics = result["metrics"]
    interval = row.get("throughput_ci") if row else None
    return Cost(
        parameters=int(metrics["cost/parameters"]),
        training_flops=int(metrics["cost/training_flops"]),
        saved_bytes=int(metrics["cost/saved_activation_bytes"]),
        peak_bytes=row["peak_bytes"] if row else None,
        throughput=row["throughput_ratio"] if row else None,
        interval=(interval[0], interval[1]) if interval else None,
    )


def environment_of(cell: CellDir) -> Environment:
    """What bit-equality depends on, of the machine that trained the cell. Empty where the run never began."""
    found = read_json(cell.path / "environment.json")
    if found is None:
        return {}
    config = read_json(cell.path / "config.json")
    if found["gpus"] and config["train"]["device"] != "cpu":
        return {"torch": found["torch"], "cuda": str(found["cuda"]), "gpu": found["gpus"][0]}
    keys = {"torch": "torch", "cpu": "cpu", "instructions": "cpu_capability", "threads": "threads"}
    return {name: str(found[key]) for name, key in keys.items()}
